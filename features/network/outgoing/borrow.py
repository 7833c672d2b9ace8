"""The program's socket by a descriptor of ours, for what only its owner can do.

It is known by its SO_COOKIE: the descriptor's number may be another's by now.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from collections.abc import Callable

from pymirror.core.syscalls import syscall
from pymirror.features.network.listeners import Listeners, Place

_SO_COOKIE = 57


def cookie_of(sock: socket.socket) -> int:
    return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8), sys.byteorder)


def borrowed(pid: int, number: int, cookie: int) -> socket.socket | None:
    """The socket a process has under that number; None: it is gone, or not to be had."""
    try:
        process = os.pidfd_open(pid)
    except OSError:
        return None
    try:
        fd = syscall("pidfd_getfd", process, number, 0)
    except OSError:
        return None
    finally:
        os.close(process)
    try:
        found = socket.socket(fileno=fd)
    except OSError:
        os.close(fd)
        return None
    if cookie_of(found) == cookie:
        return found
    found.close()
    return None


class Holders:
    """Finds the program's sockets for all who ask: one walk through its processes for those of one moment.

    listeners(): who walks now; the program's first process is known only once it has started.
    """

    def __init__(self, listeners: Callable[[], Listeners]) -> None:
        self._listeners = listeners
        self._asked: dict[Place, asyncio.Future[tuple[int, int] | None]] = {}
        self._walking: asyncio.Task[None] | None = None

    async def find(self, place: Place) -> tuple[int, int] | None:
        """(process, descriptor) of that socket; None: no process of the program has it. OSError."""
        asked = self._asked.setdefault(place, asyncio.get_running_loop().create_future())
        if self._walking is None:
            self._walking = asyncio.ensure_future(self._walk())
        return await asyncio.shield(asked)  # it may be others' too

    async def hold(self, protocol: int, port: int, cookie: int) -> socket.socket | None:
        """That socket by a descriptor of ours; None: as of `borrowed`."""
        holder = await self.find(Place(protocol, port, cookie))
        return borrowed(*holder, cookie) if holder is not None else None

    async def aclose(self) -> None:
        if self._walking is not None:
            self._walking.cancel()
            await asyncio.gather(self._walking, return_exceptions=True)

    async def _walk(self) -> None:
        """Who asks during a walk is answered by the next: the socket may be newer."""
        asked: dict[Place, asyncio.Future[tuple[int, int] | None]] = {}
        try:
            while self._asked:
                asked, self._asked = self._asked, {}
                found = await asyncio.to_thread(self._listeners().holders, asked.keys())
                for place, answer in asked.items():
                    answer.set_result(found.get(place))
        except Exception as error:  # nobody is to wait for ever
            wrong = error if isinstance(error, OSError) else OSError(errno.EIO, repr(error))
            for answer in {**asked, **self._asked}.values():
                answer.set_exception(wrong)
                answer.exception()  # nobody may be left to hear of it
            self._asked = {}
        finally:
            self._walking = None
