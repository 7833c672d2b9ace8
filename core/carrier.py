"""Sockets joined to streams of a link: their bytes go into messages, and out of them, many in one call.

What begins and ends, and what has to wait, is the callbacks' of those who joined them. A socket is read when
a message is made, with what its stream has room for: so nothing of it is queued, and while nothing can
leave, nothing is read. The calls themselves are C (`batch.c`).
"""

from __future__ import annotations

import asyncio
import errno
import select
from collections.abc import Callable
from typing import Any

from attrs import frozen

from pymirror.core import _batch as batch
from pymirror.core.mux import Mux

AT_ONCE = 128
"""Sockets read for one message."""
LARGE = 1 << 20
"""Bytes of a message that is on its way sooner without theirs, and might grow larger than one may be."""
AGAIN = {0, errno.EAGAIN, errno.EINTR}


@frozen
class _Joined:
    number: int
    look: Callable[[], object]
    broken: Callable[[], object]


class Carrier:
    """Of one link. depart() makes and sends messages: with `due`, what `fill` adds to one."""

    def __init__(self, mux: Mux, depart: Callable[[], object]) -> None:
        self._loop = asyncio.get_running_loop()
        self._mux, self._depart = mux, depart
        self._epoll: select.epoll | None = None
        self._joined: dict[int, _Joined] = {}
        self._watches = self._tells = False
        self._over: list[tuple[int, int, bool]] = []  # (socket, stream, reset): whom to tell
        self.due = False

    def watch(self, number: int, fd: int, look: Callable[[], object], broken: Callable[[], object]) -> None:
        """Read that socket into the stream. look(): no room, much, or no more to come. broken(): reset."""
        if self._epoll is None:
            self._epoll = select.epoll()
        self._joined[fd] = _Joined(number, look, broken)
        self._epoll.register(fd, select.EPOLLIN)
        if not self.due:
            self._wake(True)

    def leave(self, fd: int) -> None:
        """Before it is closed, if it is watched."""
        if self._joined.pop(fd, None) is not None and self._epoll is not None:
            self._epoll.unregister(fd)

    def straight(self, number: int, fd: int) -> None:
        """Nothing waits for that socket: what arrives for it may go there at once."""
        self._mux.straight(number, fd)

    def was_reset(self, fd: int) -> bool:
        """Its reset was read for a message and is not told yet: who reads it now sees an end."""
        return any(reset and fd == other for other, _, reset in self._over)

    def bend(self, number: int) -> None:
        """Something may wait for its socket from now on."""
        self._mux.sockets.pop(number, None)

    def close(self) -> None:
        self._wake(False)
        self._joined.clear()
        if self._epoll is not None:
            self._epoll.close()
            self._epoll = None

    def _wake(self, wanted: bool) -> None:
        if self._epoll is not None and wanted is not self._watches:
            self._watches = wanted
            if wanted:
                self._loop.add_reader(self._epoll.fileno(), self._ready)
            else:
                self._loop.remove_reader(self._epoll.fileno())

    def look(self) -> None:
        """Before a message is made anyway: it may take along what sockets have by now."""
        self.due = self.due or self._watches

    def _ready(self) -> None:
        self.due = self._tells = True
        self._depart()
        self._tell()
        if self.due:  # nothing can leave: whoever makes the next message reads them
            self._wake(False)

    def fill(self, parts: list[Any]) -> list[Any]:
        """A message's parts, and behind them what the sockets have; if it is large, the next one's."""
        if parts and len(parts[0]) > LARGE:
            return parts
        self.due = False
        self._wake(True)
        wanted = self._wanted()
        sequence, received = self._mux.numbers
        data, after, found = batch.fill(wanted, sequence, received) if wanted else (b"", sequence, [])
        for (fd, number, room), (taken, state) in zip(wanted, found, strict=True):
            if taken < room:
                self._mux.spared(number, room - taken)
            if state not in AGAIN:
                self._over.append((fd, number, state > 0))
        if self._over and not self._tells:
            self._tells = True
            self._loop.call_soon(self._tell)  # never from within a call of theirs
        if after == sequence:
            return parts
        self._mux.joined(after)
        return [parts[0] + data, *parts[1:]] if parts else [data]

    def _wanted(self) -> list[tuple[int, int, int]]:
        """(socket, stream, room) of those that have something and may be read."""
        wanted = []
        assert self._epoll is not None
        for fd, _ in self._epoll.poll(0, AT_ONCE):
            number = self._joined[fd].number
            if self._mux.waits(number):
                continue
            room = self._mux.reserve(number)
            if room:
                wanted.append((fd, number, room))
            else:
                self._over.append((fd, number, False))
        return wanted

    def _tell(self) -> None:
        self._tells = False
        over, self._over = self._over, []
        over.sort(key=lambda each: not each[2])  # who looks at a socket that was reset sees an end
        for fd, number, reset in over:
            joined = self._joined.get(fd)
            if joined is not None and joined.number == number:  # else it is another's meanwhile
                (joined.broken if reset else joined.look)()
