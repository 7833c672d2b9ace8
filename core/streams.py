"""A byte stream of a channel: waits for credit, keeps what was received until it is read.

What is kept is bounded by the mux's window: the writer over there has no credit beyond it. A stream
that both sides ended, or one of them reset, is forgotten by the channel without being closed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from pymirror.core import arrivals
from pymirror.core.errors import ChannelLost
from pymirror.core.mux import CHUNK, Mux

SMALL = 4096
"""Pieces below are joined: a peer that sends single bytes may not cost an object for each."""


class Pump(Protocol):
    """The part of the channel a stream needs."""

    mux: Mux
    streams: dict[int, ChannelStream]
    writers: set[ChannelStream]
    """Streams whose writers wait for room."""

    def soon(self) -> None: ...


class ChannelStream:
    """`core.feature.Stream` over a channel."""

    def __init__(self, pump: Pump, number: int) -> None:
        self.id = number
        self._pump, self._mux = pump, pump.mux
        self._received: deque[bytes] = deque()
        self._at = 0  # how much of the first piece was read
        self._ours_open, self._theirs_open = True, True
        self._broken: Exception | None = None
        self._changed = asyncio.Event()
        self._room = asyncio.Event()

    async def write(self, data: bytes) -> None:
        """Send all of `data`; waits while credit is used up. ChannelLost, BrokenPipeError."""
        view = memoryview(data).cast("B")
        while True:
            self._raise()
            if not self._ours_open:
                raise BrokenPipeError("this side has closed the stream for writing")
            if not view:
                return
            size = min(self._mux.room(self.id), CHUNK, len(view))
            if size:
                self._mux.write(self.id, bytes(view[:size]))
                self._pump.soon()
                view = view[size:]
            else:
                self._room.clear()
                self._pump.writers.add(self)
                await self._room.wait()

    async def read(self, size: int = 65536) -> bytes:
        """Up to `size` bytes; b"" after the other side closed its writing half."""
        while not self._received:
            if not self._theirs_open:
                return b""
            self._raise()
            self._changed.clear()
            await self._changed.wait()
        first = self._received[0]
        data = first[self._at : self._at + size]
        self._at += len(data)
        if self._at == len(first):
            self._received.popleft()
            self._at = 0
        self._mux.consumed(self.id, len(data))
        self._pump.soon()
        return data

    async def close_write(self) -> None:
        """End this side's writing half; reading goes on."""
        self._ours_open = False
        self._mux.end(self.id)
        self._forget_if_done()
        self._wake()
        self._pump.soon()

    async def aclose(self) -> None:
        """End both halves now; a second call does nothing."""
        if self._broken is None and (self._ours_open or self._theirs_open):
            self._mux.reset(self.id)
        else:
            self._mux.consumed(self.id, sum(map(len, self._received)) - self._at)
        self._received.clear()
        self._at = 0
        self._break(BrokenPipeError("the stream was closed on this side"))

    def fail(self, error: Exception, feature: str) -> None:
        """End both halves; the other side's reads and writes raise `error`."""
        self._mux.reset(self.id, error, feature)
        self._break(error)

    def happened(self, event: arrivals.Event) -> None:
        """The mux says: bytes, credit, end, or broken."""
        if isinstance(event, arrivals.Received):
            self._keep(event.data)
        elif isinstance(event, arrivals.Ended):
            self._theirs_open = False
            self._forget_if_done()
        elif isinstance(event, arrivals.Broken):
            self._break(event.error or ConnectionResetError("the stream was closed over there"))
        self._wake()

    def wake_writer(self) -> None:
        """The queue went down: a writer that waited for room may look again."""
        self._room.set()

    def _keep(self, data: bytes) -> None:
        last = len(self._received) - 1
        if last > 0 and len(self._received[last]) + len(data) <= SMALL:  # the first is being read
            self._received[last] += data
        elif data:
            self._received.append(data)

    def _break(self, error: Exception) -> None:
        self._broken = self._broken or error
        self._pump.streams.pop(self.id, None)
        self._wake()
        self._pump.soon()

    def _forget_if_done(self) -> None:
        if not self._ours_open and not self._theirs_open:
            self._pump.streams.pop(self.id, None)

    def _wake(self) -> None:
        self._changed.set()
        self._room.set()

    def _raise(self) -> None:
        if isinstance(self._broken, ChannelLost):
            raise ChannelLost(self._broken.message)
        if self._broken is not None:
            raise self._broken
