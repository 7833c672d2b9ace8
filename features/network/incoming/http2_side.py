"""One side of an HTTP/2 connection: frames in, and what they mean to `Hears`. Pure.

Memory is bounded: data by the windows given (http2_windows), heads by `crowded`, after which whoever
reads must stop, answers to control frames by `MOST_CONTROL`, streams that are reset by `Calm`.

Not hyper-h2: two of its machines need 190 us for one small call, this with the decision and both streams
54 us, and 136 us when a header changes each time (measured in one run). Windows that are given back as bytes
leave another connection, and what a client may do whose windows are not ours to give (a copy's), are not
its way either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pymirror.features.network.incoming import http2_frames as h2
from pymirror.features.network.incoming.budget import LITTLE, Share
from pymirror.features.network.incoming.http2_flow import Flow, Hears
from pymirror.features.network.incoming.http2_frames import Wrong
from pymirror.features.network.incoming.http2_headers import MOST as MOST_BLOCK
from pymirror.features.network.incoming.http2_headers import Head, Reader
from pymirror.features.network.incoming.http2_sending import Sending
from pymirror.features.network.incoming.http2_settings import Settings
from pymirror.features.network.incoming.http2_windows import Credit

MOST_CONTROL = 1 << 20
"""Bytes of answers to PING and SETTINGS that a peer may leave unread."""
MOST_HEADS = 4 << 20
"""Bytes of heads that wait for the other sides."""
MOST_CONTINUATIONS = 64


RESETS = (1000.0, 100.0)
"""Streams that end before their time: so many at once, and so many a second."""
WINDOWS = (20.0, 2.0)
"""New sizes of all streams' windows, each of which walks them all; libraries that measure the line send
ten."""


class Calm:
    """What a peer may do so often at once, and so often a second."""

    def __init__(self, clock: Callable[[], float], often: tuple[float, float], what: str) -> None:
        self._clock, self._what = clock, what
        self._burst, self._rate = often
        self._left, self._since = self._burst, clock()

    def one(self) -> None:
        """Wrong."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._since) * self._rate) - 1
        self._since = now
        if self._left < 0:
            raise Wrong(h2.ENHANCE_YOUR_CALM, self._what)


class Side(Sending):
    """Whom it tells, and what it knows of the peer. whole: what has come whole, counted."""

    def __init__(
        self,
        hears: Hears,
        serves: bool,
        mine: Settings,
        clock: Callable[[], float],
        credit: Credit,
        reader: Reader | None = None,
        ignored: frozenset[int] = frozenset(),
    ) -> None:
        """serves: the peer opens the streams. mine: what is asked of it, once `begin` was called.
        ignored: kinds of frames."""
        super().__init__(serves, mine, credit)
        self._hears, self._calm = hears, Calm(clock, RESETS, "too many streams were reset")
        self._resizes = Calm(clock, WINDOWS, "too many new sizes of windows")
        self._cutter = h2.Cutter(mine.frame, h2.PREFACE if serves else b"")
        self._reader = reader or Reader()
        self._acts = {kind: act for kind, act in _ACTS.items() if kind not in ignored}
        self._block: tuple[int, int, list[bytes]] | None = None  # a head that is not whole
        self._kept, self._keeps = 0, True
        self.whole = 0

    def receive(self, data: bytes) -> None:
        """Wrong: the connection is to be ended."""
        try:
            self._receive(data)
        finally:
            self._weigh()
        if len(self.out) > MOST_CONTROL:
            raise Wrong(h2.ENHANCE_YOUR_CALM, "answers are not read")

    def _receive(self, data: bytes) -> None:
        for kind, flags, number, payload in self._cutter.feed(data):
            block = self._block
            if (block is not None) is not (kind == h2.CONTINUATION) or (block and block[0] != number):
                raise Wrong(h2.PROTOCOL_ERROR, "a head that is interrupted")
            if not self.settled and kind != h2.SETTINGS:
                raise Wrong(h2.PROTOCOL_ERROR, "no SETTINGS at the beginning")
            act = self._acts.get(kind)
            if act is not None:
                act(self, flags, number, payload)
            if self._block is None:
                self.whole += 1

    @property
    def slow(self) -> bool:
        """Is there a head, or another frame but data, that is not whole, or are there no SETTINGS yet?"""
        return self._block is not None or not self.settled or self._cutter.waits

    @property
    def crowded(self) -> bool:
        """Too many heads of it wait: it is to be read no more until some have left."""
        return self.heads > MOST_HEADS

    def fill(self, size: int) -> None:
        super().fill(size)
        self._weigh()

    def unlearn(self) -> int:
        """Know no head again. Bytes that this gives back."""
        size = self._clear()
        self._weigh()
        return size

    def _clear(self) -> int:
        known = self._reader.known, self._writer.known
        size = sum(each.size for each in known)
        for each in known:
            each.clear()
        return size

    def forget(self) -> None:
        """Nothing more comes, and no head leaves: nothing is kept for it."""
        self._keeps = False
        self.unlearn()

    def abandon(self) -> None:
        super().abandon()
        self.forget()

    def _weigh(self) -> None:
        """What is kept of the connection, but for what waits to leave, counts too."""
        if self._credit.share.budget.tight:
            self._clear()
        kept = self._reader.held + self._writer.known.size + self._cutter.held
        kept += sum(map(len, self._block[2])) if self._block is not None else 0
        kept = kept if self._keeps else 0
        self._credit.share.add(kept - self._kept, left=False)
        self._kept = kept

    def begin(self, mine: Settings | None = None) -> None:
        """Say what is asked. mine: if it was not known before; nothing has been received yet."""
        if mine is not None:
            self._mine = mine
            self._cutter = h2.Cutter(mine.frame, h2.PREFACE)
        self._begin()

    def _headers(self, flags: int, number: int, payload: bytes) -> None:
        if not number:
            raise Wrong(h2.PROTOCOL_ERROR, "a head of no stream")
        payload = h2.unpadded(flags, payload)
        if flags & h2.PRIORITISED:
            if len(payload) < 5:
                raise Wrong(h2.FRAME_SIZE_ERROR, "a head without its priority")
            payload = payload[5:]
        if flags & h2.END_HEADERS:
            self._whole(number, flags, payload)
        else:
            self._block = (number, flags, [payload])

    def _continuation(self, flags: int, number: int, payload: bytes) -> None:
        assert self._block is not None
        _, first, pieces = self._block
        pieces.append(payload)
        if len(pieces) > MOST_CONTINUATIONS or sum(map(len, pieces)) > MOST_BLOCK:
            raise Wrong(h2.ENHANCE_YOUR_CALM, "a head that does not end")
        if flags & h2.END_HEADERS:
            self._block = None
            self._whole(number, first, b"".join(pieces))

    def _whole(self, number: int, flags: int, block: bytes) -> None:
        head, ends = self._reader.read(block), bool(flags & h2.END_STREAM)
        flow = self.flows.get(number)
        if flow is None:
            self._new(number, head, ends)
        elif flow.got_end:
            self._fault(flow, h2.STREAM_CLOSED)
        elif not ends and (self._serves or (flow.answered and not head.interim)):
            self._fault(flow, h2.PROTOCOL_ERROR)
        else:
            flow.got_end = ends
            flow.answered = flow.answered or not head.interim
            self._hears.head(flow, head, ends)
            self._close_if_done(flow)

    def _new(self, number: int, head: Head, ends: bool) -> None:
        if self._over(number):
            if (
                self._serves
            ):  # a request with an old number would wait for ever; trailers of a reset one may come
                self._refuse(number, h2.STREAM_CLOSED)
            return
        if not self._serves or not number % 2:
            raise Wrong(h2.PROTOCOL_ERROR, f"a stream {number} that nobody may open")
        self.last = number
        if self.leaving or len(self.flows) >= self._mine.streams:
            self._refuse(number, h2.REFUSED_STREAM)
            return
        flow = self.flows[number] = Flow(self, number)
        flow.begun, flow.got_end = True, ends
        flow.window, flow.allowed = self.peer.window, self._mine.window
        self._hears.came(flow, head, ends)

    def _refuse(self, number: int, code: int) -> None:
        self._calm.one()
        self.out += h2.rst_stream(number, code)

    def _over(self, number: int) -> bool:
        """Was there such a stream once? What was on its way when it ended is ignored."""
        return 0 < number <= self.last and number % 2 == 1

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        flow, size = self.flows.get(number), len(payload)
        if flow is None and not self._over(number):
            raise Wrong(h2.PROTOCOL_ERROR, f"data of no stream {number}")
        data, ends = h2.unpadded(flags, payload), bool(flags & h2.END_STREAM)
        self._credit.arrived(size, len(data) if flow is not None else 0)
        if flow is not None:
            flow.allowed -= size
            early = not (self._serves or flow.answered)
            if flow.got_end or early or flow.allowed < 0:
                self._credit.left(len(data))
                code = h2.STREAM_CLOSED if flow.got_end else h2.FLOW_CONTROL_ERROR
                self._fault(flow, h2.PROTOCOL_ERROR if early else code)
            else:
                flow.owed += size - len(data)
                flow.got_end = ends
                if data or ends:
                    self._hears.data(flow, data, ends)
                self._close_if_done(flow)
        self._allow_more()

    def _rst_stream(self, _flags: int, number: int, payload: bytes) -> None:
        code, flow = h2.word(payload), self.flows.get(number)
        if flow is None:
            if not self._over(number):
                raise Wrong(h2.PROTOCOL_ERROR, f"a reset of no stream {number}")
            return
        if self._serves:
            self._calm.one()
        self._gone(flow)
        self._hears.reset(flow, code)

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        if number or (flags & h2.ACK and payload):
            raise Wrong(h2.PROTOCOL_ERROR if number else h2.FRAME_SIZE_ERROR, "SETTINGS that are none")
        if flags & h2.ACK:
            return
        before = self.peer.window
        for key, value in h2.pairs(payload):
            self.peer = self.peer.heard(key, value)
            self._writer.resize(self.peer.table)
        self.out += h2.frame(h2.SETTINGS, h2.ACK, 0)
        if self.peer.window != before:
            self._resizes.one()
            for flow in list(self.flows.values()):
                self._widen(flow, self.peer.window - before)
        if not self.settled:
            self.settled = True
            self._hears.settled()
            for flow in [each for each in self._waiting if each.extended and not self.peer.connect]:
                self._gone(flow)
                self._hears.unable(flow)
        self._start()

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        if number or len(payload) != 8:
            raise Wrong(h2.PROTOCOL_ERROR if number else h2.FRAME_SIZE_ERROR, "a PING that is none")
        if not flags & h2.ACK:
            self.out += h2.frame(h2.PING, h2.ACK, 0, payload)

    def _goaway(self, _flags: int, number: int, payload: bytes) -> None:
        last, code = h2.left(payload)
        if number:
            raise Wrong(h2.PROTOCOL_ERROR, "a GOAWAY of one stream")
        self.leaving = self.leaving or (not self._serves and last != h2.LARGEST_NUMBER)
        self._hears.leaving(last, code)
        if not self._serves:
            for flow in [each for each in self.flows.values() if each.number > last]:
                self._gone(flow)
                self._hears.reset(flow, h2.REFUSED_STREAM)

    def _window_update(self, _flags: int, number: int, payload: bytes) -> None:
        size = h2.word(payload) & h2.LARGEST_NUMBER
        if not number:
            self._window += size
            if not size or self._window > h2.LARGEST_NUMBER:
                raise Wrong(
                    h2.FLOW_CONTROL_ERROR if size else h2.PROTOCOL_ERROR, "a window of the connection"
                )
            blocked, self._blocked = self._blocked, {}
            self._ready.update(blocked)
            return
        flow = self.flows.get(number)
        if flow is not None:
            if size:
                self._widen(flow, size)
            else:
                self._fault(flow, h2.PROTOCOL_ERROR)
        elif not self._over(number):
            raise Wrong(h2.PROTOCOL_ERROR, f"a window of no stream {number}")

    def _push_promise(self, _flags: int, _number: int, _payload: bytes) -> None:
        raise Wrong(h2.PROTOCOL_ERROR, "a push, which was refused")

    def _widen(self, flow: Flow, size: int) -> None:
        flow.window += size
        if flow.window > h2.LARGEST_NUMBER:
            self._fault(flow, h2.FLOW_CONTROL_ERROR)
        else:
            self._mark(flow)

    def _fault(self, flow: Flow, code: int) -> None:
        """The peer broke a rule on that stream."""
        self._calm.one()
        self.reset(flow, code)
        self._hears.reset(flow, code)


def relieved(sides: Iterable[Side], share: Share) -> bool:
    """Have these sides of one connection hold less by what they know, and is the rest little?"""
    return bool(sum([side.unlearn() for side in sides])) and share.size <= LITTLE


_ACTS: dict[int, Callable[[Side, int, int, bytes], None]] = {
    h2.DATA: Side._data,
    h2.HEADERS: Side._headers,
    h2.RST_STREAM: Side._rst_stream,
    h2.SETTINGS: Side._settings,
    h2.PUSH_PROMISE: Side._push_promise,
    h2.PING: Side._ping,
    h2.GOAWAY: Side._goaway,
    h2.WINDOW_UPDATE: Side._window_update,
    h2.CONTINUATION: Side._continuation,
}
"""PRIORITY, and what RFC 9113 does not know, is ignored."""
