"""Mode `read`: what a program changes here it reads from here, and what it has not changed from the target."""

from __future__ import annotations

import json
import os
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


@pytest.fixture
def both() -> Iterator[Path]:
    """A folder that is on this machine, empty, and in the target."""
    with tempfile.TemporaryDirectory(prefix="pymirror-own-", dir="/srv") as name:
        yield Path(name)


@pytest.fixture
async def target(both: Path) -> AsyncIterator[int]:
    files = {f"{both}/{name}": f"target's {name}\n".encode() for name in ("file", "other", "sub/inner")}
    async with Sandbox.start({**FILES, **files}) as sandbox:
        yield sandbox.pid


def run(target: int, program: list[str], **fs: Any) -> str:
    config = json.dumps({"feature": {"fs": fs}})
    words = ["exec", "-f", "-", "--progress", "off", "-t", f"process/{target}", "--", *program]
    done = subprocess.run(
        [sys.executable, "-c", START, *words],
        input=config,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd="/tmp",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_file_that_is_written_here(target: int, both: Path) -> None:
    script = (
        f"cd /; f={both}/file; cat $f; echo own > $f; cat $f; [ -s $f ] && stat -c %s $f; cat {both}/other;"
        f"rm $f; cat $f; echo new >> {both}/new; cat {both}/new; test -e {both}/none || echo none"
    )
    assert run(target, ["bash", "-c", script]).split("\n")[:-1] == [
        *("target's file", "own", "4", "target's other", "target's file", "new", "none")
    ]
    assert sorted(os.listdir(both)) == ["new"]


def test_a_file_that_gets_its_name_here(target: int, both: Path) -> None:
    """As editors save: a temporary file that becomes the one."""
    script = (
        f"import os; from pathlib import Path; f = Path('{both}/file'); print(f.read_text(), end='')\n"
        "t = f.with_name('.file.tmp'); t.write_text('saved\\n'); os.replace(t, f)\n"
        "print(f.read_text(), t.exists(), end='')\n"
        "os.link(f, f.with_name('linked')); print('', f.with_name('linked').read_text(), end='')\n"
    )
    assert run(target, [sys.executable, "-c", script]) == "target's file\nsaved\n False saved\n"


def test_a_folder_that_is_made_here(target: int, both: Path) -> None:
    script = (
        f"cat {both}/sub/inner; mkdir {both}/sub; echo mine > {both}/sub/mine; cat {both}/sub/mine;"
        f"cat {both}/sub/inner; ls {both}/sub"
    )
    assert run(target, ["bash", "-c", script]) == "target's sub/inner\nmine\ntarget's sub/inner\nmine\n"


def test_remote_beats_the_default_lists(target: int, both: Path) -> None:
    """A folder below a tree that is this machine's by default, whatever is there."""
    assert run(target, ["cat", "/etc/passwd"]) == Path("/etc/passwd").read_text()
    assert run(target, ["cat", "/etc/passwd"], remote="^/etc/passwd$") == FILES["/etc/passwd"].decode()
    assert (
        run(target, ["cat", "/etc/passwd"], remote="^/etc", local="^/etc/passwd$")
        == Path("/etc/passwd").read_text()
    )
