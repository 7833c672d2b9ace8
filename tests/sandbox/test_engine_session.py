"""The engine inside this process: a detached mount as the tree, ends, and features that misbehave."""

import asyncio
import contextlib
import ctypes
import errno
import os
import resource
import select
import socket
import subprocess
import sys

import pytest

from pymirror.core.call import CALLS, Errno, OtherPath, Scope, Text, Untouched
from pymirror.core.errors import ProgramError
from pymirror.layer.engines.seccomp import native
from pymirror.layer.engines.seccomp._pump import lib
from pymirror.layer.engines.seccomp.engine import Engine
from pymirror.layer.launch import Launched

pytestmark = pytest.mark.sandbox

OTHERS = 30
FSOPEN, FSCONFIG, FSMOUNT, CREATE = 430, 431, 432, 6


@pytest.fixture
def detached():
    """A tmpfs that is mounted nowhere, as the fs feature's tree."""
    libc = ctypes.CDLL(None, use_errno=True)
    context = libc.syscall(FSOPEN, b"tmpfs", 1)
    libc.syscall(FSCONFIG, context, CREATE, None, None, 0)
    mount = libc.syscall(FSMOUNT, context, 1, 0)
    assert mount >= 0, os.strerror(ctypes.get_errno())
    os.close(context)
    os.mkdir("data", dir_fd=mount)
    with open(os.open("data/file", os.O_CREAT | os.O_WRONLY, dir_fd=mount), "w") as file:
        file.write("in the tree\n")
    os.symlink("../data/file", "data/link", dir_fd=mount)
    yield mount
    os.close(mount)


async def run(dispatch, script, tmp_path, calls=CALLS):
    """What a Python script prints under the engine, its status, the pump's counters."""
    output = tmp_path / "output"
    engine = Engine(executable="/bin/sh")
    command = ["sh", "-c", 'exec "$0" -c "$1" > "$2"', sys.executable, script, str(output)]
    try:
        running = await engine.start(command, dict(os.environ), calls, dispatch)
        status = await running.wait()
        return output.read_text(), status
    finally:
        await engine.aclose()


async def test_a_detached_tree_shows_no_place_of_ours(detached, tmp_path):
    async def dispatch(call):
        if not call.path.startswith(b"/data"):
            return Untouched("local", scope=Scope.CALL)
        if call.name == "readlink":
            return Text("true target", value=b"/data/file")
        return OtherPath("tree", root=detached, path=call.path[1:], scope=Scope.CALL)

    script = (
        "import os\n"
        "folder = os.open('/data', os.O_RDONLY); os.fchdir(folder)\n"
        "print(os.getcwd(), os.readlink('/proc/self/cwd'), os.readlink(f'/proc/self/fd/{folder}'))\n"
        "print(os.readlink('link'), os.readlink('/data/link'), os.path.realpath('link'))\n"
        "print(open('/data/link').read(), open('link').read(), sorted(os.listdir('/data')))\n"
        "print(os.stat('/data/link').st_size, os.lstat('/data/link').st_size)\n"
        "print(os.stat('/data/..') == os.stat('/'))\n"
    )
    out, status = await run(dispatch, script, tmp_path)
    text = "in the tree\n"
    assert status == 0
    assert out == (
        f"/data /data /data\n/data/file /data/file /data/file\n{text} {text} ['file', 'link']\n12 12\nTrue\n"
    )


async def test_a_dispatch_that_breaks_is_eio_and_no_hang(tmp_path):
    async def dispatch(call):
        if call.path == b"/broken":
            raise asyncio.CancelledError
        if call.path == b"/text":
            return Text("no answer to an open", value=b"x")
        return Untouched("local", scope=Scope.CALL)

    script = (
        "for name in ('/broken', '/text'):\n  try: open(name)\n  except OSError as error: print(error.errno)"
    )
    assert await run(dispatch, script, tmp_path) == ("5\n5\n", 0)


async def test_slow_answers_do_not_delay_other_calls(tmp_path):
    """300 threads wait for Python, more than the pump has; local calls go on, and all are answered."""
    waiting, all_there = 0, asyncio.Event()

    async def dispatch(call):
        nonlocal waiting
        if call.path.startswith(b"/slow/"):
            waiting += 1
            if waiting >= 200:
                all_there.set()
            await all_there.wait()
        return Untouched("local", scope=Scope.CALL)

    script = (
        "import os, threading\n"
        "def look(n):\n  os.path.exists('/etc/passwd'); os.path.exists(f'/slow/{n}')\n"
        "threads = [threading.Thread(target=look, args=(n,)) for n in range(300)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]; print('all')"
    )
    assert await run(dispatch, script, tmp_path) == ("all\n", 0)


async def test_a_signal_ends_the_wait_of_a_connection_and_of_no_datagram_socket(tmp_path):
    """As in the kernel, where connecting such a socket waits for nothing."""
    asked = []

    async def dispatch(call):
        asked.append((call.transport, call.blocking, call.again))
        if call.blocking:
            await asyncio.sleep(0.3)  # several alarms
        return Errno("no", code=errno.ECONNREFUSED)

    script = (
        "import signal, socket, ctypes\n"
        "signal.signal(signal.SIGALRM, lambda *_: None); signal.siginterrupt(signal.SIGALRM, True)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)\n"
        "connect, place = ctypes.CDLL(None, use_errno=True).connect, b'\\2\\0\\0\\1\\x7f\\0\\0\\1' + bytes(8)\n"
        "for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):\n"
        "  with socket.socket(type=kind) as s: connect(s.fileno(), place, 16); print(ctypes.get_errno())\n"
    )
    out, status = await run(dispatch, script, tmp_path, frozenset({"connect"}))
    assert (out.split(), status) == ([str(errno.ECONNREFUSED)] * 2, 0)
    assert asked == [("udp", True, False), ("tcp", True, False), ("tcp", False, True)]


class Late:
    """The C part for a Python that is late: who asked first is gone, and others have asked, before it reads the question."""

    def __init__(self):
        self.first, self.kept = True, []

    def __getattr__(self, name):
        return getattr(lib, name)

    def pm_pump_next(self, pump, question, *room):
        if self.kept:
            return self.put(question, room, *self.kept.pop(0))
        got = lib.pm_pump_next(pump, question, *room)
        if got and self.first:
            self.first = False
            lib.pm_pump_reply(pump, question.cookie, native.ffi.new("pm_answer *", [lib.PM_ERRNO, 1]))
            self.kept = [self.next(pump) for _ in range(OTHERS)]
        return got

    def next(self, pump):
        question, room = native.ffi.new("pm_question *"), native.ffi.new("char[]", lib.PM_LONGEST)
        while not lib.pm_pump_next(pump, question, room):
            select.select([lib.pm_pump_event(pump)], [], [], 10)
        return question, room

    def put(self, question, room, kept, path):
        question[0] = kept[0]
        native.ffi.memmove(room[0], path, kept.size)
        return 1


async def test_a_question_is_its_own_though_who_asked_is_gone(tmp_path, monkeypatch):
    asked = []

    async def dispatch(call):
        asked.append(call.address.port)
        return Errno("no", code=errno.ECONNREFUSED)

    script = (
        "import socket, threading\n"
        "def connect(port):\n  socket.socket().connect_ex(('127.0.0.1', port))\n"
        f"connect(1000); threads = [threading.Thread(target=connect, args=(1001 + n,)) for n in range({OTHERS})]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]; print('all')"
    )
    monkeypatch.setattr(native, "lib", Late())
    assert await run(dispatch, script, tmp_path, frozenset({"connect"})) == ("all\n", 0)
    assert (asked[0], sorted(asked[1:])) == (1000, [1001 + n for n in range(OTHERS)])


async def nothing(_call):
    return Untouched("local", scope=Scope.CALL)


async def test_end_says_why_and_ends_the_children_too(capfd):
    engine = Engine(executable="/bin/sh")
    environ = {**os.environ, "PYMIRROR_SESSION": "end-test"}
    script = "setsid sleep 1000 & echo $!; wait"
    running = await engine.start(["sh", "-c", script], environ, CALLS, nothing)
    child = ""
    while not child:
        await asyncio.sleep(0.01)  # capfd announces nothing
        child = capfd.readouterr().out.strip()
    pidfd = os.pidfd_open(int(child))
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(pidfd, gone.set)
    running.end("because")
    running.end("again")
    assert await running.wait() == 143
    await engine.aclose()
    await asyncio.wait_for(gone.wait(), 10)
    asyncio.get_running_loop().remove_reader(pidfd)
    os.close(pidfd)
    assert capfd.readouterr().err == "because\n"


@pytest.fixture
def stubborn():
    """A process that ignores TERM."""
    script = ["bash", "-c", "trap '' TERM; echo; read x"]
    process = subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


async def test_a_program_that_ignores_term_is_killed_after_the_grace(stubborn):
    launched = Launched(native.Signals(), grace=0.1)
    launched.begin(stubborn.pid)
    launched.end("")
    assert await launched.wait() == 137
    await launched.aclose()


async def test_a_program_that_cannot_start_leaves_signals_and_nothing_else():
    before = len(os.listdir("/proc/self/fd"))
    engine = Engine(executable="/no/such/program")
    with pytest.raises(ProgramError) as caught:
        await engine.start(["program"], {}, CALLS, nothing)
    await engine.aclose()
    assert caught.value.exit_status == 127
    assert len(os.listdir("/proc/self/fd")) == before


async def test_two_engines_in_one_process_one_after_the_other():
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        engine = Engine(executable="/bin/true")
        running = await engine.start(["true"], dict(os.environ), CALLS, nothing)
        assert await running.wait() == 0
        await engine.aclose()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_without_descriptors_left_a_connection_fails_and_goes_nowhere(tmp_path):
    """It may be the target's: left alone, it would leave from this machine."""
    taken = []

    async def dispatch(call):
        if call.path == b"/data/take-all":
            with contextlib.suppress(OSError):
                while True:
                    taken.append(os.open("/dev/null", os.O_RDONLY))
        elif call.path == b"/data/give-back":
            while taken:
                os.close(taken.pop())
        return Untouched("local", scope=Scope.CALL)

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.create_server(("127.0.0.1", 0)) as server:
        script = (
            "import errno, os, socket\n"
            "def reach():\n"
            "    with socket.socket() as s:\n"
            f"        return s.connect_ex({server.getsockname()!r})\n"
            "os.path.exists('/data/take-all'); refused = reach()\n"
            "os.path.exists('/data/give-back'); print(errno.errorcode[refused], reach())\n"
        )
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        try:
            assert await run(dispatch, script, tmp_path) == ("ENOBUFS 0\n", 0)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        server.setblocking(False)
        server.accept()[0].close()
        with pytest.raises(BlockingIOError):
            server.accept()
