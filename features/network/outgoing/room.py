"""Where a connect waits that its program polls for, when the target is slow to answer.

The room is a listener that drops every packet, so that the program's socket goes on connecting. When the
target has connected, a socket with the listener's address connects to the program's (TCP's simultaneous open:
the program's next packet could be seconds away). When the target has failed, the listener goes, and the
kernel refuses the program's next packet. The program's socket is known by its SO_COOKIE, before it is met and
again afterwards: whoever else connects here is not heard, and what has its address afterwards is closed.
"""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pymirror.core.call import Address
from pymirror.features.network import sockdiag
from pymirror.features.network.carry import end_by_reset
from pymirror.features.network.loopback import family, loopback
from pymirror.features.network.outgoing.looks import Looks

T = TypeVar("T")
Hold = Callable[[int, int, int], Awaitable["socket.socket | None"]]

LONGEST = 800
"""Moments of the last look for the program's socket, which the pump is to connect; the first is after one."""
STILL = 100
"""Moments between two looks whether the program still connects."""
_DROP = struct.pack("HBBI", 6, 0, 0, 0)
"""A socket filter of one instruction: return 0, the number of bytes that are let through."""
_ATTACH, _DETACH = 26, 27


class Room:
    """For one connection of IP version 4 or 6. OSError: there is no such loopback.

    guest: the SO_COOKIE of the program's socket.
    """

    def __init__(self, version: int, guest: int, looks: Looks) -> None:
        host = loopback(version)
        self._family = family(host)
        self._cookie, self._looks = guest, looks
        self._listener = self._bound((host, 0), shared=0)
        self._end: socket.socket | None = None
        self.meets = False  # the target has connected, and so may the program by now
        try:
            code = ctypes.create_string_buffer(_DROP)
            program = struct.pack("HL", 1, ctypes.addressof(code))
            self._listener.setsockopt(socket.SOL_SOCKET, _ATTACH, program)
            self._listener.listen(1)
        except BaseException:
            self._listener.close()
            raise
        self.address = Address(*self._listener.getsockname()[:2])

    async def joined(self, connected: Awaitable[bool], hold: Hold) -> socket.socket | None:
        """The other end of the program's socket, once `connected` is true.

        None: it is false, or the program waits no more, or its socket did not come here within ten seconds.
        hold(protocol, port, cookie): the program's socket by a descriptor of ours, if it is to be had, while
        they meet: one that is closed as soon as it has sent is still known then.
        """
        answer, met = asyncio.ensure_future(connected), None
        try:
            found = await self._arrived()
            if found is not None and await self._patient(answer):
                self.meets = True
                met = await self._patient(self._met(*found, hold))
            return met
        finally:
            answer.cancel()
            self._listener.close()
            if self._end is not None and self._end is not met:
                self._end.close()

    async def _arrived(self) -> tuple[int, sockdiag.Found] | None:
        """(protocol, the guest)."""
        pause = 1
        while pause <= LONGEST:
            found = (await self._looks.after(pause)).find(self._cookie)
            if found is not None:
                return found
            pause *= 2
        return None

    async def _patient(self, work: Awaitable[T]) -> T | None:
        """Its result, or None when the program waits no more."""
        task, gone = asyncio.ensure_future(work), asyncio.ensure_future(self._left())
        try:
            await asyncio.wait([task, gone], return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            return gone.result()
        finally:
            task.cancel()
            gone.cancel()
            await asyncio.gather(task, gone, return_exceptions=True)  # who waits for `_end` leaves first

    async def _left(self) -> None:
        missed = 0
        while missed < 2:  # once may be because it is connected just now
            look = await self._looks.after(STILL)
            missed = 0 if look.find(self._cookie) else missed + 1

    async def _met(self, protocol: int, guest: sockdiag.Found, hold: Hold) -> socket.socket | None:
        held = await hold(protocol, guest.port, self._cookie)
        try:
            return await (self._accepted(guest) if protocol == sockdiag.MPTCP else self._opened(guest))
        finally:
            if held is not None:
                held.close()

    async def _opened(self, guest: sockdiag.Found) -> socket.socket | None:
        # Shared from here on and no earlier: who binds to any port that is free could be given this one.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._end = self._bound(self._listener.getsockname(), shared=1)
        try:
            await asyncio.get_running_loop().sock_connect(self._end, (str(guest.host), guest.port))
        except OSError:  # the program left just now
            return None
        return self._end if self._is_at(sockdiag.TCP, guest.port) else None

    async def _accepted(self, guest: sockdiag.Found) -> socket.socket:
        """An MPTCP socket cannot be met half-way: its next packet is let in."""
        self._listener.setsockopt(socket.SOL_SOCKET, _DETACH, 0)
        while True:
            self._end, peer = await asyncio.get_running_loop().sock_accept(self._listener)
            if peer[:2] == (str(guest.host), guest.port) and self._is_at(sockdiag.MPTCP, guest.port):
                return self._end
            self._end.close()  # another user's

    def _is_at(self, protocol: int, port: int) -> bool:
        """Is the socket that is connected to us from that port the guest?"""
        there = sockdiag.sockets(protocol, sockdiag.ANY_STATE, port, self.address.port)
        return any(each.cookie == self._cookie for each in there)

    def _bound(self, place: tuple[str, int], shared: int) -> socket.socket:
        made = socket.socket(self._family, socket.SOCK_STREAM)
        try:
            made.setblocking(False)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
            end_by_reset(
                made, True
            )  # killed before it is joined, nothing is complete; what is accepted inherits it
            made.bind(place)
        except BaseException:
            made.close()
            raise
        return made
