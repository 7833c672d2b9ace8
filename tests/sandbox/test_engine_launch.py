"""The program's start, end, signals and terminal under the engine; and what a kill -9 leaves behind."""

import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.sandbox

HARNESS = Path(__file__).parent / "programs" / "under_engine.py"
LIMIT = 30.0


@pytest.fixture
def command(tmp_path):
    (tmp_path / "root" / "remote-demo").mkdir(parents=True)
    return [sys.executable, HARNESS, tmp_path / "root", tmp_path / "report.json", "--"]


@pytest.fixture
def started(command):
    """Start a shell script under the engine; wait until it has printed `ready`."""
    running = []

    def start(script, **more):
        process = subprocess.Popen(
            [*command, "/bin/bash", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **more,
        )
        running.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def run(command, *program, **more):
    return subprocess.run(
        [*command, *program], capture_output=True, text=True, timeout=LIMIT, check=False, **more
    )


def until(condition, what):
    """Wait for a state of another process that no descriptor announces."""
    limit = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < limit, what
        select.select([], [], [], 0.01)


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("kill -KILL $$", 137)]
)
def test_exit_status(command, script, status):
    assert run(command, "/bin/bash", "-c", script).returncode == status


@pytest.mark.parametrize(
    ("content", "mode", "status", "words"),
    [
        (None, 0, 127, "No such file"),
        (b"\x7fELF", 0o644, 126, "Permission denied"),
        (b"#!/no/such/interpreter\n", 0o755, 127, "No such file"),
        (b"exit 5\n", 0o755, 5, ""),
    ],
)
def test_programs_that_do_not_start(command, tmp_path, content, mode, status, words):
    program = tmp_path / "program"
    if content is not None:
        program.write_bytes(content)
        program.chmod(mode)
    done = run(command, program)
    assert done.returncode == status and words in done.stderr


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP", "USR1", "USR2", "QUIT"])
def test_a_signal_to_pymirror_alone_reaches_the_program_once(started, name):
    process = started(
        f"trap 'echo got' {name}; trap 'exit 9' WINCH; echo ready; while :; do sleep 0.01; done"
    )
    process.send_signal(getattr(signal, f"SIG{name}"))
    assert process.stdout.readline() == "got\n"
    process.send_signal(signal.SIGWINCH)
    rest, _ = process.communicate(timeout=LIMIT)
    assert (rest, process.returncode) == ("", 9)


def test_the_programs_signal_to_its_own_group_is_not_sent_twice(started):
    process = started(
        "trap 'n=$((n+1))' USR1; trap 'exit $n' WINCH; echo ready; kill -USR1 0; "
        "/bin/kill -WINCH $PPID; while :; do sleep 0.01; done",  # WINCH comes after what it follows
        start_new_session=True,
    )
    assert process.wait(timeout=LIMIT) == 1


def test_an_ignored_signal_stays_ignored_for_the_program(command):
    done = run(["nohup", *command], "/bin/bash", "-c", "grep SigIgn /proc/$$/status")
    assert int(done.stdout.split()[1], 16) == 1 << (signal.SIGHUP - 1)


@pytest.mark.parametrize(("word", "status"), [("true", 0), ("false", 1)])
def test_started_by_one_that_ignores_its_children(command, tmp_path, word, status):
    """Then the kernel keeps no status for us, were it to stay so; the program starts as we did."""
    folder = tmp_path / "report.json.leftover"
    folder.mkdir()

    def ignore():
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    assert run(command, word, preexec_fn=ignore).returncode == status
    assert folder.exists()  # the guard heard that all is well
    done = run(command, "grep", "SigIgn", "/proc/self/status", preexec_fn=ignore)
    assert int(done.stdout.split()[1], 16) == 1 << (signal.SIGCHLD - 1)
    assert len(done.stderr.splitlines()) == 1, done.stderr  # "running"


BASH = ["bash", "--norc", "--noprofile", "-i"]


class Terminal:
    """A program at a pseudo-terminal, as its session's leader; by default bash, with job control."""

    def __init__(self, program=BASH):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(program[0], program, {**os.environ, "PS1": "$ ", "TERM": "dumb"})
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, b"\x18\0\xc8\0\0\0\0\0")
        self.seen = ""

    def type(self, text):
        os.write(self.fd, text.encode())

    def expect(self, text):
        limit = time.monotonic() + LIMIT
        while text not in self.seen:
            ready, _, _ = select.select([self.fd], [], [], max(0.0, limit - time.monotonic()))
            assert ready, f"no {text!r} in {self.seen!r}"
            self.seen += os.read(self.fd, 4096).decode(errors="replace")
        self.seen = self.seen.partition(text)[2]

    def hang_up(self):
        """Close it; the exit status of its program, which has to end by that."""
        pidfd = os.pidfd_open(self.pid)
        os.close(self.fd)
        try:
            assert select.select([pidfd], [], [], LIMIT)[0], "it lives on"
        finally:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
            _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)

    def close(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


@pytest.fixture
def terminal():
    made = Terminal()
    yield made
    made.close()


def alive(session):
    """The processes with this PYMIRROR_SESSION."""
    mark = f"PYMIRROR_SESSION={session}".encode()
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            found += [int(name)] * (mark in Path("/proc", name, "environ").read_bytes())
        except OSError:
            continue
    return found


def children(pid):
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("program", ["exec sleep 1000", "sleep 1000 & wait", "sleep 1000; sleep 1000"])
def test_a_terminal_that_is_closed_ends_everything(command, program):
    """pymirror is the session's leader (ssh -t, xterm -e): the kernel tells it alone."""
    terminal = Terminal([*map(str, command), "bash", "-c", f"echo up; {program}"])
    terminal.expect("running")
    terminal.expect("up\r\n")
    mine = [terminal.pid, *children(terminal.pid)]
    assert len(mine) == 3  # pymirror, its guard, the program
    assert terminal.hang_up() == 128 + signal.SIGHUP
    until(lambda: not alive(f"test-{terminal.pid}"), "the program's processes live on")
    assert not any(Path("/proc", str(pid)).exists() for pid in mine)


def line(command, program):
    return " ".join(map(str, command)) + f" {program}\n"


def test_stop_and_foreground_as_without_pymirror(terminal, command):
    terminal.type(line(command, "cat"))
    terminal.expect("running")
    terminal.expect("\r\n")
    terminal.type("one\n")
    terminal.expect("one\r\none")
    terminal.type("\x1a")
    terminal.expect("Stopped")
    terminal.type("echo shell-$((40+2))\n")
    terminal.expect("shell-42")
    terminal.type("fg\n")
    terminal.expect("cat")
    terminal.type("two\n")
    terminal.expect("two\r\ntwo")
    terminal.type("\x04")
    terminal.type("echo ended-$?\n")
    terminal.expect("ended-0")


def test_ctrl_c_ends_the_program_and_its_status_is_130(terminal, command):
    terminal.type(line(command, "cat"))
    terminal.expect("running")
    terminal.expect("\r\n")
    terminal.type("\x03")
    terminal.expect("$ ")
    terminal.type("echo ended-$?\n")
    terminal.expect("ended-130")


def test_ctrl_c_that_the_program_survives(terminal, command):
    terminal.type(line(command, "bash -c \"trap 'echo caught' INT; echo up; cat; cat\""))
    terminal.expect("up\r\n")
    terminal.type("one\n")
    terminal.expect("one\r\none")  # so the first cat has started, and bash waits for it
    terminal.type("\x03")
    terminal.expect("caught")
    terminal.type("still\n")
    terminal.expect("still\r\nstill")
    terminal.type("\x04")
    terminal.expect("$ ")
    terminal.type("echo ended-$?\n")
    terminal.expect("ended-0")


def test_kill_9_leaves_no_process_and_no_file(started, tmp_path):
    leftover = tmp_path / "report.json.leftover"
    (leftover / "deeper").mkdir(parents=True)
    (leftover / "deeper" / "file").write_text("x")
    process = started("setsid sleep 1000 & sleep 1000 & echo ready; wait")
    ours = children(process.pid)
    session = f"test-{process.pid}"
    assert len(ours) == 2
    until(
        lambda: len(alive(session)) == 3, "the program's processes are not there"
    )  # one may be inside execve
    process.kill()
    process.wait()
    until(lambda: not alive(session), "the program's processes live on")
    until(lambda: not leftover.exists(), "the registered folder is still there")
    until(lambda: not any(Path("/proc", str(child)).exists() for child in ours), "the guard lives on")


def test_inside_another_session_the_missing_part_is_named(command):
    done = run(command, *command, "true")
    assert done.returncode == 125 and "already listens" in done.stderr
