"""The kernel's requests for a mount, as /dev/fuse has them: each gets exactly one answer, whatever happens.

Nothing waits here: what is known is answered within the reader's callback, the rest in a task each.
"""

from __future__ import annotations

import asyncio
import errno
import inspect
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from functools import partial

from pymirror.core.errors import PeerError
from pymirror.features.fs import fuse

log = logging.getLogger("pymirror.fs")

Body = bytes | memoryview
Begin = Callable[[fuse.Request], Body | Awaitable[Body] | None]
BUSY = (errno.ENOENT, errno.ENODEV, errno.EBADF)
"""What the kernel says to an answer nobody waits for any more: its asker was killed, or we end."""
KILL = 1 << signal.SIGKILL - 1
TURN = 32
"""Requests read in one turn of the loop."""


def is_dying(thread: int) -> bool:
    """Has it got a SIGKILL, or is it gone?"""
    try:
        with open(f"/proc/{thread}/status", encoding="ascii", errors="replace") as file:
            pending = [line.split()[1] for line in file if line.startswith(("SigPnd:", "ShdPnd:"))]
    except OSError:
        return True
    return any(int(mask, 16) & KILL for mask in pending)


class Device:
    """fd: of /dev/fuse. begin(request): the answer's body, or what brings it; None where none is due.

    A request's memory is good until `begin` returns. interruptible: opcodes that are given up at a signal;
    mortal: when who asks is being killed, as programs do not expect EINTR of them.
    """

    def __init__(
        self, fd: int, begin: Begin, interruptible: frozenset[int], mortal: frozenset[int] = frozenset()
    ) -> None:
        self.fd = fd
        self._begin, self._interruptible, self._mortal = begin, interruptible, mortal
        self._buffer = memoryview(bytearray(fuse.READ_BUFFER))
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._waiting: dict[int, int] = {}  # those that may be interrupted → 0, or whose death may do it
        self._ended = self._closed = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(fd, self._readable)

    def _readable(self) -> None:
        for _ in range(TURN):
            try:
                size = os.readv(self.fd, [self._buffer])
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.EINTR):
                    continue  # taken back before it was read
                if error.errno != errno.ENODEV:
                    log.error("the tree's device failed: %s", error)
                self._loop.remove_reader(self.fd)
                return
            self.serve(fuse.parse(self._buffer[:size]))

    def serve(self, request: fuse.Request) -> None:
        """Answer it, now or later."""
        if request.opcode == fuse.INTERRUPT:
            self._interrupt(request)
            return
        try:
            if self._ended and request.opcode not in fuse.SILENT:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            answer = self._begin(request)
        except Exception as error:
            self.put(fuse.failure(request.unique, self._code(error, request.opcode)))
            return
        if answer is None:
            return
        if isinstance(answer, (bytes, memoryview)):
            self._reply(request.unique, answer)
        else:
            self._wait(request.unique, request.opcode, request.thread, answer)

    def _wait(self, unique: int, opcode: int, thread: int, answer: Awaitable[Body]) -> None:
        task = self._tasks[unique] = self._loop.create_task(self._later(unique, opcode, answer))
        if opcode in self._interruptible or opcode in self._mortal:
            self._waiting[unique] = thread if opcode in self._mortal else 0
        task.add_done_callback(partial(self._done, unique, answer))

    def _done(self, unique: int, answer: Awaitable[Body], task: asyncio.Task[None]) -> None:
        del self._tasks[unique]
        self._waiting.pop(unique, None)
        if task.cancelled():  # before its first step: nobody has answered
            if inspect.iscoroutine(answer):
                answer.close()
            self.put(fuse.failure(unique, self._cancelled()))

    def _interrupt(self, request: fuse.Request) -> None:
        unique = fuse.interrupted(request.body)
        thread = self._waiting.get(unique)
        if thread is not None and (not thread or is_dying(thread)):
            self._tasks[unique].cancel()

    def _cancelled(self) -> int:
        """Who asked was interrupted; at the session's end all are."""
        return errno.EIO if self._ended else errno.EINTR

    async def _later(self, unique: int, opcode: int, work: Awaitable[Body]) -> None:
        try:
            body = await work
        except asyncio.CancelledError:
            self.put(fuse.failure(unique, self._cancelled()))
        except Exception as error:
            self.put(fuse.failure(unique, self._code(error, opcode)))
        else:
            self._reply(unique, body)

    @staticmethod
    def _code(error: Exception, opcode: int) -> int:
        if isinstance(error, OSError):
            return error.errno or errno.EIO
        if not isinstance(error, PeerError):
            log.error("the tree failed on a request of kind %d", opcode, exc_info=error)
        return errno.EIO

    def _reply(self, unique: int, body: Body) -> None:
        self.put(fuse.answer_head(unique, len(body)), body)

    def put(self, *parts: Body) -> None:
        """An answer, or something that the kernel has not asked for; nothing once the device is closed."""
        if self._closed:  # its number may be another file's by now
            return
        try:
            os.writev(self.fd, parts)
        except OSError as error:
            if error.errno not in BUSY:
                log.error("an answer was refused by the kernel: %s", error)

    async def end(self, limit: float) -> None:
        """What waits, and all that still comes, gets EIO. At most `limit` seconds; then `close`."""
        self._ended = True
        for task in [*self._tasks.values()]:
            task.cancel()
        if self._tasks:
            await asyncio.wait([*self._tasks.values()], timeout=limit)

    def close(self) -> None:
        """The descriptor is the caller's to close."""
        self._closed = True
        self._loop.remove_reader(self.fd)
