"""A connected channel for the tests that need one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from channel_ends import Both, listening, soon


@pytest.fixture
async def both() -> AsyncIterator[Both]:
    async with listening() as made:
        made.layer = await made.connect()
        yield made
        await soon(made.layer.aclose())
