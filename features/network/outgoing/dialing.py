"""One connect under way in the target's network, by callbacks.

A connect on a non-blocking socket says EINPROGRESS also where it is over already, as it is to a
process of the same node: so it is asked a second time at once, and the loop only watches what is far.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any

from pymirror.features.network.outgoing.messages import Dial
from pymirror.features.network.outgoing.places import inside

RETRY = 0.02
"""Seconds until a unix socket whose queue of connections is full is asked again: nothing tells."""


class Dialing:
    """done(sock, code) is called once, unless it is cancelled: sock is the caller's, code 0 or an errno.

    root: descriptor of the target's root, for a unix socket's path. timeout: seconds, 0: the kernel's.
    given: as of `carry.Join`; set when this is over.
    """

    def __init__(
        self, dial: Dial, root: int, timeout: float, done: Callable[[socket.socket, int], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._dial, self._root, self._done = dial, root, done
        self._sock: socket.socket | None = None
        self._address: Any = None
        self._retry: asyncio.TimerHandle | None = None
        limited = timeout and dial.transport == "tcp"
        self._limit = self._loop.call_later(timeout, self._finish, errno.ETIMEDOUT) if limited else None
        self.over = self._watched = False
        self.given = asyncio.Event()

    def begin(self, sock: socket.socket, address: Any) -> None:
        """Connect a non-blocking socket of the right kind, which is this one's from here on.

        address: as Python has it, for TCP and UDP.
        """
        if self.over:
            sock.close()
            return
        self._sock, self._address = sock, address
        code = self._connect()
        self._try(self._connect() if code == errno.EINPROGRESS else code)

    def cancel(self) -> None:
        sock = self._end()
        if sock is not None:
            sock.close()

    def _try(self, code: int) -> None:
        assert self._sock is not None
        if code in (errno.EINPROGRESS, errno.EALREADY):
            if not self._watched:
                self._watched = True
                self._loop.add_writer(self._sock.fileno(), self._again)
        elif code == errno.EAGAIN and self._sock.family == socket.AF_UNIX:
            self._retry = self._loop.call_later(RETRY, self._again)
        else:
            self._finish(code)

    def _again(self) -> None:
        self._try(self._connect())

    def _connect(self) -> int:
        assert self._sock is not None
        place = self._dial.path
        if self._sock.family != socket.AF_UNIX:
            return self._sock.connect_ex(self._address)
        if place.startswith(b"\0"):
            return self._sock.connect_ex(place)
        try:
            with inside(self._root, place) as name:
                return self._sock.connect_ex(name)
        except OSError as error:
            return error.errno or errno.EIO

    def _finish(self, code: int) -> None:
        sock = self._end()
        if sock is not None:
            self._done(sock, code)

    def _end(self) -> socket.socket | None:
        sock, self._sock = self._sock, None
        for timer in (self._retry, self._limit):
            if timer is not None:
                timer.cancel()
        if sock is not None and self._watched:
            self._loop.remove_writer(sock.fileno())
        self.over = True
        self.given.set()
        return sock


def kind_of(dial: Dial) -> tuple[int, int]:
    """Family and type of the socket to make."""
    if dial.transport in ("unix", "unixpacket"):
        return socket.AF_UNIX, socket.SOCK_STREAM if dial.transport == "unix" else socket.SOCK_SEQPACKET
    family = socket.AF_INET6 if ":" in dial.host else socket.AF_INET
    return family, socket.SOCK_DGRAM if dial.transport == "udp" else socket.SOCK_STREAM
