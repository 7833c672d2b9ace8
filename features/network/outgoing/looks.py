"""Who is connecting on this machine, looked at for all who wait: nothing tells when a socket comes or goes.

One dump of the kernel's table answers everybody whose turn is in the same moment, and the turns are made to
meet: a wait ends at a multiple of its own length.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from functools import cached_property

from pymirror.features.network import sockdiag

MOMENT = 0.01
"""Seconds; every wait is a multiple."""


class Look:
    """What there was in one moment: by SO_COOKIE, the sockets that send their first packet."""

    def __init__(self) -> None:
        self.tcp = _connecting(sockdiag.TCP)

    @cached_property
    def mptcp(self) -> dict[int, sockdiag.Found]:
        """Asked for when a socket is not among the others; those of its subflows there have other cookies."""
        return _connecting(sockdiag.MPTCP)

    def find(self, cookie: int) -> tuple[int, sockdiag.Found] | None:
        """(protocol, the socket)."""
        if cookie in self.tcp:
            return sockdiag.TCP, self.tcp[cookie]
        return (sockdiag.MPTCP, self.mptcp[cookie]) if cookie in self.mptcp else None


class Looks:
    """Everybody's of a session."""

    def __init__(self, look: Callable[[], Look] = Look) -> None:
        self._now = look
        self._next: dict[int, asyncio.Future[Look]] = {}  # by their time, in moments

    async def after(self, moments: int) -> Look:
        """The next one whose time is a multiple of `moments`. OSError: the kernel does not tell."""
        loop = asyncio.get_running_loop()
        time = (int(loop.time() / MOMENT) // moments + 1) * moments
        look = self._next.get(time)
        if look is None:
            look = self._next[time] = loop.create_future()
            loop.call_at(time * MOMENT, self._look, time)
        return await asyncio.shield(look)  # it is others' too

    def _look(self, time: int) -> None:
        look = self._next.pop(time)
        try:
            look.set_result(self._now())
        except OSError as error:
            look.set_exception(error)
            look.exception()  # nobody may be left to hear of it


def _connecting(protocol: int) -> dict[int, sockdiag.Found]:
    try:
        return {each.cookie: each for each in sockdiag.sockets(protocol, sockdiag.SYN_SENT)}
    except OSError as error:
        if error.errno == errno.ENOENT:  # a kernel without this protocol
            return {}
        raise
