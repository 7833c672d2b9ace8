"""Programs of this machine that tests need, and what is built with them."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess

import pytest


def tool(name: str) -> str:
    """Its path. The test is skipped where it is missing, but in CI, where nothing may be skipped."""
    found = shutil.which(name)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is missing, and in CI nothing is skipped")
        pytest.skip(f"{name} is not on this machine")
    return found


async def build(command: str, *words: object, **environ: str) -> None:
    """Run a compiler; CalledProcessError."""
    await asyncio.to_thread(
        subprocess.run, [tool(command), *map(str, words)], check=True, env={**os.environ, **environ}
    )
