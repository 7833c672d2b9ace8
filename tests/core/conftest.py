"""A connected channel, and a way from values to settings, for the tests that need one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from channel_ends import Both, listening, soon
from config_words import VOCABULARY

from pymirror.core.config import Settings, resolve

Flags = Mapping[str, tuple[str, str]]


@pytest.fixture
async def both() -> AsyncIterator[Both]:
    async with listening() as made:
        made.layer = await made.connect()
        yield made
        await soon(made.layer.aclose())


@pytest.fixture
def settle(tmp_path: Path) -> Any:
    """values, flags, variables → Settings; the file is called c.json."""

    def settled(values: Any = None, flags: Flags | None = None, /, **environ: str) -> Settings:
        file = None
        if values is not None:
            file = str(tmp_path / "c.json")
            Path(file).write_text(json.dumps(values))
        return resolve(file, flags or {}, environ, VOCABULARY)

    return settled
