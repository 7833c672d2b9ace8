"""The end of a session while the kernel waits for the tree: nothing stays, not even after `kill -9`."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pymirror.features.fs.mount import _detached

pytestmark = pytest.mark.sandbox

EXEC = "import sys; from pymirror.cli.main import main; sys.exit(main())"
WITHIN = 40.0

BUSY = """
import os, sys, time
for k in range(4):
    if os.fork() == 0:
        null = os.open("/dev/null", os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        os.fchdir(os.open(sys.argv[1], os.O_RDONLY))
        while True:
            for name in ("0", "1", f"none{k}{time.time()}"):
                try:
                    os.stat(name)
                except FileNotFoundError:
                    pass
                except OSError:  # the session is over
                    os._exit(0)
time.sleep(0.5)
os._exit(7)
"""

WAITING = """
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
os.listdir(fd)
print("ready", flush=True)
os.stat("hung/x", dir_fd=fd)
"""


@pytest.fixture
def target() -> Iterator[int]:
    process = subprocess.Popen(["sleep", "3600"])
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def session(target: int, folder: Path, program: str) -> Iterator[subprocess.Popen[bytes]]:
    words = [
        "exec",
        "-f",
        "-",
        "-t",
        f"process/{target}",
        "--progress",
        "off",
        "--",
        sys.executable,
        "-c",
        program,
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", EXEC, *words, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps({"feature": {"fs": {"read_only": [f"^{folder}"]}}}).encode())
    process.stdin.close()
    try:
        yield process
    finally:
        process.kill()
        process.wait(WITHIN)
        assert process.stdout is not None
        process.stdout.close()


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + WITHIN
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def running(mark: str) -> list[str]:
    """Command lines of processes that have `mark` among their words, zombies left out."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if mark in words and str(os.getpid()) != file.parent.name:
                found.append(words)
    return found


def test_children_that_are_busy_in_the_tree_do_not_hold_the_end(target: int, tmp_path: Path) -> None:
    """A notice about a folder waits for look-ups there, which must be answered to the very end."""
    folder, stop = tmp_path / "busy", threading.Event()
    folder.mkdir()

    def churn() -> None:
        number = 0
        while not stop.wait(0.0005):
            number += 1
            (folder / str(number % 2)).touch()
            (folder / str(number % 2)).unlink()

    writer = threading.Thread(target=churn)
    writer.start()
    try:
        for _ in range(3):
            with session(target, folder, BUSY) as process:
                assert process.wait(WITHIN) == 7
            until(lambda: not running(str(folder)), "a child still waits for the tree")
    finally:
        stop.set()
        writer.join()


@pytest.fixture
def hung(tmp_path: Path) -> Iterator[Path]:
    """A folder with a mount in it whose every answer is awaited for ever."""
    place = tmp_path / "data/hung"
    place.mkdir(parents=True)
    made = _detached()
    libc = ctypes.CDLL(None, use_errno=True)
    move_mount, empty_path = 429, 4
    assert libc.syscall(move_mount, made.root, b"", -100, os.fsencode(place), empty_path) == 0
    try:
        yield place.parent
    finally:
        libc.umount2(os.fsencode(place), 2)
        os.close(made.root)
        os.close(made.device)


def stacks(pid: int) -> str:
    found = ""
    for file in Path(f"/proc/{pid}/task").glob("*/stack"):
        with contextlib.suppress(OSError):
            found += file.read_text()
    return found


def test_kill_9_ends_everything_although_a_thread_cannot_die(target: int, hung: Path) -> None:
    with session(target, hung, WAITING) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"

        def stuck() -> bool:
            (hung / "new").touch()
            (hung / "new").unlink()
            return "fuse_reverse_inval_entry" in stacks(process.pid)

        until(stuck, "no notice waits for the look-up")
        os.kill(process.pid, signal.SIGKILL)
        process.wait(WITHIN)
    until(lambda: not running(str(hung)), "the program still waits for the tree")
