"""An ordinary user's session: fusermount3 mounts the tree, and nothing of it stays, not even after `kill -9`."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import frozen
from tools import tool

pytestmark = pytest.mark.sandbox

EXEC = "import sys; from pymirror.cli.main import main; sys.exit(main())"
NOBODY = 65534
"""One that has a name: fusermount3 asks for it."""
WITHIN = 40.0
DEVICE = """
mount -t tmpfs none "$0/own"
mknod -m 666 "$0/own/fuse" c 10 229
mount --bind "$0/own/fuse" /dev/fuse
"""
"""/dev/fuse as on a desktop: for everybody."""
OPEN = """
for code in {code}; do mkdir -p "$0/own$code"; mount --bind "$code" "$0/own$code"; done
for top in {closed}; do mount -t tmpfs -o mode=755 none "$top"; done
for code in {code}; do mkdir -p "$code"; mount --bind "$0/own$code" "$code"; done
"""
"""Code below a folder that is root's alone, as /root is, can be reached."""
POD = 'mount -t tmpfs none "$0/data" && echo there > "$0/data/file"'
WAIT = "echo ready; exec"
SHOW = """
import sys
print(open(sys.argv[1] + "/data/file").read(), end="")
print([line for line in open("/proc/self/mountinfo") if "fuse.pymirror" in line])
if sys.argv[2] == "stays":
    print("ready", flush=True)
    sys.stdin.read()
sys.exit(7)
"""


@frozen
class Place:
    """holder: a process of the mount namespace that sessions run in. target: of one that is the pod's."""

    folder: Path
    holder: int
    target: int

    def session(self, then: str) -> subprocess.Popen[str]:
        config = self.folder / "config.json"
        config.write_text(
            json.dumps({"feature": {"network": False, "fs": {"read_only": [f"^{self.folder}/data"]}}})
        )
        words = ["exec", "-f", config, "-t", f"process/{self.target}", "--progress", "off", "--"]
        program = [sys.executable, "-c", SHOW, self.folder, then]
        return subprocess.Popen(
            [*inside(self.holder), *USER, sys.executable, "-c", EXEC, *words, *program],
            cwd="/",
            env={**os.environ, "TMPDIR": str(self.folder / "tmp"), "HOME": "/"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def left(self) -> list[str]:
        """What is there of a session: its mounts, processes and files."""
        found = [
            line
            for line in Path(f"/proc/{self.holder}/mountinfo").read_text().splitlines()
            if "pymirror" in line
        ]
        own = os.stat(f"/proc/{self.holder}/ns/mnt").st_ino
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.stat(process / "ns/mnt").st_ino == own and process.name != str(self.holder):
                    found.append((process / "cmdline").read_text())
        return found + os.listdir(self.folder / "tmp")


def opening() -> str:
    """OPEN with the uppermost folders that are not everybody's to enter, and with what is below them."""
    closed = {}
    for code in (Path(sys.base_prefix), Path(__file__).parents[2]):
        for above in reversed(code.parents):
            if not above.stat().st_mode & stat.S_IXOTH:
                closed[code] = above
                break
    return OPEN.format(code=" ".join(map(str, closed)), closed=" ".join(map(str, {*closed.values()})))


def inside(pid: int) -> list[str]:
    return [tool("nsenter"), "-t", str(pid), "-m"]


USER = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]


@contextlib.contextmanager
def running(*words: str) -> Iterator[int]:
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        yield process.pid
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def place() -> Iterator[Place]:
    tool("fusermount3")
    folder = Path(tempfile.mkdtemp(prefix="user-"))  # pytest's own folders are root's alone
    folder.chmod(0o755)
    for name in ("own", "data", "tmp"):
        (folder / name).mkdir()
    shutil.chown(folder / "tmp", NOBODY, NOBODY)
    own = ("unshare", "-m", "sh", "-ec", f"{DEVICE}{opening()}{WAIT} sleep 3600", str(folder))
    try:
        with running(*own) as holder:
            script = f"{POD}; {WAIT} {' '.join(USER)} sleep 3600"
            with running(*inside(holder), "unshare", "-m", "sh", "-ec", script, str(folder)) as target:
                yield Place(folder, holder, target)
    finally:
        shutil.rmtree(folder)


def until(condition: Callable[[], bool], what: Callable[[], object]) -> None:
    end = time.monotonic() + WITHIN
    while not condition():
        assert time.monotonic() < end, what()
        time.sleep(0.02)


def test_the_targets_files_are_seen_and_nothing_stays(place: Place) -> None:
    said, _ = (session := place.session("ends")).communicate(timeout=WITHIN)
    there, mounts = said.splitlines()
    assert (session.returncode, there) == (7, "there")
    assert f" {place.folder}/tmp/" in mounts and f"user_id={NOBODY}" in mounts
    assert place.left() == []


def test_nothing_stays_after_kill_9(place: Place) -> None:
    with place.session("stays") as session:
        assert session.stdout is not None
        assert session.stdout.readline() == "there\n" and "fuse.pymirror" in session.stdout.readline()
        assert session.stdout.readline() == "ready\n"
        assert len(place.left()) > 3
        session.kill()
        session.wait(WITHIN)
        until(lambda: place.left() == [], place.left)
