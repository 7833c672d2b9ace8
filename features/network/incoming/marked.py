"""Sockets of the target's network with a mark, made before they are needed by a thread that may mark them.

To wait for that thread is two wake-ups and a fight for the interpreter's lock, which is most of what a
connection costs. Binding and connecting such a socket takes no right.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from functools import partial

from pymirror.features.network.incoming.table import InNetwork

KEPT = 64
KINDS = 4
"""Marks for which there are some; the others' are made when they are asked for."""


class Batch(list[socket.socket]):
    def close(self) -> None:
        """What nobody takes: `Target.in_network` calls this for who was cancelled."""
        for sock in self:
            sock.close()
        self.clear()


class Marked:
    """in_network: the target's. TCP over IPv4, non-blocking, without Nagle's delay."""

    def __init__(self, in_network: InNetwork) -> None:
        self._in_network = in_network
        self._kept: dict[int, Batch] = {}
        self._filling: dict[int, asyncio.Task[None]] = {}

    def take(self, mark: int) -> socket.socket | None:
        """One that is there."""
        kept = self._kept.get(mark)
        sock = kept.pop() if kept else None
        self.keep(mark)
        return sock

    def keep(self, mark: int) -> None:
        """Have some ready, if there are few, and it is not one mark too many."""
        if mark not in self._kept and len(self._kept) >= KINDS:
            return
        kept = self._kept.setdefault(mark, Batch())
        if len(kept) <= KEPT // 2 and mark not in self._filling:
            self._filling[mark] = asyncio.ensure_future(self._fill(mark, kept))

    def close(self) -> None:
        for task in self._filling.values():
            task.cancel()
        for kept in self._kept.values():
            kept.close()

    async def _fill(self, mark: int, kept: Batch) -> None:
        try:
            with suppress(OSError):  # who needs one is told
                kept += await self._in_network(partial(_batch, mark, KEPT - len(kept)))
        finally:
            del self._filling[mark]


def marked(family: int, mark: int) -> socket.socket:
    """In a thread in there. OSError."""
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("=I", mark))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made
    except BaseException:
        made.close()
        raise


def _batch(mark: int, count: int) -> Batch:
    made = Batch()
    try:
        for _ in range(count):
            made.append(marked(socket.AF_INET, mark))
    except BaseException:
        made.close()
        raise
    return made
