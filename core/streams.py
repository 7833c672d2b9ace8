"""A byte stream of a channel: waits for credit, keeps what was received until it is read.

What is kept is bounded by the mux's window: the writer over there has no credit beyond it. A stream
that both sides ended, or one of them reset, is forgotten by the channel without being closed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol

from pymirror.core import arrivals
from pymirror.core.carrier import Carrier
from pymirror.core.errors import ChannelLost
from pymirror.core.lanes import CHUNK
from pymirror.core.mux import Mux

log = logging.getLogger("pymirror.core.channel")

SMALL = 4096
"""Pieces below are joined: a peer that sends single bytes may not cost an object for each."""


class Pump(Protocol):
    """The part of the channel a stream needs."""

    mux: Mux
    streams: dict[int, ChannelStream]
    writers: set[ChannelStream]
    """Streams whose writers wait until something has left."""
    carrier: Carrier

    def soon(self) -> None: ...

    def later(self) -> None: ...


class ChannelStream:
    """`core.feature.Stream` over a channel."""

    def __init__(self, pump: Pump, number: int, feature: str) -> None:
        self.id, self._feature = number, feature
        self._pump, self._mux = pump, pump.mux
        self._received: deque[bytes] = deque()
        self._at = 0  # how much of the first piece was read
        self._ours_open, self._theirs_open = True, True
        self.broken: Exception | None = None  # why it is gone, both halves
        self._changed, self._freed = asyncio.Event(), asyncio.Event()
        self._came: Callable[[], object] = self._changed.set
        self._room: Callable[[], object] = self._freed.set

    # For coroutines -------------------------------------------------------------------------

    async def write(self, data: bytes) -> None:
        """Send all of `data`; waits while credit is used up. ChannelLost, BrokenPipeError."""
        view = memoryview(data).cast("B")
        while len(view) > (taken := self.write_now(view[:CHUNK])):
            view = view[taken:]
            if not taken:
                self._freed.clear()
                await self._freed.wait()

    async def read(self, size: int = 65536) -> bytes:
        """Up to `size` bytes; b"" after the other side closed its writing half."""
        while True:
            try:
                return self.read_now(size)
            except BlockingIOError:
                self._changed.clear()
                await self._changed.wait()

    async def close_write(self) -> None:
        """End this side's writing half; reading goes on."""
        self.end()

    async def aclose(self) -> None:
        """End both halves now; a second call does nothing."""
        self.close()

    # For callbacks --------------------------------------------------------------------------

    def attach(self, came: Callable[[], object], room: Callable[[], object]) -> None:
        """See `core.feature.Stream`."""
        self._came, self._room = came, room

    def room(self) -> int:
        """Bytes that `write_now` takes; 0: `room` is called when that has changed."""
        found = self._mux.room(self.id)
        if not found and self._mux.crowded(self.id):
            self._pump.writers.add(self)
        return found

    def write_now(self, data: bytes | memoryview) -> int:
        """How much of `data` there was room for. `bytes` that fit are not copied."""
        self._raise()
        if not self._ours_open:
            raise BrokenPipeError("this side has closed the stream for writing")
        if not data:
            return 0
        size = min(self.room(), len(data))
        if size:
            whole = isinstance(data, bytes) and size == len(data)
            self._mux.write(self.id, data if whole else bytes(data[:size]))  # type: ignore[arg-type]
            self._pump.soon()
        if size < len(data):
            self.room()  # none now: who was taken from in part is told when there is some
        return size

    def read_now(self, size: int = 65536) -> bytes:
        """Up to `size` bytes; b"" at the end; BlockingIOError: none is here yet."""
        if not self._received:
            if not self._theirs_open:
                return b""
            self._raise()
            raise BlockingIOError
        first = self._received[0]
        data = first[self._at : self._at + size]
        self._at += len(data)
        if self._at == len(first):
            self._received.popleft()
            self._at = 0
        self._mux.consumed(self.id, len(data))
        self._pump.later()
        return data

    def end(self) -> None:
        """As `close_write`."""
        self._ours_open = False
        self._mux.end(self.id)
        self._forget_if_done()
        self._freed.set()
        self._pump.later()

    def close(self) -> None:
        """As `aclose`."""
        if self.broken is None and (self._ours_open or self._theirs_open):
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

    # For a socket -----------------------------------------------------------------------------

    def carry(self, fd: int, look: Callable[[], object], broken: Callable[[], object]) -> None:
        """See `core.feature.Stream`."""
        self._pump.carrier.watch(self.id, fd, look, broken)

    def uncarry(self, fd: int) -> None:
        self._pump.carrier.leave(fd)

    def was_reset(self, fd: int) -> bool:
        return self._pump.carrier.was_reset(fd)

    def straight(self, fd: int) -> None:
        self._pump.carrier.straight(self.id, fd)

    # For the channel ------------------------------------------------------------------------

    def happened(self, event: arrivals.Event) -> None:
        """The mux says: bytes, credit, end, or broken."""
        if isinstance(event, arrivals.Received):
            self._pump.carrier.bend(self.id)  # an earlier one of this message may have found nothing waiting
            self._keep(event.data)
            self._tell(self._came)
        elif isinstance(event, arrivals.Credited):
            self._tell(self._room)
        elif isinstance(event, arrivals.Ended):
            self._theirs_open = False
            self._forget_if_done()
            self._tell(self._came)
        elif isinstance(event, arrivals.Broken):
            self._break(event.error or ConnectionResetError("the stream was closed over there"))

    def wake_writer(self) -> None:
        """Something left, or others leave more room: a writer that waited for that may look again."""
        self._tell(self._room)

    def _tell(self, callback: Callable[[], object]) -> None:
        """A half's own: what it raises is a bug there, and costs this stream, not who tells the others."""
        try:
            callback()
        except Exception as error:
            log.error("%s failed on a stream", self._feature, exc_info=error)
            if self.broken is None:
                self.fail(error, self._feature)

    def _keep(self, data: bytes) -> None:
        last = len(self._received) - 1
        if last > 0 and len(self._received[last]) + len(data) <= SMALL:  # the first is being read
            self._received[last] += data
        elif data:
            self._received.append(data)

    def _break(self, error: Exception) -> None:
        first = self.broken is None
        self.broken = self.broken or error
        self._pump.streams.pop(self.id, None)
        if first:
            self._tell(self._came)
            self._tell(self._room)
        self._pump.later()

    def _forget_if_done(self) -> None:
        if not self._ours_open and not self._theirs_open:
            self._pump.streams.pop(self.id, None)

    def _raise(self) -> None:
        if isinstance(self.broken, ChannelLost):
            raise ChannelLost(self.broken.message)
        if self.broken is not None:
            raise self.broken
