"""The multiplexer: requests, events and byte streams over one ordered connection. No I/O, no clock.

Frames are numbered from the start: what arrives twice is dropped, a gap is the peer's error, and
each header says what was received last. A session that resumes will keep what is not acknowledged
and send it again; the numbers are all it needs, so nothing else changes on the wire for it.
Bulk never delays control: it leaves by lanes of its own, one frame of each in turn, bounded per
message. What a peer may make us keep is bounded: an answer counts as open until it has left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from attrs import define, field

from pymirror.core import arrivals, room, wire
from pymirror.core.arrivals import Event
from pymirror.core.errors import PeerError
from pymirror.core.lanes import CHUNK, Lanes
from pymirror.core.message import feature_of
from pymirror.core.room import Inbox, Outbox, Requests
from pymirror.core.windows import TERMS, Pool, Stream, Terms, pools
from pymirror.core.wire import Frame

BLOB_FROM = 4096
"""Bytes of a stream from which on a ZeroMQ part of their own costs less than two copies."""
BULK_PER_TURN = 1 << 20
"""Bytes of bulk put into one ZeroMQ message, so that a small request waits for no more than that."""
CONTROL_PER_TURN = 2 << 20
BULK_FROM = 32 << 10
MAX_PARTS = wire.MAX_BLOBS // 2
MUCH = 16 << 20
"""Bytes waiting to leave from which on nobody should add more (see `Mux.congested`)."""
BULK_MUCH = MUCH // 4
"""The same for streams: it keeps ZeroMQ busy."""
ANSWERS = 0
"""The lane of large requests and replies; the others are named by their stream."""


@define
class Mux:
    """One side. `initiator`: the layer; its streams are odd, the agent's even."""

    initiator: bool
    queued: int = field(default=0, init=False)  # bytes that wait to leave
    _sent: int = field(default=0, init=False)
    _received: int = field(default=0, init=False)
    _acknowledged: int = field(default=0, init=False)
    _told: int = field(default=0, init=False)
    _next_stream: int = field(init=False)
    _out: Pool = field(init=False)
    _into: Pool = field(init=False)
    _credits: dict[int, int] = field(factory=dict, init=False)  # what is to be credited, by stream
    _requests: Requests = field(factory=Requests, init=False)
    _asked: dict[int, bool] = field(factory=dict, init=False)  # True: its answer is queued
    _streams: dict[int, Stream] = field(factory=dict, init=False)
    _theirs: set[int] = field(factory=set, init=False)  # opened by the peer, not wholly gone
    _control: deque[Frame] = field(factory=deque, init=False)
    _lanes: Lanes = field(factory=Lanes, init=False)
    _outbox: Outbox = field(factory=Outbox, init=False)
    _inbox: Inbox = field(factory=Inbox, init=False)
    _ping: bool = field(default=False, init=False)
    _pong: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._next_stream = 1 if self.initiator else 2
        self.agree(TERMS)

    def agree(self, terms: Terms) -> None:
        """Both sides count by the same terms from now on. Before the first stream."""
        self._out, self._into = pools(self.initiator, terms)

    # Requests and events going out ----------------------------------------------------------

    @property
    def full(self) -> bool:
        """The peer takes no further request until one is answered."""
        return self._requests.full

    def request(self, message: Any) -> int:
        """Queue a request; the id that its `Answered` will carry."""
        if self.full:
            raise PeerError(f"more than {room.MAX_OPEN} requests are open")
        number = self._requests.next()
        self._put(Frame(wire.REQUEST, number, *wire.encode(message)))
        self._requests.opened(number)
        return number

    def cancel(self, number: int) -> None:
        """Stop waiting for a request; a late answer is dropped."""
        if self._requests.cancelled(number):
            self._put(Frame(wire.CANCEL, number))

    def event(self, message: Any) -> None:
        """Queue an event. BlockingIOError while the peer does not take those of its feature."""
        frame = Frame(wire.EVENT, 0, *wire.encode(message))
        wire.fits(frame)
        self._outbox.admit(feature_of(frame.tag), frame.weight)
        self._put(frame)

    def drained(self, feature: str) -> bool:
        """There is room again for events of `feature`."""
        return self._outbox.drained(feature)

    def reply(self, number: int, message: Any) -> None:
        """Answer a request. TypeError, ValueError for what cannot be sent: then it is still open."""
        if self._asked.get(number) is False:
            self._put(Frame(wire.REPLY, number, *wire.encode(message)))
            self._asked[number] = True

    def fail(self, number: int, error: BaseException, feature: str) -> None:
        if self._asked.get(number) is False:
            self._put(Frame(wire.ERROR, number, "", wire.encode_error(error, feature)))
            self._asked[number] = True

    def ping(self) -> None:
        """Ask for a sign of life."""
        self._ping = True

    # Streams going out ----------------------------------------------------------------------

    def open(self, message: Any) -> int:
        """Open a stream that begins with `message`; its id."""
        if len(self._streams) - len(self._theirs & self._streams.keys()) >= room.MAX_OPEN:
            raise PeerError(f"more than {room.MAX_OPEN} streams are open")
        number = self._next_stream
        while number in self._streams:
            number = (number + 2) & 0xFFFFFFFF
        self._put(Frame(wire.OPEN, number, *wire.encode(message)))
        self._next_stream = (number + 2) & 0xFFFFFFFF or 2
        self._streams[number] = Stream()
        return number

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
        self._out.forget(stream.out, number)
        self._into.forget(stream.into, number)
        return True

    def _drop(self, number: int) -> deque[Frame]:
        dropped = self._lanes.drop(number)
        self.queued -= sum(frame.weight for frame in dropped)
        return dropped

    # Leaving --------------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        return bool(self._control or self._lanes or self._credits or self._ping or self._pong)

    @property
    def congested(self) -> bool:
        """So much waits to leave that new work should wait too."""
        return self.queued > MUCH

    @property
    def settled(self) -> bool:
        """All that was queued has left, and the peer said that it has it."""
        return self._acknowledged == self._sent and not self._control and not self._lanes

    @property
    def owes(self) -> bool:
        """The peer was not told yet that we have all it sent."""
        return self._told != self._received

    def take(self) -> list[Any]:
        """The parts of the next ZeroMQ message: control, and bulk, each up to its bound."""
        batch: list[bytes] = []
        blobs: list[Any] = []
        for wanted, kind in ((self._ping, wire.PING), (self._pong, wire.PONG)):
            if wanted:
                batch.append(wire.pack(Frame(kind), 0, self._received))
        self._ping = self._pong = False
        size = bulk = 0
        for number, due in self._credits.items():  # one for each stream, whatever was taken since the last
            self._sent += 1
            frame = Frame(wire.CREDIT, number, body=due.to_bytes(8, "little"))
            batch.append(wire.pack(frame, self._sent, self._received))
        self._credits.clear()
        while self._control and size < CONTROL_PER_TURN and len(blobs) < MAX_PARTS:
            size += self._leave(self._control.popleft(), batch, blobs)
        while self._lanes and bulk < BULK_PER_TURN and size < CONTROL_PER_TURN and len(blobs) < MAX_PARTS:
            bulk += self._leave(self._lanes.take(), batch, blobs)
        if not batch:
            return []
        self._told = self._received
        self._inbox.told()
        return [b"".join(batch), *blobs]

    def _leave(self, frame: Frame, batch: list[bytes], blobs: list[Any]) -> int:
        """Number a frame and put it into the message."""
        self._sent += 1
        batch.append(wire.pack(frame, self._sent, self._received))
        blobs += frame.blobs
        self.queued -= frame.weight
        if frame.kind in (wire.REPLY, wire.ERROR):
            self._asked.pop(frame.id, None)
        elif frame.kind == wire.EVENT:
            self._outbox.left(self._sent, feature_of(frame.tag), frame.weight)
        elif frame.kind == wire.RESET:
            self._theirs.discard(frame.id)
        elif frame.kind == wire.END and frame.id in self._streams:
            self._streams[frame.id].end_left = True
            self._forget(frame.id)
        return frame.weight

    def _put(self, frame: Frame) -> None:
        wire.fits(frame)
        weight = frame.weight
        self.queued += weight
        if frame.kind in (wire.OPEN, wire.DATA, wire.END):
            name = frame.id
        elif weight >= BULK_FROM and frame.kind in (wire.REQUEST, wire.REPLY):
            name = ANSWERS
        else:  # events whatever their size: those of one feature keep their order
            self._control.append(frame)
            return
        self._lanes.put(name, frame)

    # Coming in ------------------------------------------------------------------------------

    def receive(self, parts: Sequence[bytes]) -> list[Event]:
        """What a ZeroMQ message means. PeerError ends the connection: the peer broke the protocol."""
        events: list[Event] = []
        for frame, sequence, acknowledged in wire.unpack(parts):
            if acknowledged > self._sent:
                raise PeerError(f"frame {acknowledged} is acknowledged and was never sent")
            self._acknowledged = max(self._acknowledged, acknowledged)
            self._outbox.acknowledged(self._acknowledged)
            event: Event | None = None
            if frame.kind == wire.PING:
                self._pong = True
            elif frame.kind == wire.PONG:
                event = arrivals.Ponged()
            elif frame.kind == wire.REFUSED:
                event = arrivals.Refused(wire.decode_error(frame.body))
            elif sequence > self._received + 1:
                raise PeerError(f"frame {self._received + 1} is missing: {sequence} came in its place")
            elif sequence == self._received + 1:
                self._received = sequence
                event = self._one(frame)
            if event is not None:
                events.append(event)
        return events

    def _one(self, frame: Frame) -> Event | None:
        if frame.kind == wire.EVENT:
            self._ping = self._inbox.arrived(frame.weight) or self._ping
            try:
                return arrivals.Happened(wire.decode(frame))
            except PeerError as error:
                return arrivals.Unknown(error)
        if frame.kind == wire.REQUEST:
            return self._request(frame)
        if frame.kind == wire.CANCEL:
            return arrivals.Cancelled(frame.id) if self._asked.get(frame.id) is False else None
        if frame.kind in (wire.REPLY, wire.ERROR):
            return self._answer(frame)
        if frame.kind == wire.OPEN:
            return self._opened(frame)
        stream = self._streams.get(frame.id)
        return self._stream_frame(frame, stream) if stream else None  # reset here meanwhile

    def _request(self, frame: Frame) -> Event | None:
        if frame.id in self._asked or len(self._asked) >= room.MAX_OPEN:
            raise PeerError(f"request {frame.id} is open already, or more than {room.MAX_OPEN} are")
        self._asked[frame.id] = False
        try:
            return arrivals.Requested(frame.id, wire.decode(frame))
        except PeerError as error:  # one unknown message does not end the session
            self.fail(frame.id, error, frame.tag)
            return None

    def _answer(self, frame: Frame) -> Event | None:
        waited = self._requests.answered(frame.id)
        if waited is None:
            raise PeerError(f"an answer to request {frame.id}, which is not open")
        if not waited:
            return None
        if frame.kind == wire.ERROR:
            return arrivals.Answered(frame.id, error=wire.decode_error(frame.body))
        try:
            return arrivals.Answered(frame.id, wire.decode(frame))
        except PeerError as error:
            return arrivals.Answered(frame.id, error=error)

    def _opened(self, frame: Frame) -> Event | None:
        number = frame.id
        ours = number % 2 == self._next_stream % 2
        if ours or number in self._streams or number in self._theirs or len(self._theirs) >= room.MAX_OPEN:
            raise PeerError(f"stream {number} cannot be opened, or more than {room.MAX_OPEN} are")
        self._streams[number] = Stream()
        self._theirs.add(number)
        try:
            return arrivals.Opened(number, wire.decode(frame))
        except PeerError as error:
            self.reset(number, error, frame.tag)
            return None

    def _stream_frame(self, frame: Frame, stream: Stream) -> Event | None:
        number = frame.id
        if frame.kind == wire.DATA:
            return self._data(number, stream, frame.blobs[0] if len(frame.blobs) == 1 else frame.body)
        if frame.kind == wire.CREDIT:
            if not self._out.credited(stream.out, int.from_bytes(frame.body[:8], "little")):
                raise PeerError(f"stream {number}: more credit than was used")
            self._forget(number)
            return arrivals.Credited(number)
        if frame.kind == wire.END:
            stream.theirs_open = False
            self._credit(number, stream)
            self._forget(number)
            return arrivals.Ended(number)
        self._gone(number)
        self._theirs.discard(number)
        self._drop(number)
        return arrivals.Broken(number, wire.decode_error(frame.body) if frame.body else None)

    def _data(self, number: int, stream: Stream, data: bytes) -> Event:
        if not stream.theirs_open or not self._into.arrived(stream.into, len(data), len(self._streams)):
            raise PeerError(f"stream {number}: bytes after its end, or beyond its window")
        if self._into.tightened():
            for other in list(self._streams):
                self._credit(other, self._streams[other])
        return arrivals.Received(number, data)

    def _forget(self, number: int) -> None:
        stream = self._streams.get(number)
        if stream is not None and stream.over:
            self._gone(number)
            self._theirs.discard(number)
