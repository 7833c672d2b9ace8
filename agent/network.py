"""Threads in the target's network namespace: what they make (sockets) belongs to it, whoever uses it.

The first thread enters before the agent gives its rights up, and keeps only those that count in there; the
others are started by it, so they are where it is and may what it may. The agent's own threads stay where
they are: its listener is reached in the agent's namespace.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from pymirror.agent import namespaces, rights
from pymirror.core.capability import CAPABILITIES

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
ONCE = frozenset({CAPABILITIES.index("SYS_ADMIN")})
"""Needed to enter and not afterwards: nobody keeps it."""
THERE = frozenset({CAPABILITIES.index("NET_RAW"), CAPABILITIES.index("NET_ADMIN")})
"""Of use in the target's network: those threads keep them, and no other."""
MOST_THREADS = 16
"""So many slow names delay nobody; a thread that waits costs some 100 KiB."""

_libc = ctypes.CDLL(None, use_errno=True)
_Job = tuple[Callable[[], Any], asyncio.Future[Any]]


class Network:
    """Make it before `rights.confine`. pid 0: the agent's own namespace. keep: capabilities, of `THERE`."""

    def __init__(self, pid: int, keep: frozenset[int] = frozenset()) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = self._idle = 0
        self._refusal: OSError | None = None
        self._entered = threading.Event()
        if pid and (keep or not shared(pid)):
            self._spawn(lambda: self._enter(pid, keep))
            self._entered.wait()

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises, from a thread in there; PermissionError naming the lack."""
        if self._refusal is not None:
            raise OSError(self._refusal.errno, self._refusal.strerror)
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if not self._threads:
            self._spawn(lambda: None)
        self._jobs.put((work, future))
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                _discard(future.result())  # it came in the same turn
            raise

    def close(self) -> None:
        """Let the threads end; those inside a job end with the process."""
        for _ in range(self._threads):
            self._jobs.put(None)

    def _spawn(self, first: Callable[[], None]) -> None:
        """OSError: the system has no thread for us."""
        self._threads += 1
        self._idle += 1
        try:
            threading.Thread(target=self._work, args=(first,), daemon=True, name="network").start()
        except RuntimeError as error:
            self._threads -= 1
            self._idle -= 1
            raise OSError(errno.EAGAIN, f"a thread for the target's network: {error}") from error

    def _enter(self, pid: int, keep: frozenset[int]) -> None:
        try:
            if not shared(pid):
                enter(pid)
        except OSError as error:
            self._refusal = error
        finally:
            rights.give_up(keep)
            self._entered.set()

    def _work(self, first: Callable[[], None]) -> None:
        first()
        while (job := self._jobs.get()) is not None:
            with self._lock:
                self._idle -= 1
                if not self._idle and self._threads < MOST_THREADS:
                    with suppress(OSError):  # then those there are do all of it
                        self._spawn(lambda: None)  # from here: it starts in this thread's namespace
            _do(*job)
            with self._lock:
                self._idle += 1


def _do(work: Callable[[], Any], future: asyncio.Future[Any]) -> None:
    try:
        result = work()
    except BaseException as error:
        _settle(future, future.set_exception, error)
    else:
        _settle(future, future.set_result, result)


def _settle(future: asyncio.Future[Any], how: Callable[[Any], None], value: Any) -> None:
    def now() -> None:
        if not future.done():
            how(value)
        else:
            _discard(value)

    try:
        future.get_loop().call_soon_threadsafe(now)
    except RuntimeError:  # the loop is closed: the agent is ending
        return


def _discard(value: Any) -> None:
    """What was made for somebody who was cancelled is nobody's."""
    if hasattr(value, "close"):
        value.close()


def enter(pid: int) -> None:
    """This thread into the network namespace of `pid`. PermissionError naming what is missing."""
    try:
        descriptor = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        raise _lack(errno.EACCES, pid, "SYS_PTRACE") from None
    try:
        if _libc.setns(descriptor, CLONE_NEWNET) != 0:
            raise _lack(ctypes.get_errno(), pid, "SYS_ADMIN")
    finally:
        os.close(descriptor)


def _lack(code: int, pid: int, right: str) -> PermissionError:
    return PermissionError(
        errno.EPERM if code == errno.EPERM else code,
        f"the network namespace of process {pid} may not be entered: the agent lacks {right}",
    )


def shared(pid: int) -> bool:
    """Are we in the network namespace of `pid`? Without the right to look at it, by its /proc/net."""
    if namespaces.same(pid, "net"):
        return True
    try:
        return os.stat(f"/proc/{pid}/net/dev").st_ino == os.stat("/proc/self/net/dev").st_ino
    except OSError:
        return False
