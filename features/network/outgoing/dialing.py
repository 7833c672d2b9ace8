"""One connect under way in the target's network, by callbacks.

A connect on a non-blocking socket says EINPROGRESS also where it is over already, as it is to a
process of the same node: so it is asked a second time at once, and the loop only watches what is far.
A unix socket's path is looked up in a thread: what is mounted there may not answer.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import partial
from typing import Any

from pymirror.features.network.outgoing.messages import Dial
from pymirror.features.network.outgoing.places import inside

RETRY = 0.02
"""Seconds until a unix socket whose queue of connections is full is asked again: nothing tells."""


class Dialing:
    """done(sock, code) is called once, whatever happens, unless it is cancelled.

    sock: connected, and the caller's from then on; None: code is an errno. root: descriptor of the target's
    root, for a unix socket's path, and threads: those that look it up. timeout: seconds, 0: the kernel's.
    given: as of `carry.Join`; set when this is over.
    """

    def __init__(
        self,
        dial: Dial,
        root: int,
        timeout: float,
        done: Callable[[socket.socket | None, int], None],
        threads: Executor | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._dial, self._root, self._done, self._threads = dial, root, done, threads
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
        if self._dial.path and not self._dial.path.startswith(b"\0"):
            self._look_up()
            return
        with self._no_wait_without_an_end():
            code = self._connect()
            self._try(self._connect() if twice and code == errno.EINPROGRESS else code)

    @contextmanager
    def _no_wait_without_an_end(self) -> Iterator[None]:
        """Whatever is wrong here is told there."""
        try:
            yield
        except OSError as error:
            self.fail(error.errno or errno.EIO)
        except BaseException:  # a bug
            self.fail(errno.EIO)
            raise

    def _look_up(self) -> None:
        """The socket is the thread's until it comes back."""
        sock, self._sock = self._sock, None
        assert sock is not None
        looks = self._loop.run_in_executor(self._threads, _connect_below, sock, self._root, self._dial.path)
        looks.add_done_callback(partial(self._looked_up, sock))

    def _looked_up(self, sock: socket.socket, looks: asyncio.Future[int]) -> None:
        if self.over or looks.cancelled():
            sock.close()
            self.fail(errno.ECONNABORTED)
            return
        self._sock = sock
        with self._no_wait_without_an_end():
            self._try(looks.result())

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
        return self._sock.connect_ex(self._dial.path or self._address)

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


def _connect_below(sock: socket.socket, root: int, path: bytes) -> int:
    with inside(root, path) as name:
        return sock.connect_ex(name)


def kind_of(dial: Dial) -> tuple[int, int]:
    """Family and type of the socket to make."""
    if dial.transport in ("unix", "unixpacket"):
        return socket.AF_UNIX, socket.SOCK_STREAM if dial.transport == "unix" else socket.SOCK_SEQPACKET
    family = socket.AF_INET6 if ":" in dial.host else socket.AF_INET
    return family, socket.SOCK_DGRAM if dial.transport == "udp" else socket.SOCK_STREAM
