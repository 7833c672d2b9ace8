"""The guard: a tiny process that cleans up when pymirror is killed so that it cannot do so itself.

Forked before any thread exists, in a session of its own; it holds one end of a pipe. `close` ends it
without a deed. When the pipe ends without `close`, it kills what is left of the program and takes away
what was registered: mounts first, then paths, never crossing into another file system.
"""

from __future__ import annotations

import os
import select
import signal
import stat
import time

STUCK = 1.0  # seconds a killed process may take to let go of its descriptors
ROUNDS = 100  # of killing what was started while we were killing, 20 ms apart
SESSION = b"PYMIRROR_SESSION="


def _line(pid: int, name: str) -> bytes:
    """A file of /proc/PID; empty when the process is gone or not ours to read."""
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:
        return b""


def _parent(pid: int) -> int:
    """0: gone, or a zombie, which needs no killing."""
    fields = _line(pid, "stat").rpartition(b")")[2].split()
    return int(fields[1]) if fields and fields[0] != b"Z" else 0


def members(pid: int, session: str) -> set[int]:
    """`pid` with its descendants (none for 0), and whoever has the session in its environment."""
    parents = {int(name): _parent(int(name)) for name in os.listdir("/proc") if name.isdigit()}
    found = {pid} if parents.get(pid) else set()
    mark = SESSION + session.encode()
    found |= {one for one in parents if session and mark in _line(one, "environ").split(b"\0")}
    grown = -1
    while grown != len(found):
        grown = len(found)
        found |= {one for one, parent in parents.items() if parent in found}
    return {one for one in found if parents[one]} - {os.getpid(), os.getppid()}


class Guard:
    """pymirror's end of it."""

    def __init__(self, pid: int, pipe: int) -> None:
        self._pid = pid
        self._pipe = pipe

    @classmethod
    def start(cls) -> Guard:
        """Fork the guard. Call it before the first thread."""
        theirs, ours = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(ours)
            _be_guard(theirs)
        os.close(theirs)
        return cls(pid, ours)

    def session(self, identity: str) -> None:
        """The value of PYMIRROR_SESSION in the program's environment."""
        self._tell(b"session", identity.encode())

    def watch_pid(self, pid: int) -> None:
        """The program."""
        self._tell(b"pid", str(pid).encode())

    def remove(self, path: str) -> None:
        """A file or folder to take away, with what is in it."""
        self._tell(b"remove", os.fsencode(os.path.abspath(path)))

    def unmount(self, path: str) -> None:
        """A mount to take away."""
        self._tell(b"unmount", os.fsencode(os.path.abspath(path)))

    def cut(self, connection: int) -> None:
        """A FUSE connection to abort if pymirror, killed, cannot die because somebody waits for it."""
        self._tell(b"cut", b"%d" % connection)

    def close(self) -> None:
        """The normal end: the guard goes without a deed. Twice is once."""
        if self._pipe < 0:
            return
        self._tell(b"close", b"")
        os.close(self._pipe)
        self._pipe = -1
        os.waitpid(self._pid, 0)

    def _tell(self, verb: bytes, value: bytes) -> None:
        try:
            os.write(self._pipe, verb + b" " + value + b"\0")  # below PIPE_BUF, so in one piece
        except BrokenPipeError:
            return  # somebody killed the guard: the session works without it


class _Orders:
    def __init__(self) -> None:
        self.session = ""
        self.programs: list[tuple[int, int]] = []  # pid, descriptor that keeps the number from being reused
        self.paths: list[bytes] = []
        self.mounts: list[bytes] = []
        self.connections: list[int] = []
        self.closed = False

    def take(self, record: bytes) -> None:
        verb, _, value = record.partition(b" ")
        if verb == b"session":
            self.session = value.decode()
        elif verb == b"pid":
            try:
                self.programs.append((int(value), os.pidfd_open(int(value))))
            except ProcessLookupError:
                return
        elif verb == b"remove":
            self.paths.append(value)
        elif verb == b"unmount":
            self.mounts.append(value)
        elif verb == b"cut":
            self.connections.append(int(value))
        elif verb == b"close":
            self.closed = True


def _be_guard(pipe: int) -> None:
    try:
        os.setsid()
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        _let_go_of_everything_but(pipe)
        orders = _listen(pipe)
        if not orders.closed:
            _clean(orders)
    finally:
        os._exit(0)  # never back into pymirror's own code


def _let_go_of_everything_but(pipe: int) -> None:
    """Standard streams too: who reads the program's output waits for the last holder."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        if number != pipe:
            os.dup2(null, number)
    os.closerange(3, pipe)
    os.closerange(max(pipe + 1, 3), os.sysconf("SC_OPEN_MAX"))


def _hear_of_death() -> int:
    """A descriptor that is readable when pymirror's first thread has ended.

    The pipe tells it too, but not while another of its threads sleeps in a way no signal ends.
    """
    import ctypes  # only here: pymirror itself need not have it

    readable, written = os.pipe()
    os.set_blocking(written, False)
    signal.set_wakeup_fd(written)
    signal.signal(signal.SIGUSR1, lambda *_: None)
    set_pdeathsig = 1
    ctypes.CDLL(None).prctl(set_pdeathsig, signal.SIGUSR1, 0, 0, 0)
    return readable


def _listen(pipe: int) -> _Orders:
    orders = _Orders()
    death = _hear_of_death()
    watched, limit = [pipe, death], None
    while not orders.closed:
        ready, _, _ = select.select(watched, [], [], limit)
        if pipe in ready:
            if not _hear(pipe, orders):
                break
        elif ready:  # dead, and the pipe is still open: not every thread of it
            watched, limit = [pipe], STUCK
        else:
            for connection in orders.connections:
                _cut(connection)
    return orders


def _hear(pipe: int, orders: _Orders) -> bool:
    """Take what has come; False at the end. A record is written in one piece, and so read in one."""
    more = os.read(pipe, 65536)
    for record in more.split(b"\0")[:-1]:
        orders.take(record)
    return bool(more)


def _cut(connection: int) -> None:
    """Abort a FUSE connection. Its process still has it open, so the number is still its own."""
    place = "/sys/fs/fuse/connections"
    abort = f"echo 1 > {place}/{connection}/abort"
    if os.path.exists(f"{place}/{connection}/abort"):
        os.spawnlp(os.P_WAIT, "sh", "sh", "-c", abort)
    else:  # in containers the file system that shows them is not mounted
        os.spawnlp(
            os.P_WAIT, "unshare", "unshare", "-m", "sh", "-c", f"mount -t fusectl none {place} && {abort}"
        )


def _clean(orders: _Orders) -> None:
    for _ in range(ROUNDS):
        left: set[int] = members(0, orders.session)
        for pid, descriptor in orders.programs:
            if _alive(descriptor):
                left |= members(pid, "")
        for pid in left:
            _kill(pid)
        if not left:
            break
        time.sleep(0.02)
    for mount in reversed(orders.mounts):
        _unmount(mount)
    for path in orders.paths:
        _erase(path)


def _alive(descriptor: int) -> bool:
    try:
        signal.pidfd_send_signal(descriptor, 0)
    except ProcessLookupError:
        return False
    return True


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return  # gone, or no longer ours (setuid): nothing more can be done


def _unmount(path: bytes) -> None:
    import ctypes  # only here: the guard costs nothing until it acts

    detach = 2
    if ctypes.CDLL(None, use_errno=True).umount2(path, detach) != 0:
        os.spawnlp(os.P_WAIT, "fusermount3", "fusermount3", "-u", "-z", "--", os.fsdecode(path))


def _erase(path: bytes, device: int = -1) -> None:
    try:
        seen = os.lstat(path)
        if device >= 0 and seen.st_dev != device:
            return  # a mount that stayed: what is in it is not ours
        if not stat.S_ISDIR(seen.st_mode):
            os.unlink(path)
            return
        for name in os.listdir(path):
            _erase(os.path.join(path, name), seen.st_dev)
        os.rmdir(path)
    except OSError:
        return  # taken away by somebody else, or busy: the rest is still tried
