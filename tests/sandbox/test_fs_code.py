"""The program's code outside the trees that are this machine's anyway: found, from whatever directory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pymirror.runtimes.process.sandbox import Sandbox

pytestmark = pytest.mark.sandbox

START = "import sys; from pymirror.cli.main import main; sys.exit(main())"


@pytest.fixture
def code() -> Iterator[Path]:
    """A folder of this machine that is the target's by default."""
    with tempfile.TemporaryDirectory(prefix="pymirror-code-", dir="/srv") as name:
        yield Path(name)


@pytest.fixture
async def command() -> AsyncIterator[list[str]]:
    async with Sandbox.start() as sandbox:
        yield [sys.executable, "-c", START, "exec", "--progress", "off", "-t", f"process/{sandbox.pid}", "--"]


def run(words: list[str], directory: Path, **environ: str) -> tuple[int, str, str]:
    done = subprocess.run(
        words,
        cwd=directory,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_script_and_its_neighbours_from_another_directory(command: list[str], code: Path) -> None:
    (code / "pkg").mkdir()
    (code / "pkg/__init__.py").write_text(
        "from pathlib import Path\nWORD = Path(__file__).with_name('word').read_text()\n"
    )
    (code / "pkg/word").write_text("from here")
    (code / "app.py").write_text("import pkg\nprint(pkg.WORD, open('/data/greeting.txt').read(), end='')\n")
    program = [sys.executable, str(code / "app.py")]
    assert run([*command, *program], Path("/tmp")) == (0, "from here hello from the pod\n", "")


def test_a_library_named_by_a_variable(command: list[str], code: Path) -> None:
    (code / "lib/pkg").mkdir(parents=True)
    (code / "lib/pkg/__init__.py").write_text("WORD = 'from here'\n")
    program = [sys.executable, "-c", "import pkg; print(pkg.WORD)"]
    found = run([*command, *program], Path("/tmp"), PYTHONPATH=str(code / "lib"))
    assert found == (0, "from here\n", "")


def test_a_script_in_a_folder_of_path(command: list[str], code: Path) -> None:
    (code / "bin").mkdir()
    (code / "bin/tool").write_text("#!/bin/sh\ncat /data/greeting.txt\n")
    (code / "bin/tool").chmod(0o755)
    found = run([*command, "bash", "-c", "tool"], Path("/tmp"), PATH=f"{code}/bin:{os.environ['PATH']}")
    assert found == (0, "hello from the pod\n", "")
