"""Sockets of the target's network namespace, some of them made before they are needed.

A thread that is in the namespace makes them. To wait for it is two wake-ups of a thread, a fifth of
what a connection costs, so a few of each kind are kept and made anew behind the connection's back.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable
from functools import partial

from pymirror.features.network.carry import end_by_reset

Kind = tuple[int, int]
"""Family and type."""
KEPT = 16
InNetwork = Callable[[Callable[[], "Batch"]], Awaitable["Batch"]]


class Batch(list[socket.socket]):
    def close(self) -> None:
        """What nobody takes: `Target.in_network` calls this for who was cancelled."""
        for sock in self:
            sock.close()
        self.clear()


class Stock:
    """in_network: the target's."""

    def __init__(self, in_network: InNetwork) -> None:
        self._in_network = in_network
        self._kept: dict[Kind, Batch] = {}
        self._filling: dict[Kind, asyncio.Task[None]] = {}

    def take(self, kind: Kind) -> socket.socket | None:
        """One that is there; non-blocking, TCP without Nagle's delay."""
        kept = self._kept.get(kind)
        if kind not in self._filling and (kept is None or len(kept) <= KEPT // 2):
            task = self._filling[kind] = asyncio.ensure_future(self.fill(kind))
            task.add_done_callback(partial(self._filled, kind))
        return kept.pop() if kept else None

    async def make(self, kind: Kind) -> socket.socket:
        """A new one. OSError as a connect would get it there."""
        try:
            return (await self._in_network(partial(_make, kind, 1))).pop()
        except OSError as error:
            if error.errno == errno.EAFNOSUPPORT:  # no IPv6 there; of a connect no program expects that
                raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH)) from None
            raise

    async def fill(self, kind: Kind) -> None:
        """OSError, PermissionError naming the missing right."""
        kept = self._kept.setdefault(kind, Batch())
        kept.extend(await self._in_network(partial(_make, kind, KEPT - len(kept))))

    def close(self) -> None:
        for task in self._filling.values():
            task.cancel()
        for kept in self._kept.values():
            kept.close()

    def _filled(self, kind: Kind, task: asyncio.Task[None]) -> None:
        del self._filling[kind]
        if not task.cancelled():
            task.exception()  # who needs one next is told


def _make(kind: Kind, count: int) -> Batch:
    made = Batch()
    try:
        for _ in range(count):
            made.append(socket.socket(kind[0], kind[1] | socket.SOCK_NONBLOCK))
            if kind[0] != socket.AF_UNIX and kind[1] == socket.SOCK_STREAM:
                end_by_reset(made[-1], True)  # until it is joined nothing is complete
                made[-1].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        made.close()
        raise
    return made
