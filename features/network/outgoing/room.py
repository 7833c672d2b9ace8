"""Where a connect waits that its program polls for, when the target is slow to answer.

The room is a listener that drops every packet, so that the program's socket goes on connecting: it is not
told more than is known, and its own limits of time hold. When the target has connected, a socket with the
listener's address connects to the program's, and both are connected (TCP's simultaneous open: the program's
next packet could be seconds away). When the target has failed, the listener goes, and the kernel refuses
the program's next packet.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import socket
import struct
from collections.abc import Awaitable
from typing import TypeVar

from pymirror.core.call import Address
from pymirror.features.network.outgoing import sockdiag

T = TypeVar("T")

MOMENT, LONGEST = 0.01, 8.0
"""Seconds between two looks for the program's socket, which the pump is to connect; doubled each time."""
LOOK = 1.0
"""Seconds between two looks whether the program still connects; nobody tells when it does not."""
_DROP = struct.pack("HBBI", 6, 0, 0, 0)
"""A socket filter of one instruction: return 0, the number of bytes that are let through."""
_ATTACH, _DETACH = 26, 27


class Room:
    """For one connection of IP version 4 or 6. OSError: there is no such loopback."""

    def __init__(self, version: int) -> None:
        self._family, host = (socket.AF_INET, "127.0.0.1") if version == 4 else (socket.AF_INET6, "::1")
        self._listener = self._bound((host, 0), shared=0)
        self._end: socket.socket | None = None
        try:
            code = ctypes.create_string_buffer(_DROP)
            program = struct.pack("HL", 1, ctypes.addressof(code))
            self._listener.setsockopt(socket.SOL_SOCKET, _ATTACH, program)
            self._listener.listen(1)
        except BaseException:
            self._listener.close()
            raise
        self.address = Address(*self._listener.getsockname()[:2])

    async def joined(self, connected: Awaitable[bool]) -> socket.socket | None:
        """The other end of the program's socket, once `connected` is true.

        None: it is false, or the program waits no more, or its socket did not come here within ten seconds.
        """
        answer, met = asyncio.ensure_future(connected), None
        try:
            guest = await self._arrived()
            if guest is not None and await self._patient(answer):
                met = await self._patient(self._met(guest))
            return met
        finally:
            answer.cancel()
            self._listener.close()
            if self._end is not None and self._end is not met:
                self._end.close()

    async def _arrived(self) -> sockdiag.Found | None:
        pause = MOMENT
        while pause < LONGEST:
            if guests := self._guests(socket.IPPROTO_TCP):
                return guests[0]
            await asyncio.sleep(pause)
            pause *= 2
        return None

    async def _patient(self, work: Awaitable[T]) -> T | None:
        """Its result, or None when the program waits no more."""
        task, missed = asyncio.ensure_future(work), 0
        try:
            while not (await asyncio.wait([task], timeout=LOOK))[0]:
                missed = 0 if self._guests(socket.IPPROTO_TCP) else missed + 1
                if missed == 2:  # once may be because it is connected just now
                    return None
            return task.result()
        finally:
            task.cancel()

    async def _met(self, guest: sockdiag.Found) -> socket.socket | None:
        if self._guests(sockdiag.MPTCP):  # it cannot be met half-way: its next packet is let in
            self._listener.setsockopt(socket.SOL_SOCKET, _DETACH, 0)
            return await self._accepted((str(guest.host), guest.port))
        # Shared from here on and no earlier: who binds to any port that is free could be given this one.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._end = self._bound(self._listener.getsockname(), shared=1)
        try:
            await asyncio.get_running_loop().sock_connect(self._end, (str(guest.host), guest.port))
        except OSError:  # the program left just now
            return None
        return self._end

    async def _accepted(self, guest: tuple[str, int]) -> socket.socket:
        while True:
            self._end, peer = await asyncio.get_running_loop().sock_accept(self._listener)
            if peer[:2] == guest:
                return self._end
            self._end.close()  # another user's

    def _guests(self, protocol: int) -> list[sockdiag.Found]:
        try:
            return sockdiag.sockets(protocol, sockdiag.SYN_SENT, to=self.address.port)
        except OSError as error:
            if error.errno == errno.ENOENT:  # a kernel without this protocol
                return []
            raise

    def _bound(self, place: tuple[str, int], shared: int) -> socket.socket:
        made = socket.socket(self._family, socket.SOCK_STREAM)
        try:
            made.setblocking(False)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
            made.bind(place)
        except BaseException:
            made.close()
            raise
        return made
