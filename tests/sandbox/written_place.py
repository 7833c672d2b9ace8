"""A target that a program writes in: a process whose own mount of /mnt nothing else on this machine sees.

Its other paths are this machine's, so what is found in the folder was written in the target, and programs
run "in the target" are this machine's, among its mounts.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any

from attrs import frozen

START = "import sys; from pymirror.cli.main import main; sys.exit(main())"
FOLDER = "/mnt/d"
"""As the program and the target name it; this machine has no such one."""
LIMIT = 60.0
IN_FOLDER = "import os, sys; os.fchdir(os.open(sys.argv[1], 0)); os.execvp(sys.argv[2], sys.argv[2:])"
"""For programs that work where they were started: `chdir` into the target is not carried out."""


@frozen
class Place:
    """pid: the target. folder: its `FOLDER` from this machine. scratch: a folder of this machine."""

    pid: int
    folder: Path
    scratch: Path

    def within(self, **fs: Any) -> list[str]:
        """The command that a program's follows to run in a session; by default FOLDER is written."""
        feature = {"fs": {"read_write": [f"^{FOLDER}"], **fs}}
        words = json.dumps({"feature": feature, "skip_build_tools": False})  # git is one
        config = self.scratch / f"pymirror-{abs(hash(words))}.json"
        config.write_text(words)
        options = ["-f", str(config), "-t", f"process/{self.pid}", "--progress", "off"]
        return [sys.executable, "-c", START, "exec", *options, "--"]

    def run(self, *program: str, fails: bool = False, **fs: Any) -> str:
        """What a program in a session says. fails: it may."""
        return _run([*self.within(**fs), *program], fails)

    def python(self, script: str, *words: str, fails: bool = False, **fs: Any) -> str:
        """The same for a Python program."""
        return self.run(sys.executable, "-c", script, *words, fails=fails, **fs)

    def inside(self, folder: str, *program: str, **fs: Any) -> str:
        """The same for a program that works in its folder, one of the target."""
        return self.python(IN_FOLDER, folder, *program, **fs)

    def there(self, *program: str) -> list[str]:
        """The command that runs a program in the target."""
        return ["nsenter", "-t", str(self.pid), "-m", *program]

    def run_there(self, *program: str) -> str:
        """What it says."""
        return _run(self.there(*program), False)

    def session(self, script: str, *words: str, **fs: Any) -> AbstractContextManager[subprocess.Popen[str]]:
        """A Python program in a session that is spoken with."""
        return started([*self.within(**fs), sys.executable, "-c", script, *words])

    def beside(self, script: str, *words: str) -> AbstractContextManager[subprocess.Popen[str]]:
        """The same in the target."""
        return started(self.there(sys.executable, "-c", script, *words))


def _run(words: Sequence[str], fails: bool) -> str:
    done = subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        cwd="/tmp",
        errors="surrogateescape",
    )
    assert fails or done.returncode == 0, f"{done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def started(words: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that is spoken with, and awaited in the end; where the block fails it is killed."""
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, cwd="/tmp") as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def tell(stream: IO[str] | None, line: str) -> None:
    """One line more for it."""
    assert stream is not None
    stream.write(f"{line}\n")
    stream.flush()


def says(stream: IO[str] | None) -> str:
    """Its next line."""
    assert stream is not None
    return stream.readline().rstrip("\n")


def until(condition: Callable[[], object], what: str) -> None:
    """AssertionError(what) when it does not come true."""
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


@contextmanager
def target(size: str = "512m", uid: int = 0, *, prepare: str = "true", mode: int = 0o777) -> Iterator[Place]:
    """One with a folder of `size` at most. uid: the first process's. prepare: a shell's words, as root, in
    the target, when the folder is there."""
    script = (
        "mount --make-rprivate / && mount -t tmpfs -o size=$1 t /mnt && mkdir /mnt/d && chmod $2 /mnt/d "
        f"&& {{ {prepare}; }} && echo ready && exec setpriv --reuid $3 --regid $3 --clear-groups cat"
    )
    words = ["unshare", "-m", "sh", "-c", script, "sh", size, f"{mode:o}", str(uid)]
    with tempfile.TemporaryDirectory(prefix="pymirror-place-") as scratch, started(words) as process:
        try:
            assert says(process.stdout) == "ready", shlex.join(words)
            until(
                lambda: Path(f"/proc/{process.pid}/comm").read_text() == "cat\n", "the target did not start"
            )
            yield Place(process.pid, Path(f"/proc/{process.pid}/root{FOLDER}"), Path(scratch))
        finally:
            process.kill()
