"""The byte streams of a mux: windows, credit, the lanes that their frames leave by. No I/O, no clock.

A stream may be joined straight to a socket (`carrier.py`): then its bytes pass by the lanes and by what is
kept for a reader, and are only counted here.
"""

from __future__ import annotations

from collections import deque

from attrs import define, field

from pymirror.core import arrivals, wire
from pymirror.core.arrivals import Event
from pymirror.core.errors import PeerError
from pymirror.core.lanes import CHUNK, Lanes
from pymirror.core.windows import CREDIT_FROM_TIGHT, Pool, Stream
from pymirror.core.wire import Frame

BLOB_FROM = 4096
"""Bytes of a stream from which on a ZeroMQ part of their own costs less than two copies."""
MUCH = 16 << 20
"""Bytes waiting to leave from which on nobody should add more (see `Mux.congested`)."""
PIECE = 16 << 10
"""Bytes of one socket read straight into a message, as `batch.c` has it; more goes in large pieces."""
BULK_MUCH = MUCH // 4
"""The same for streams: it keeps ZeroMQ busy."""


@define
class Flows:
    """What a `Mux` has of its streams."""

    queued: int = field(default=0, init=False)  # bytes that wait to leave
    sockets: dict[int, int] = field(factory=dict, init=False)
    """Streams whose bytes may go straight to a descriptor, as nothing of them waits for it."""
    _out: Pool = field(init=False)
    _into: Pool = field(init=False)
    _credits: dict[int, int] = field(factory=dict, init=False)  # what is to be credited, by stream
    _streams: dict[int, Stream] = field(factory=dict, init=False)
    _theirs: set[int] = field(factory=set, init=False)  # opened by the peer, not wholly gone
    _lanes: Lanes = field(factory=Lanes, init=False)

    def _put(self, frame: Frame) -> None:
        raise NotImplementedError

    def room(self, number: int) -> int:
        """Bytes that may be written to a stream now; 0 also when its writing half is closed.

        0: look again when it is credited, when `freed` names it, or, `crowded`, when something has left.
        """
        stream = self._streams.get(number)
        if stream is None or not stream.ours_open:
            return 0
        credit = self._out.room(stream.out)
        if not credit:
            self._out.wait(stream.out, number)
        return min(credit, self._lanes.room(number, self.queued > BULK_MUCH))

    def crowded(self, number: int) -> bool:
        """As much of the stream waits to leave as may."""
        return not self._lanes.room(number, self.queued > BULK_MUCH)

    def freed(self) -> list[int]:
        """Streams that had no room because of others, and have some now; each is named once."""
        return self._out.freed()

    def write(self, number: int, data: bytes) -> None:
        """Queue bytes of a stream; no more than `room` allows. BrokenPipeError when closed."""
        stream = self._streams.get(number)
        if stream is None or not stream.ours_open:
            raise BrokenPipeError(f"stream {number} is closed for writing")
        credit = self._out.room(stream.out)
        if len(data) > credit:
            raise ValueError(f"stream {number}: {len(data)} bytes with a credit of {credit}")
        self._out.wrote(stream.out, len(data))
        if 0 < len(data) < BLOB_FROM:
            self._put(Frame(wire.DATA, number, body=data))
            return
        for at in range(0, len(data), CHUNK):
            self._put(Frame(wire.DATA, number, blobs=(data[at : at + CHUNK],)))

    def consumed(self, number: int, size: int) -> None:
        """The reader took `size` bytes; credit goes back in large pieces, not byte by byte."""
        stream = self._streams.get(number)
        if stream is not None:
            stream.into.taken += size
            self._credit(number, stream)

    def _credit(self, number: int, stream: Stream) -> None:
        due = self._into.due(stream.into, not stream.theirs_open)
        if due:
            self._credits[number] = self._credits.get(number, 0) + due
            self._forget(number)

    def end(self, number: int) -> None:
        """Close our writing half of a stream, behind what is queued."""
        stream = self._streams.get(number)
        if stream and stream.ours_open:
            stream.ours_open = False
            self._put(Frame(wire.END, number))

    def reset(self, number: int, error: BaseException | None = None, feature: str = "") -> None:
        """End both halves now; what is queued of it is dropped."""
        if not self._gone(number):
            return
        if wire.OPEN not in (frame.kind for frame in self._drop(number)):
            self._put(Frame(wire.RESET, number, "", wire.encode_error(error, feature) if error else b""))

    def _gone(self, number: int) -> bool:
        """Both halves of a stream are over, here at least. False: it is not there."""
        stream = self._streams.pop(number, None)
        if stream is None:
            return False
        self.sockets.pop(number, None)
        self._out.forget(stream.out, number)
        self._into.forget(stream.into, number)
        return True

    def _drop(self, number: int) -> deque[Frame]:
        dropped = self._lanes.drop(number)
        self.queued -= sum(frame.weight for frame in dropped)
        return dropped

    # Straight from and to sockets -------------------------------------------------------------

    def reserve(self, number: int) -> int:
        """As `room`, for what is read into a message at once; it counts as written, less what is `spared`."""
        stream = self._streams.get(number)
        if stream is None or not stream.ours_open:
            return 0
        size = min(self._out.room(stream.out), PIECE)
        self._out.wrote(stream.out, size)
        return size

    def spared(self, number: int, unused: int) -> None:
        """So many bytes of what was reserved were not there."""
        self._out.wrote(self._streams[number].out, -unused)

    def waits(self, number: int) -> bool:
        """Frames of the stream wait to leave: nothing may pass them by."""
        return self._lanes.waiting(number) > 0

    def straight(self, number: int, fd: int) -> None:
        """Its bytes may go there, if any may still come: its owner may not have been told of the end yet."""
        stream = self._streams.get(number)
        if stream is not None and stream.theirs_open:
            self.sockets[number] = fd

    def _went(self, number: int, size: int, sent: int) -> None:
        """A frame of `size` bytes came and its socket took so many."""
        stream = self._streams[number]
        self._came(number, stream, size)
        stream.into.taken += sent
        if stream.into.taken >= CREDIT_FROM_TIGHT:
            self._credit(number, stream)

    # Coming in ------------------------------------------------------------------------------

    def _data(self, number: int, stream: Stream, data: bytes) -> Event:
        self._came(number, stream, len(data))
        self.sockets.pop(number, None)  # nothing may pass by what its owner has not been told of
        return arrivals.Received(number, data)

    def _came(self, number: int, stream: Stream, size: int) -> None:
        if not stream.theirs_open or not self._into.arrived(stream.into, size, len(self._streams)):
            raise PeerError(f"stream {number}: bytes after its end, or beyond its window")
        if self._into.tightened():
            for other in list(self._streams):
                self._credit(other, self._streams[other])

    def _forget(self, number: int) -> None:
        stream = self._streams.get(number)
        if stream is not None and stream.over:
            self._gone(number)
            self._theirs.discard(number)
