"""One copied connection on its way to the program: bounded, and nobody waits for it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from pymirror.core.errors import PeerError
from pymirror.core.feature import Stream

LINGER = 10.0
"""Seconds without a byte of the program's answer, once the client has ended. mirrord's one second (6.1) takes
the request itself from a program that is slow to read it: a reset throws away what waits there."""
ANSWERS = 128 << 10

Filter = Callable[[bytes], bytes]
"""Of one copy: fed with the client's bytes as they come, it gives those that go on, of these and of earlier
ones. Until it gives any, nothing of the connection goes to the program."""


class Waiting:
    """Bytes of all copies that wait for the program."""

    size = 0


class Copy:
    """begin: opens the stream, or None. over: called once, when nothing goes this way any more; answered:
    when the program has ended its side; it may still read. Neither comes after `reset`."""

    def __init__(
        self,
        begin: Callable[[], Stream | None],
        chosen: Filter | None,
        waiting: Waiting,
        over: Callable[[Copy], object],
        answered: Callable[[Copy], object],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._begin, self._chosen, self._waiting = begin, chosen, waiting
        self._over, self._answered = over, answered
        self._stream: Stream | None = None
        self._unsent: deque[bytes | memoryview] = deque()
        self.unsent = 0
        self._ends = self._ended = self._theirs_ended = self._closed = False
        self._heard = 0.0
        self._leaving: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Before it is asked for anything else. What is filtered begins when something goes on."""
        if self._chosen is None:
            self._connect()

    def take(self, data: bytes) -> None:
        """What finds no room is kept: `unsent` bytes."""
        if self._chosen is not None:
            data = self._chosen(data)
        if data and self._stream is None:
            self._connect()
        if data and not self._closed:
            self._unsent.append(data)
            self._count(len(data))
            self._write()

    def end(self) -> None:
        """The client sends no more; the program may still answer."""
        self._ends = True
        self._write()

    def reset(self) -> None:
        """What has not left is not for the program any more, and what has is not complete."""
        self._over = self._answered = _nobody
        self._close()

    def _connect(self) -> None:
        stream = None if self._closed else self._begin()
        if stream is None:
            self._close()
            return
        self._stream = stream
        stream.attach(self._came, self._write)

    def _came(self) -> None:
        """Answers are dropped."""
        stream = self._stream
        if stream is None or self._closed:
            return
        try:
            while stream.read_now(ANSWERS):
                self._heard = self._loop.time()
        except BlockingIOError:
            return
        except (OSError, PeerError):
            self._close()
            return
        if self._ended or stream.broken is not None:
            self._close()
        elif not self._theirs_ended:
            self._theirs_ended = True
            self._answered(self)

    def _write(self) -> None:
        stream = self._stream
        try:
            while stream is not None and self._unsent:
                first = self._unsent[0]
                size = stream.write_now(first)
                self._count(-size)
                if size < len(first):
                    self._unsent[0] = memoryview(first)[size:]
                    return
                self._unsent.popleft()
        except (OSError, PeerError):
            self._close()
            return
        if self._ends and not self._ended and not self._closed:
            self._finish()

    def _finish(self) -> None:
        self._ended = True
        if self._stream is not None:
            self._stream.end()
        if self._stream is None or self._theirs_ended:
            self._close()
        else:
            self._heard = self._loop.time()
            self._leave()

    def _leave(self) -> None:
        left = self._heard + LINGER - self._loop.time()
        if left <= 0:
            self._close()
        elif not self._closed:
            self._leaving = self._loop.call_later(left, self._leave)

    def _count(self, size: int) -> None:
        self.unsent += size
        self._waiting.size += size

    def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._unsent.clear()
        self._count(-self.unsent)
        if self._leaving is not None:
            self._leaving.cancel()
        if self._stream is not None:
            self._stream.close()
        self._over(self)


def _nobody(_: Copy) -> None:
    return
