"""The guard: what it removes, and that a normal end does nothing."""

import os
import select
import signal
import subprocess
import sys

import pytest

from pymirror.layer.guard import Guard, members


@pytest.fixture
def sleeper():
    process = subprocess.Popen(["sleep", "1000"], env={**os.environ, "PYMIRROR_SESSION": "guard-test"})
    yield process
    process.kill()
    process.wait()


def ended(pidfd):
    return bool(select.select([pidfd], [], [], 10)[0])


def abandon(guard):
    """As if pymirror had been killed: the pipe ends, and nobody said close."""
    pidfd = os.pidfd_open(guard._pid)
    os.close(guard._pipe)
    guard._pipe = -1
    assert ended(pidfd), "the guard did not end"
    os.waitpid(guard._pid, 0)
    os.close(pidfd)


def test_a_normal_end_removes_nothing(tmp_path, sleeper):
    (tmp_path / "kept").mkdir()
    guard = Guard.start()
    guard.session("guard-test")
    guard.watch_pid(sleeper.pid)
    guard.remove(str(tmp_path / "kept"))
    guard.close()
    guard.close()
    assert (tmp_path / "kept").exists() and sleeper.poll() is None


def test_an_end_without_close_kills_and_removes(tmp_path, sleeper):
    folder = tmp_path / "a folder"
    (folder / "deeper").mkdir(parents=True)
    (folder / "deeper" / "file").write_text("x")
    (folder / "link").symlink_to(tmp_path)
    guard = Guard.start()
    guard.remove(str(folder))
    guard.remove(str(tmp_path / "never there"))
    guard.watch_pid(sleeper.pid)
    abandon(guard)
    assert sleeper.wait(10) == -signal.SIGKILL
    assert not folder.exists() and tmp_path.exists()


def test_by_session_without_a_known_pid(sleeper):
    guard = Guard.start()
    guard.session("guard-test")
    abandon(guard)
    assert sleeper.wait(10) == -signal.SIGKILL


def test_a_pid_that_is_gone_is_nobody(sleeper):
    sleeper.kill()
    sleeper.wait()
    guard = Guard.start()
    guard.watch_pid(sleeper.pid)
    abandon(guard)


def test_members_are_the_tree_and_the_session():
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess as s; p=s.Popen(['sleep','1000']); print(p.pid, flush=True); p.wait()",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        child = int(parent.stdout.readline())
        assert members(parent.pid, "") == {parent.pid, child}
        assert members(0, "no such session") == set()
    finally:
        os.kill(child, signal.SIGKILL)
        parent.communicate()
