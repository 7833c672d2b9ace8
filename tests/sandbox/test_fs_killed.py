"""Killed in the middle of writing: what fsync returned for is in the target, and nothing stays behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.sandbox.test_fs_end import running
from tests.sandbox.written_place import FOLDER, Place, says, until

pytestmark = pytest.mark.sandbox

BURST = """
import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT, 0o644)
print(os.getpid(), flush=True)
number = 0
while True:
    for _ in range(50):
        os.write(fd, f"{number:07} {'x' * (number % 200)}\\n".encode())
        number += 1
    os.fsync(fd)
    print(number, flush=True)
"""
"""Says how many of its lines are confirmed."""


def agents(pid: int) -> list[int]:
    """Those that a session's pymirror has started."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words, parent = (
                file.read_bytes(),
                int(file.with_name("stat").read_text().rsplit(")", 1)[1].split()[1]),
            )
        except OSError:
            continue
        if parent == pid and b"pymirror.agent" in words:
            found.append(int(file.parent.name))
    return found


def check(place: Place, confirmed: int) -> None:
    """The lines up to there are whole, and what follows begins as they do."""
    content = (place.folder / "burst").read_text()
    lines = content.split("\n")
    assert len(lines) > confirmed
    for number, line in enumerate(lines[:-1]):
        assert line == f"{number:07} {'x' * (number % 200)}", (number, confirmed)
    rest = f"{len(lines) - 1:07} {'x' * ((len(lines) - 1) % 200)}"
    assert rest.startswith(lines[-1])


@pytest.mark.parametrize("victim", ["program", "pymirror", "agent"])
def test_killed_in_a_burst(place: Place, victim: str) -> None:
    mark = f"{FOLDER}/burst"
    with place.session(BURST, mark) as session:
        program = int(says(session.stdout))
        while int(says(session.stdout)) < 2000:
            pass
        others = agents(session.pid)
        assert len(others) == 1
        os.kill({"program": program, "pymirror": session.pid, "agent": others[0]}[victim], signal.SIGKILL)
        said = session.stdout.read().split("\n") if session.stdout else []
        status = session.wait(30)
    confirmed = max([2000, *(int(line) for line in said[:-1])])
    assert status == {"program": 137, "pymirror": -9, "agent": 125}[victim]
    check(place, confirmed)
    until(lambda: not running(mark), "the program is still there")
    until(lambda: not Path(f"/proc/{others[0]}").exists(), "the agent is still there")
    assert "pymirror" not in Path("/proc/self/mountinfo").read_text()
    assert os.listdir(place.folder) == ["burst"]
