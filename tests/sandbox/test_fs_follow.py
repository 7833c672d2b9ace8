"""A session: programs that follow files of the target hear of what is done there."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pymirror.runtimes.process.sandbox import FILES, Sandbox

pytestmark = pytest.mark.sandbox

START = "import sys; from pymirror.cli.main import main; sys.exit(main())"
HELPERS = str(Path(__file__).parents[1] / "helpers")


@pytest.fixture
async def target() -> AsyncIterator[tuple[int, Path]]:
    """Its pid, and where its /data is seen from here."""
    async with Sandbox.start({**FILES, "/data/log": b"first\n"}) as sandbox:
        yield sandbox.pid, Path(f"/proc/{sandbox.pid}/root/data")


@asynccontextmanager
async def running(pid: int, *program: str) -> AsyncIterator[asyncio.StreamReader]:
    words = ["exec", "-f", "-", "--progress", "off", "-t", f"process/{pid}", "--", *program]
    made = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", START, *words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd="/tmp",
    )
    assert made.stdin is not None and made.stdout is not None
    made.stdin.write(json.dumps({"feature": {"fs": {"local": [f"^{HELPERS}"]}}}).encode())
    made.stdin.close()
    try:
        yield made.stdout
    finally:
        if made.returncode is None:
            made.terminate()
        await made.wait()


async def line(out: asyncio.StreamReader) -> str:
    return (await asyncio.wait_for(out.readline(), 30)).decode()


async def test_tail_follows_a_log_and_its_rotation(target: tuple[int, Path]) -> None:
    """GNU's tail takes FUSE for a remote file system and asks again and again instead of watching."""
    pid, data = target
    async with running(pid, "tail", "-s", "0.05", "-F", "/data/log") as out:
        assert await line(out) == "first\n"
        for turn in range(5):
            with (data / "log").open("a") as file:
                file.write(f"more {turn}\n")
            assert await line(out) == f"more {turn}\n"
        os.rename(data / "log", data / "log.1")
        (data / "log").write_text("new\n")
        assert await line(out) == "new\n"
        with (data / "log").open("a") as file:
            file.write("and more\n")
        assert await line(out) == "and more\n"


WATCH = f"""
import sys; sys.path.insert(0, {HELPERS!r})
from inotify import Inotify
watch = Inotify()
watch.add("/data")
print("ready", flush=True)
for event in watch.events("last", 30):
    print(*event[1:3], open("/data/" + event[2]).read() if event[1] == "CLOSE_WRITE" else "", flush=True)
"""


async def test_a_program_hears_of_what_it_then_reads(target: tuple[int, Path]) -> None:
    pid, data = target
    async with running(pid, sys.executable, "-c", WATCH) as out:
        assert await line(out) == "ready\n"
        (data / "new").write_text("text")
        (data / "new").rename(data / "newer")
        (data / "newer").rename(data / "new")
        (data / "log").unlink()
        (data / "last").touch()
        said = (await asyncio.wait_for(out.read(), 30)).decode().split("\n")
    assert [words.strip() for words in said if words] == [
        *("CREATE new", "MODIFY new", "CLOSE_WRITE new text", "MOVED_FROM new", "MOVED_TO newer"),
        *("MOVED_FROM newer", "MOVED_TO new", "DELETE log"),
    ]
