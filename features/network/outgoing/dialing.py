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
    """done(sock, code) is called once, whatever happens, unless it is cancelled.

    sock: connected, and the caller's from then on; None: code is an errno. root: descriptor of the target's
    root, for a unix socket's path. timeout: seconds, 0: the kernel's. given: as of `carry.Join`; set when
    this is over.
    """

    def __init__(
        self, dial: Dial, root: int, timeout: float, done: Callable[[socket.socket | None, int], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._dial, self._root, self._done = dial, root, done
        self._sock: socket.socket | None = None
        self._address: Any = None
        self._retry: asyncio.TimerHandle | None = None
        limited = timeout and dial.transport == "tcp"
        self._limit = self._loop.call_later(timeout, self.fail, errno.ETIMEDOUT) if limited else None
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
        self._again(twice=True)

    def fail(self, code: int) -> None:
        """It ends with that errno, if it has not ended yet."""
        if not self.over:
            self.cancel()
            self._done(None, code)

    def cancel(self) -> None:
        sock = self._end()
        if sock is not None:
            sock.close()

    def _again(self, twice: bool = False) -> None:
        try:
            code = self._connect()
            self._try(self._connect() if twice and code == errno.EINPROGRESS else code)
        except OSError as error:
            self.fail(error.errno or errno.EIO)
        except BaseException:  # a bug here is no wait without an end there
            self.fail(errno.EIO)
            raise

    def _try(self, code: int) -> None:
        assert self._sock is not None
        if code in (errno.EINPROGRESS, errno.EALREADY):
            if not self._watched:
                self._watched = True
                self._loop.add_writer(self._sock.fileno(), self._again)
        elif code == errno.EAGAIN and self._sock.family == socket.AF_UNIX:
            self._retry = self._loop.call_later(RETRY, self._again)
        elif code:
            self.fail(code)
        else:
            self._done(self._end(), 0)

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
