"""A session: programs that go into a folder of the target, or run a file of it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from pymirror.runtimes.process.sandbox import FILES, Sandbox

pytestmark = pytest.mark.sandbox

START = "import sys; from pymirror.cli.main import main; sys.exit(main())"
SCRIPT = "#!/bin/sh\necho run $0\n"


@pytest.fixture
def both() -> Iterator[Path]:
    """A folder that is on this machine and in the target; what is in it differs."""
    with tempfile.TemporaryDirectory(prefix="pymirror-other-", dir="/srv") as name:
        folder = Path(name)
        (folder / "tool").write_text(SCRIPT)
        (folder / "tool").chmod(0o755)
        (folder / "own").mkdir()
        yield folder


@pytest.fixture
async def target(both: Path) -> AsyncIterator[int]:
    files = {f"{both}/{name}": b"#!/bin/sh\necho theirs\n" for name in ("tool", "theirs", "sub/file")}
    async with Sandbox.start({**FILES, **files}) as sandbox:
        yield sandbox.pid


def run(target: int, script: str, **fs: Any) -> tuple[list[str], list[str]]:
    """What a shell says, and what pymirror does, with --trace."""
    words = ["exec", "-f", "-", "--trace", "--progress", "off", "-t", f"process/{target}", "--"]
    done = subprocess.run(
        [sys.executable, "-c", START, *words, "bash", "-c", f"exec 2>&1\n{script}"],
        input=json.dumps({"feature": {"fs": fs}}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd="/tmp",
    )
    return done.stdout.splitlines(), done.stderr.splitlines()


def test_what_the_program_made_here_is_gone_into(target: int, both: Path) -> None:
    assert run(target, f"mkdir {both}/new; cd {both}/new && pwd")[0] == [f"{both}/new"]


def test_a_file_of_the_target_is_not_run(target: int, both: Path) -> None:
    out, said = run(target, f"{both}/theirs; {both}/none; PATH={both}:$PATH; theirs")
    assert [line.rpartition(": ")[2] for line in out] == [
        *("Permission denied", "No such file or directory", "Permission denied"),
    ]
    assert len([line for line in said if "WARNING" in line and "execve" in line]) == 1


def test_a_file_that_is_here_too_is_run_from_here(target: int, both: Path) -> None:
    """Of a script the kernel here finds what runs it, and that reads the target's."""
    (both / "true").symlink_to("/bin/true")
    out, said = run(target, f"{both}/true && echo run; {both}/tool")
    assert out == ["run", "theirs"]
    traced = [line for line in said if line.startswith(f"trace: execve {both}/t")]
    assert len(traced) == 2 and "programs are run from this machine" in traced[0]
    assert len([line for line in said if "WARNING" in line and "execve" in line]) == 1
