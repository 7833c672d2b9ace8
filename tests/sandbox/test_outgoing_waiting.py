"""Threads that wait for the network hold nothing that another call needs, however many they are."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import pytest_asyncio

from tests.sandbox.pod_network import PROGRAMS, Pod, pod

pytestmark = [pytest.mark.sandbox, pytest.mark.asyncio(loop_scope="module")]

PROGRAM = PROGRAMS / "outgoing_waiting.py"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def there() -> Any:
    async with pod() as made:
        yield made


async def case(there: Pod, name: str) -> Any:
    return (await there.run(sys.executable, PROGRAM, name, there.pid, trace=False)).json()


async def test_three_hundred_connects_that_nobody_answers(there: Pod) -> None:
    assert await case(there, "connects") == {"waiting": 300, "greeted": True, "file": True}


async def test_three_hundred_that_wait_for_a_datagram(there: Pod) -> None:
    assert await case(there, "receives") == {"waiting": 300, "greeted": True, "right": 300, "failed": []}
