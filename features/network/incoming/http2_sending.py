"""The sending part of one side of an HTTP/2 connection, and the windows of what it receives. Pure.

Streams share a connection fairly, a frame each in turn; a head is encoded when it leaves, in the order of the
numbers. What waits in a flow's queue came from `flow.other`, whose side holds it until it has left.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from pymirror.features.network.incoming import http2_frames as h2
from pymirror.features.network.incoming.http2_flow import Flow, append
from pymirror.features.network.incoming.http2_headers import Head, Writer
from pymirror.features.network.incoming.http2_settings import DEFAULT_WINDOW, Settings
from pymirror.features.network.incoming.http2_windows import Credit


class Sending:
    """peer: what it asks. out: what is to be sent now. flows: the open streams, by number. heads: bytes of
    those received that wait on another side. last: the greatest number of a stream that there was. queued:
    bytes of data that wait to be sent; most: beyond which their senders' streams end, where it is not 0."""

    def __init__(self, serves: bool, mine: Settings, credit: Credit) -> None:
        self.peer, self.out, self.flows = Settings(), bytearray(), dict[int, Flow]()
        self.settled = self.leaving = False
        self.queued, self.most = 0, 0
        self.heads = 0
        self.last = 0 if serves else -1
        self._serves, self._mine = serves, mine
        self._writer, self._credit = Writer(), credit
        self._window = DEFAULT_WINDOW
        self._waiting: deque[Flow] = deque()  # to be opened
        self._ready: OrderedDict[Flow, None] = OrderedDict()  # something of theirs may be sent
        self._blocked: dict[Flow, None] = {}  # it might, if the connection's window were open

    @property
    def held(self) -> int:
        """Bytes of data that came and have not left."""
        return self._credit.held

    @property
    def active(self) -> bool:
        return bool(self.flows or self._waiting)

    def open(self, flow: Flow) -> bool:
        """As soon as the peer allows one more; its head is in its queue. False: it never will, as that is an
        extended CONNECT, and the peer knows none."""
        if self.settled and flow.extended and not self.peer.connect:
            return False
        self._waiting.append(flow)
        self._start()
        return True

    def put(self, flow: Flow, item: Head | bytes | None, ends: bool) -> None:
        """Send it, after what waits."""
        if item is not None:
            append(flow.queue, item)
            if not isinstance(item, Head):
                self.queued += len(item)
        flow.ends = ends
        self._mark(flow)

    def reset(self, flow: Flow, code: int) -> None:
        """End it now."""
        if not flow.closed:
            if flow.begun:
                self.out += h2.rst_stream(flow.number, code)
            self._gone(flow)

    def reset_after(self, flow: Flow, code: int) -> None:
        """The same, after what waits, unless it has ended by then."""
        flow.after = code
        self._mark(flow)

    def count(self, size: int) -> None:
        """So many bytes of heads wait more, or less."""
        self.heads += size
        self._credit.share.add(size)

    def received_left(self, flow: Flow, item: Head | bytes | memoryview) -> None:
        """What came on that flow is not held any more."""
        if isinstance(item, Head):
            self.count(-item.size)
            return
        size = len(item)
        self._credit.left(size)
        paid = min(size, flow.prepaid)
        flow.prepaid -= paid
        self._owe(flow, size - paid)
        self._allow_more()

    def prepay(self, flow: Flow, size: int) -> None:
        """Let as many more come, before these have left."""
        flow.prepaid += size
        self._owe(flow, size)

    def goaway(self, last: int, code: int, why: str = "") -> None:
        self.leaving = last != h2.LARGEST_NUMBER
        self.out += h2.goaway(last, code, why.encode())

    def unopened(self) -> list[Flow]:
        """Those that wait to be; they will not."""
        waiting, self._waiting = list(self._waiting), deque()
        return waiting

    def abandon(self) -> None:
        """Its connection is over: what waits for it leaves."""
        for flow in [*self.flows.values(), *self.unopened()]:
            self._gone(flow)

    def fill(self, size: int) -> None:
        """Put into `out` what may be sent, up to about that size."""
        while self._ready and len(self.out) < size:
            self._send(self._ready.popitem(last=False)[0])

    def _begin(self) -> None:
        if not self._serves:
            self.out += h2.PREFACE
        self.out += h2.settings(self._mine.said())
        self._allow_more()

    def _start(self) -> None:
        while self._waiting and self.settled and not self.leaving and len(self.flows) < self.peer.streams:
            flow = self._waiting.popleft()
            self.last += 2
            flow.number = self.last
            flow.window, flow.allowed = self.peer.window, self._mine.window
            self.flows[flow.number] = flow
            self._mark(flow)

    def _mark(self, flow: Flow) -> None:
        if flow.number and not flow.closed and flow not in self._blocked:
            self._ready[flow] = None

    def _send(self, flow: Flow) -> None:
        """One frame; the flow's turn comes again if there is more."""
        if not flow.queue:
            if flow.ends and not flow.sent_end:
                self.out += h2.frame(h2.DATA, h2.END_STREAM, flow.number)
                flow.sent_end = True
            self._sent(flow)
            return
        item = flow.queue[0]
        if isinstance(item, Head):
            flow.queue.popleft()
            flow.begun, flow.sent_end = True, flow.ends and not flow.queue
            block = self._writer.write(item)
            self.out += h2.headers(flow.number, flow.sent_end, block, self.peer.frame)
        else:
            room = max(0, min(flow.window, self._window, self.peer.frame))
            if item and not room:
                self._wait_for_window(flow)
                return
            item = self._cut(flow, item, room)
            self.queued -= len(item)
            flow.window -= len(item)
            self._window -= len(item)
            flow.sent_end = flow.ends and not flow.queue
            self.out += h2.frame(h2.DATA, h2.END_STREAM if flow.sent_end else 0, flow.number, item)
        if flow.other is not None:
            flow.other.side.received_left(flow.other, item)
        self._sent(flow)

    def _wait_for_window(self, flow: Flow) -> None:
        if flow.window > 0:
            self._blocked[flow] = None

    @staticmethod
    def _cut(flow: Flow, item: bytes | memoryview, room: int) -> bytes | memoryview:
        if len(item) <= room:
            flow.queue.popleft()
            return item
        view = memoryview(item)
        flow.queue[0] = view[room:]
        return view[:room]

    def _sent(self, flow: Flow) -> None:
        if flow.queue or (flow.ends and not flow.sent_end):
            self._mark(flow)
        elif flow.after is not None and not (flow.sent_end and flow.got_end):
            self.reset(flow, flow.after)
        else:
            self._close_if_done(flow)

    def _close_if_done(self, flow: Flow) -> None:
        if flow.sent_end and flow.got_end and not flow.closed:
            self._gone(flow)

    def _gone(self, flow: Flow) -> None:
        """It is over on this side; what waits for it leaves."""
        flow.closed = True
        self.flows.pop(flow.number, None)
        self._ready.pop(flow, None)
        self._blocked.pop(flow, None)
        if not flow.number and flow in self._waiting:
            self._waiting.remove(flow)
        self.drop(flow)
        self._start()

    def drop(self, flow: Flow) -> None:
        """What waits to be sent on it is not."""
        queue, flow.queue = flow.queue, deque()
        self.queued -= sum(len(item) for item in queue if not isinstance(item, Head))
        if flow.other is not None:
            for item in queue:
                flow.other.side.received_left(flow.other, item)

    def _owe(self, flow: Flow, size: int) -> None:
        flow.owed += size
        if flow.owed >= self._mine.window // 4 and not (flow.got_end or flow.closed):
            flow.allowed += flow.owed
            self.out += h2.window_update(flow.number, flow.owed)
            flow.owed = 0

    def _allow_more(self) -> None:
        more = self._credit.due()
        if more:
            self.out += h2.window_update(0, more)
