"""The whole command line, started in ways that change what a process hears of its children and its terminal."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pymirror.runtimes.process.sandbox import Sandbox

pytestmark = pytest.mark.sandbox

START = "import sys; from pymirror.cli.main import main; sys.exit(main())"
LIMIT = 60.0


@pytest.fixture
async def command():
    """`pymirror exec` on a pod-like target, silent, up to the program."""
    async with Sandbox.start() as sandbox:
        yield [sys.executable, "-c", START, "exec", "--progress", "off", "-t", f"process/{sandbox.pid}", "--"]


def test_a_parent_that_ignores_its_children(command):
    done = subprocess.run(
        [*command, "cat", "/data/greeting.txt"],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello from the pod\n", "")


def test_a_closed_terminal_ends_the_session(command):
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", *command, "bash", "-c", "cat /data/greeting.txt; sleep 1000 & wait"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    try:
        seen = b""
        while b"pod" not in seen:
            assert select.select([ours], [], [], LIMIT)[0], seen
            seen += os.read(ours, 4096)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(children) == 3  # the guard, the agent, the program
        os.close(ours)
        assert process.wait(timeout=LIMIT) == 128 + signal.SIGHUP
    finally:
        process.kill()
        process.wait()
    assert not [pid for pid in children if Path("/proc", pid).exists()]
