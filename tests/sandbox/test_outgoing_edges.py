"""The edges of connecting: what a program gets is what it gets in the target's network itself."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.sandbox.pod_network import PROGRAMS, Pod, pod

pytestmark = [pytest.mark.sandbox, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def there() -> Any:
    async with pod() as made:
        yield made


async def test_signals_limits_and_odd_addresses(there: Pod, tmp_path: Path) -> None:
    program = tmp_path / "edges"
    command = ["gcc", "-O1", "-o", program, PROGRAMS / "edges.c"]
    await asyncio.to_thread(subprocess.run, command, check=True)
    mine, truth = await there.run(program, "10.77.0.1"), await there.truth(program, "10.77.0.1")
    assert mine.out.splitlines() == truth.out.splitlines(), mine.err
    assert len(truth.out.splitlines()) == 7
