"""Locks on a real kernel mount: among the program's processes, and against one that has the files as the pod has."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType

import pytest

from pymirror.features.fs import locking, locks
from pymirror.runtimes.process.sandbox import FILES, Sandbox
from tests.sandbox.test_fs_own import run
from tests.sandbox.test_fs_tree import Mounted, mounted

pytestmark = pytest.mark.sandbox

ENDED = [f"errno {code}" for code in (errno.EIO, errno.ENOTCONN, errno.ECONNABORTED)]
"""What a wait that the session's end cuts off may be told: by us, or by the kernel once the mount is gone."""

SERVANT = """
import ctypes, fcntl, os, signal, struct, sys
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN
signal.signal(signal.SIGUSR1, lambda *_: (_ for _ in ()).throw(InterruptedError(4, "signal")))
top = sys.argv[1]

def lock(fd, kind, start=0, size=0):
    fcntl.lockf(fd, kind, size, start)

def ofd(fd, kind, start=0, size=0):
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", kind, 0, start, size, 0))

def ask(fd, kind, start=0, size=0):
    return struct.unpack("hhqqi4x", fcntl.fcntl(fd, fcntl.F_GETLK, struct.pack("hhqqi4x", kind, 0, start, size, 0)))

libc = ctypes.CDLL(None)
signal.signal(signal.SIGALRM, lambda *_: None)

def timed(fd, seconds):
    signal.setitimer(signal.ITIMER_REAL, seconds)
    taken = libc.flock(fd, LOCK_EX)
    signal.setitimer(signal.ITIMER_REAL, 0)
    return taken

for line in sys.stdin:
    try:
        try:
            print(repr(eval(line)), flush=True)
        except SyntaxError:
            exec(line)
            print("done", flush=True)
    except OSError as error:
        print(f"errno {error.errno}", flush=True)
"""


class Servant:
    """A process that does what it is told. top: where the target's root is for it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    def begin(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")

    async def answer(self) -> str:
        assert self.process.stdout is not None
        return (await asyncio.wait_for(self.process.stdout.readline(), 20)).decode().strip()

    async def __call__(self, line: str) -> str:
        self.begin(line)
        return await self.answer()


@contextlib.asynccontextmanager
async def servant(top: str, *fds: int) -> AsyncIterator[Servant]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SERVANT, top),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        pass_fds=fds,
    )
    try:
        yield Servant(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


class Three:
    """Two processes of the program and one of the pod; each has `file` open, to read and to write."""

    def __init__(self, tree: Mounted, one: Servant, other: Servant, pod: Servant) -> None:
        self.tree, self.one, self.other, self.pod = tree, one, other, pod


@pytest.fixture
async def tree(tmp_path: Path) -> AsyncIterator[Mounted]:
    folder = tmp_path / "root"
    (folder / "data").mkdir(parents=True)
    (folder / "data/file").write_bytes(b"content")
    async with mounted(folder, tmp_path, mode="write") as made:
        yield made


@pytest.fixture
async def three(tree: Mounted) -> AsyncIterator[Three]:
    verdict = await tree.call("stat", "/data/file")
    here = f"/proc/self/fd/{verdict.root}"
    async with servant(here, verdict.root) as one, servant(here, verdict.root) as other:
        async with servant(str(tree.folder)) as pod:
            for each in (one, other, pod):
                await each("fd = os.open(top + '/data/file', os.O_RDWR)")
            yield Three(tree, one, other, pod)


AGAIN, INTERRUPTED, NO_LOCK = f"errno {errno.EAGAIN}", f"errno {errno.EINTR}", f"errno {errno.ENOLCK}"


@pytest.mark.parametrize("call", ["lock", "fcntl.flock", "ofd"])
async def test_each_keeps_the_others_out(three: Three, call: str) -> None:
    exclusive, shared, none = (
        ("fcntl.F_WRLCK", "fcntl.F_RDLCK", "fcntl.F_UNLCK")
        if call == "ofd"
        else ("LOCK_EX|LOCK_NB", "LOCK_SH|LOCK_NB", "LOCK_UN")
    )
    all_three = [three.one, three.other, three.pod]
    for holder in all_three:
        others = [each for each in all_three if each is not holder]
        assert await holder(f"{call}(fd, {exclusive})") == "None"
        for other in others:
            assert await other(f"{call}(fd, {exclusive})") == AGAIN
            assert await other(f"{call}(fd, {shared})") == AGAIN
        assert await holder(f"{call}(fd, {shared})") == "None"
        for other in others:
            assert await other(f"{call}(fd, {shared})") == "None"
            assert await other(f"{call}(fd, {exclusive})") == AGAIN
        for each in all_three:
            assert await each(f"{call}(fd, {none})") == "None"


async def test_ranges(three: Three) -> None:
    one, other, pod = three.one, three.other, three.pod
    assert await one("lock(fd, LOCK_EX|LOCK_NB, 100, 10)") == "None"
    assert await other("lock(fd, LOCK_EX|LOCK_NB, 110, 10)") == "None"
    assert await pod("lock(fd, LOCK_EX|LOCK_NB, 90, 11)") == AGAIN
    assert await pod("lock(fd, LOCK_EX|LOCK_NB, 90, 10)") == "None"
    assert await pod("lock(fd, LOCK_EX|LOCK_NB, 120)") == "None"
    assert await one("lock(fd, LOCK_EX|LOCK_NB, 1 << 62, 1)") == AGAIN
    # F_WRLCK, SEEK_SET, start, length, and nobody's number: it is not of this machine
    assert await one("ask(fd, fcntl.F_WRLCK, 0, 105)") == "(1, 0, 90, 10, 0)"
    assert await one("ask(fd, fcntl.F_WRLCK, 111, 1)") == "(1, 0, 110, 10, 0)"
    assert await one("ask(fd, fcntl.F_RDLCK, 500, 5)") == "(1, 0, 120, 0, 0)"
    assert (await one("ask(fd, fcntl.F_WRLCK, 100, 10)")).startswith("(2,")
    assert await one("lock(fd, LOCK_UN, 103, 2)") == "None"
    assert await pod("lock(fd, LOCK_EX|LOCK_NB, 103, 2)") == "None"
    assert await pod("lock(fd, LOCK_EX|LOCK_NB, 105, 1)") == AGAIN


@pytest.mark.parametrize("call", ["lock", "fcntl.flock"])
@pytest.mark.parametrize("way", ["os.close(fd)", "os._exit(0)"])
async def test_what_ends_a_lock(three: Three, call: str, way: str) -> None:
    assert await three.one(f"{call}(fd, LOCK_EX)") == "None"
    assert await three.other(f"{call}(fd, LOCK_EX|LOCK_NB)") == AGAIN
    three.pod.begin(f"{call}(fd, LOCK_EX)")
    await three.one(way)
    assert await three.pod.answer() == "None"
    assert await three.other(f"{call}(fd, LOCK_EX|LOCK_NB)") == AGAIN
    await three.pod("os.close(fd)")
    assert await three.other(f"{call}(fd, LOCK_EX|LOCK_NB)") == "None"


async def test_an_open_files_own_lock_ends_with_it(three: Three) -> None:
    """F_OFD_SETLK: no process's end, and no other descriptor's."""
    assert await three.one("ofd(fd, fcntl.F_WRLCK)") == "None"
    await three.one("os.close(os.open(top + '/data/file', os.O_RDWR))")
    assert await three.pod("lock(fd, LOCK_EX|LOCK_NB)") == AGAIN
    await three.one("os.close(fd)")
    three.pod.begin("lock(fd, LOCK_EX)")
    assert await three.pod.answer() == "None"


async def test_the_next_one_gets_it_at_once(three: Three) -> None:
    """RELEASE is answered after close(2) has returned."""
    for _ in range(30):
        for each, next_one in ((three.one, three.other), (three.other, three.one)):
            await each("own = os.open(top + '/data/file', os.O_WRONLY)")
            assert await each("fcntl.flock(own, LOCK_EX|LOCK_NB)") == "None"
            await each("os.write(own, b'x')")
            await each("os.close(own)")
            await next_one("own = os.open(top + '/data/file', os.O_RDONLY)")
            assert await next_one("fcntl.flock(own, LOCK_EX|LOCK_NB)") == "None"
            await next_one("os.close(own)")


async def test_closing_any_descriptor_ends_a_processs_locks(three: Three) -> None:
    """POSIX's own rule, as the kernel has it."""
    assert await three.one("lock(fd, LOCK_EX)") == "None"
    await three.one("os.close(os.open(top + '/data/file', os.O_RDONLY))")
    assert await three.pod("lock(fd, LOCK_EX|LOCK_NB)") == "None"


@pytest.mark.parametrize("call", ["lock", "fcntl.flock"])
async def test_through_a_descriptor_for_reading(three: Three, call: str) -> None:
    await three.one("own = os.open(top + '/data/file', os.O_RDONLY)")
    assert await three.one(f"{call}(own, LOCK_SH|LOCK_NB)") == "None"
    assert await three.pod(f"{call}(fd, LOCK_EX|LOCK_NB)") == AGAIN
    if call == "lock":
        assert await three.one("lock(own, LOCK_EX|LOCK_NB)") == f"errno {errno.EBADF}"
    else:
        assert await three.one("fcntl.flock(own, LOCK_EX|LOCK_NB)") == "None"
    await three.one("os.close(own)")
    three.pod.begin(f"{call}(fd, LOCK_EX)")
    assert await three.pod.answer() == "None"


async def test_a_reader_that_becomes_a_writer(tree: Mounted) -> None:
    """What it has locked goes over to the description for writing, and nobody comes between."""
    verdict = await tree.call("stat", "/data/file")
    async with (
        servant(f"/proc/self/fd/{verdict.root}", verdict.root) as one,
        servant(str(tree.folder)) as pod,
    ):
        await pod("fd = os.open(top + '/data/file', os.O_RDWR)")
        await one("reading = os.open(top + '/data/file', os.O_RDONLY)")
        assert await one("lock(reading, LOCK_SH, 0, 10)") == "None"
        await one("fd = os.open(top + '/data/file', os.O_RDWR)")
        assert await one("lock(fd, LOCK_EX, 5, 10)") == "None"
        assert await pod("lock(fd, LOCK_EX|LOCK_NB, 0, 1)") == AGAIN
        assert await pod("lock(fd, LOCK_SH|LOCK_NB, 0, 5)") == "None"
        assert await pod("lock(fd, LOCK_SH|LOCK_NB, 0, 6)") == AGAIN


@pytest.mark.parametrize("call", ["lock", "fcntl.flock"])
async def test_who_waits(three: Three, call: str) -> None:
    assert await three.pod(f"{call}(fd, LOCK_EX)") == "None"
    three.one.begin(f"{call}(fd, LOCK_EX)")
    three.other.begin(f"{call}(fd, LOCK_EX)")
    assert not await any_line(three)
    three.one.process.send_signal(signal.SIGUSR1)
    assert await three.one.answer() == INTERRUPTED
    assert await three.pod(f"{call}(fd, LOCK_UN)") == "None"
    assert await three.other.answer() == "None"
    assert await three.pod(f"{call}(fd, LOCK_EX|LOCK_NB)") == AGAIN
    three.one.begin(f"{call}(fd, LOCK_EX)")
    assert not await any_line(three)
    three.one.process.kill()
    await asyncio.wait_for(three.one.process.wait(), 10)
    await three.other("os.close(fd)")
    three.pod.begin(f"{call}(fd, LOCK_EX)")
    assert await three.pod.answer() == "None"


async def any_line(three: Three) -> bytes:
    """What the first says, if it does so within the time that several attempts take."""
    assert three.one.process.stdout is not None
    try:
        return await asyncio.wait_for(three.one.process.stdout.readline(), 0.3)
    except asyncio.TimeoutError:
        return b""


async def test_a_signal_that_comes_as_the_lock_does(three: Three) -> None:
    """Who is told that he has it has it, and who is told of the signal has not."""
    results = set()
    for number in range(60):
        assert await three.pod("fcntl.flock(fd, LOCK_EX|LOCK_NB)") == "None"
        three.one.begin(f"timed(fd, {0.001 + 0.0003 * (number % 30)})")
        await asyncio.sleep(0.005)
        assert await three.pod("fcntl.flock(fd, LOCK_UN)") == "None"
        taken = await three.one.answer()
        results.add(taken)
        assert await three.pod("fcntl.flock(fd, LOCK_EX|LOCK_NB)") == (AGAIN if taken == "0" else "None")
        await three.one("fcntl.flock(fd, LOCK_UN)")
        await three.pod("fcntl.flock(fd, LOCK_UN)")
    assert results <= {"0", "-1"}


async def test_waiting_longer_than_one_turn(three: Three, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "TURN", 0.02)
    assert await three.pod("lock(fd, LOCK_EX)") == "None"
    three.one.begin("lock(fd, LOCK_EX)")
    assert not await any_line(three)
    assert await three.pod("lock(fd, LOCK_UN)") == "None"
    assert await three.one.answer() == "None"


async def test_what_was_written_under_a_lock_is_seen_under_the_next(three: Three) -> None:
    number = "int.from_bytes(os.pread(fd, 8, 0), 'little')"
    await three.pod("os.pwrite(fd, bytes(8), 0)")
    for turn in range(20):
        for place, each in enumerate((three.one, three.pod, three.other)):
            await each("lock(fd, LOCK_EX)")
            assert await each(number) == str(3 * turn + place)
            await each(f"os.pwrite(fd, ({number} + 1).to_bytes(8, 'little'), 0)")
            await each("lock(fd, LOCK_UN)")


@pytest.mark.parametrize("half", [locks, locking])
async def test_too_many_holders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, half: ModuleType) -> None:
    monkeypatch.setattr(half, "MOST_HOLDERS", 1)
    folder = tmp_path / "root"
    (folder / "data").mkdir(parents=True)
    (folder / "data/file").write_bytes(b"content")
    async with mounted(folder, tmp_path, mode="write") as tree:
        verdict = await tree.call("stat", "/data/file")
        here = f"/proc/self/fd/{verdict.root}"
        async with servant(here, verdict.root) as one, servant(here, verdict.root) as other:
            for each in (one, other):
                await each("fd = os.open(top + '/data/file', os.O_RDWR)")
            assert await one("lock(fd, LOCK_EX, 0, 1)") == "None"
            assert await other("lock(fd, LOCK_SH|LOCK_NB, 5, 1)") == NO_LOCK
            await one("os.close(fd)")
            await other("os.close(fd)")
            await other("fd = os.open(top + '/data/file', os.O_RDWR)")
            assert await other("lock(fd, LOCK_SH|LOCK_NB, 5, 1)") == "None"


async def test_the_sessions_end_ends_all(tmp_path: Path) -> None:
    folder = tmp_path / "root"
    (folder / "data").mkdir(parents=True)
    (folder / "data/file").write_bytes(b"content")
    async with mounted(folder, tmp_path, mode="write") as tree:
        verdict = await tree.call("stat", "/data/file")
        async with servant(f"/proc/self/fd/{verdict.root}", verdict.root) as one:
            await one("fd = os.open(top + '/data/file', os.O_RDWR)")
            assert await one("lock(fd, LOCK_EX)") == "None"
            assert not free(folder / "data/file")
            async with servant(f"/proc/self/fd/{verdict.root}", verdict.root) as waiting:
                await waiting("fd = os.open(top + '/data/file', os.O_RDWR)")
                waiting.begin("lock(fd, LOCK_EX)")
                await asyncio.wait_for(tree.layer.aclose(), 10)
                assert await waiting.answer() in ENDED
    assert free(folder / "data/file")


def free(path: Path) -> bool:
    """Can this process have a lock of it, of either kind?"""
    with open(path, "rb+") as pods:
        try:
            fcntl.lockf(pods, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(pods, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


async def test_without_writing_they_are_this_machines(tmp_path: Path) -> None:
    folder = tmp_path / "root"
    (folder / "data").mkdir(parents=True)
    (folder / "data/file").write_bytes(b"content")
    async with mounted(folder, tmp_path, mode="read") as tree:
        verdict = await tree.call("stat", "/data/file")
        here = f"/proc/self/fd/{verdict.root}"
        async with servant(here, verdict.root) as one, servant(here, verdict.root) as other:
            for each in (one, other):
                await each("fd = os.open(top + '/data/file', os.O_RDONLY)")
            tree.asked()
            assert await one("fcntl.flock(fd, LOCK_EX|LOCK_NB)") == "None"
            assert await other("fcntl.flock(fd, LOCK_EX|LOCK_NB)") == AGAIN
            assert tree.asked() == 0
            assert free(folder / "data/file")


# SQLite -----------------------------------------------------------------------------------------

COUNT = """
import os, sqlite3, sys, time
if len(sys.argv) > 3:
    os.chroot(sys.argv[3])
    os.chdir("/")
base = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
if sys.argv[2] == "new":
    base.execute("create table count (number)")
    base.execute("insert into count values (0)")
elif sys.argv[2] == "look":
    print(*base.execute("pragma integrity_check").fetchone(), *base.execute("select number from count").fetchone())
else:
    while len(sys.argv) > 3 and not os.path.exists("/srv/data/begun"):
        time.sleep(0.001)
    for _ in range(int(sys.argv[2])):
        base.execute("begin immediate")
        [(number,)] = base.execute("select number from count")
        base.execute("update count set number = ?", (number + 1,))
        base.execute("commit")
"""
ROUNDS = 40


async def test_sqlite_from_both_sides() -> None:
    """Two processes in a session, one in the target."""
    base = "/srv/data/base"
    async with Sandbox.start({**FILES, "/srv/data/x": b""}) as sandbox:
        await pods(sandbox.pid, base, "new")
        working = asyncio.create_task(pods(sandbox.pid, base, str(ROUNDS)))
        script = f'touch /srv/data/begun; "$0" -c "$1" "$2" {ROUNDS} & first=$!; "$0" -c "$1" "$2" {ROUNDS} && wait $first'
        program = ["bash", "-c", script, sys.executable, COUNT, base]
        await asyncio.to_thread(run, sandbox.pid, program, mode="write", remote=["^/srv/data"])
        await working
        assert await pods(sandbox.pid, base, "look") == f"ok {3 * ROUNDS}"


async def pods(pid: int, *words: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", COUNT, *words, f"/proc/{pid}/root"), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode().strip()
