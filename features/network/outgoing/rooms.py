"""The rooms of a session: each is a task, from the verdict that sends a program's socket there to its end."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable

from pymirror.core.call import Address
from pymirror.features.network.outgoing.looks import Looks
from pymirror.features.network.outgoing.room import Hold, Room

log = logging.getLogger("pymirror.features.network.outgoing")


class Rooms:
    """hold: as of `Room.joined`."""

    def __init__(self, hold: Hold, looks: Looks) -> None:
        self._hold, self._looks = hold, looks
        self.waiting: dict[asyncio.Task[None], Room] = {}
        self._level = logging.WARNING

    def take(
        self,
        version: int,
        guest: int,
        connected: Awaitable[bool],
        joined: Callable[[socket.socket], object],
        never: Callable[[], None],
    ) -> Address:
        """Where that socket connects; `joined(socket)` is called when both are connected, else `never()`.

        The rest is as of `Room`, and so is OSError.
        """
        room = Room(version, guest, self._looks)
        waits = asyncio.ensure_future(self._wait(room, connected, joined, never))
        self.waiting[waits] = room
        waits.add_done_callback(self.waiting.pop)
        return room.address

    async def settle(self) -> None:
        """Until whoever meets has met: a program may be told that it is connected, send, and end at once."""
        await asyncio.gather(*(waits for waits, room in self.waiting.items() if room.meets))

    async def aclose(self) -> None:
        await asyncio.sleep(0)  # what has not begun would undo nothing
        waiting = list(self.waiting)
        for waits in waiting:
            waits.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    async def _wait(
        self,
        room: Room,
        connected: Awaitable[bool],
        joined: Callable[[socket.socket], object],
        never: Callable[[], None],
    ) -> None:
        sock = None
        try:
            sock = await room.joined(connected, self._hold)
        except OSError as error:
            level, self._level = self._level, logging.DEBUG  # told once: it may be so for each
            log.log(level, "a connection that was being made is lost: %s", error)
        finally:
            if sock is None:
                never()
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            joined(sock)
