"""The multiplexer: requests, events and byte streams over one ordered connection. No I/O, no clock.

Frames are numbered from the start: what arrives twice is dropped, a gap is the peer's error, and
each header says what was received last. A session that resumes will keep what is not acknowledged
and send it again; the numbers are all it needs, so nothing else changes on the wire for it.
Bulk never delays control: it leaves by lanes of its own, one frame of each in turn, bounded per
message. What a peer may make us keep is bounded: an answer counts as open until it has left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from attrs import define, field

from pymirror.core import arrivals, room, wire
from pymirror.core.arrivals import Event
from pymirror.core.errors import PeerError
from pymirror.core.flows import MUCH, Flows
from pymirror.core.message import feature_of
from pymirror.core.room import Inbox, Outbox, Requests
from pymirror.core.windows import TERMS, Stream, Terms, pools
from pymirror.core.wire import Frame

BULK_PER_TURN = 1 << 20
"""Bytes of bulk put into one ZeroMQ message, so that a small request waits for no more than that."""
CONTROL_PER_TURN = 2 << 20
BULK_FROM = 32 << 10
MAX_PARTS = wire.MAX_BLOBS // 2
ANSWERS = 0
"""The lane of large requests and replies; the others are named by their stream."""
Give = Callable[[bytes, int, int, dict[int, int]], tuple[int, int, int, list[tuple[int, int, int]]]]


@define
class Mux(Flows):
    """One side. `initiator`: the layer; its streams are odd, the agent's even."""

    initiator: bool
    _sent: int = field(default=0, init=False)
    _received: int = field(default=0, init=False)
    _acknowledged: int = field(default=0, init=False)
    _told: int = field(default=0, init=False)
    _next_stream: int = field(init=False)
    _requests: Requests = field(factory=Requests, init=False)
    _asked: dict[int, bool] = field(factory=dict, init=False)  # True: its answer is queued
    _control: deque[Frame] = field(factory=deque, init=False)
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

    @property
    def numbers(self) -> tuple[int, int]:
        """The next frame's sequence, and the last one that arrived."""
        return self._sent + 1, self._received

    def joined(self, sequence: int) -> None:
        """Frames up to that sequence, not included, leave with what was taken last."""
        self._sent = sequence - 1
        self._told = self._received
        self._inbox.told()

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

    def receive(self, parts: Sequence[bytes], give: Give | None = None) -> list[Event]:
        """What a ZeroMQ message means. PeerError ends the connection: the peer broke the protocol.

        give(batch, at, received, sockets) moves what may go straight to sockets: see `batch.c`.
        """
        events: list[Event] = []
        passed = None if give is None else partial(self._passed, give, events)
        for frame, sequence, acknowledged in wire.unpack(parts, passed):
            self._acknowledge(acknowledged)
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

    def _acknowledge(self, acknowledged: int) -> None:
        if acknowledged > self._sent:
            raise PeerError(f"frame {acknowledged} is acknowledged and was never sent")
        if acknowledged > self._acknowledged:
            self._acknowledged = acknowledged
            self._outbox.acknowledged(acknowledged)

    def _passed(self, give: Give, events: list[Event], batch: bytes, at: int) -> int:
        """Where the first frame is that no socket has taken; the rest of one goes the usual way."""
        while self.sockets:
            at, self._received, acknowledged, went = give(batch, at, self._received, self.sockets)
            if not went:
                break
            self._acknowledge(acknowledged)
            for number, size, sent in went:
                self._went(number, size, sent)
            if sent < size:
                self.sockets.pop(number, None)
                events.append(arrivals.Received(number, batch[at - size + sent : at]))
        return at

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
            self.sockets.pop(number, None)  # it may be closed now; what came would be another's
            self._credit(number, stream)
            self._forget(number)
            return arrivals.Ended(number)
        self._gone(number)
        self._theirs.discard(number)
        self._drop(number)
        return arrivals.Broken(number, wire.decode_error(frame.body) if frame.body else None)
