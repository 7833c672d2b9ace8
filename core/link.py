"""A connection between two sides, without saying what carries it: mux, handlers, heartbeat, end.

What carries it (channel.py: ZeroMQ; testing.py: memory) sends one message when `_transmit` says so
and hands over what came with `_arrived`. The first frame of a turn of the loop leaves at once, for a
lone request must not wait a turn; whatever else comes in that turn leaves together at its end.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from typing import Any

from pymirror.core import _batch as batch
from pymirror.core import arrivals
from pymirror.core.carrier import Carrier
from pymirror.core.errors import ChannelLost, Overslept, PeerError
from pymirror.core.limit import timeout
from pymirror.core.linkpeer import LinkPeer, too_late
from pymirror.core.message import feature_of, tag_of
from pymirror.core.mux import Mux
from pymirror.core.serving import Serving
from pymirror.core.streams import ChannelStream
from pymirror.core.windows import Terms

log = logging.getLogger("pymirror.core.channel")

FAREWELL = 0.5
"""Seconds `aclose` waits for the other side to have all that was sent, a goodbye for one."""
UNWIND = 0.4
"""Seconds `aclose` gives cancelled handlers to end; with FAREWELL it stays below one second."""


class Clock:
    """What heartbeat, lease and goodbye go by; a test has one that it moves by hand."""

    def now(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


CLOCK = Clock()


class Link:
    """One end of a connection; see `core.channel.Channel`."""

    def __init__(self, initiator: bool, heartbeat: float, lease: float, clock: Clock = CLOCK) -> None:
        self._loop = asyncio.get_running_loop()
        self._heartbeat, self._lease, self._clock = heartbeat, lease, clock
        self.mux = Mux(initiator)
        self.streams: dict[int, ChannelStream] = {}
        self.writers: set[ChannelStream] = set()
        self.counters: Counter[str] = Counter()
        self._serving = Serving(self)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._heard = self._woke = clock.now()
        self._slept = 0.0
        self._sign = asyncio.Event()  # set at each message that arrives
        self._pong: asyncio.Future[None] = self._loop.create_future()
        self._lost: asyncio.Future[ChannelLost] = self._loop.create_future()
        self._ended: asyncio.Future[None] | None = None
        self._beat: asyncio.Task[None] | None = None
        self._pongs = 0
        self._turn = self._rests = False
        self._unsent: list[Any] = []
        self.carrier = Carrier(self.mux, self._depart)

    # For the halves -------------------------------------------------------------------------

    def peer(self, feature: str) -> LinkPeer:
        """The other half of `feature`."""
        return LinkPeer(self, feature)

    def agree(self, terms: Terms) -> None:
        """Count streams by these terms, as the other side does. Before the first one."""
        self.mux.agree(terms)

    def serve(self, feature: str, half: object) -> None:
        """Messages of `feature` go to the methods of `half` marked with `@handles`."""
        self._serving.serve(feature, half)

    @property
    def round_trips(self) -> int:
        """Requests sent so far."""
        return self.counters["requests"]

    async def wait_closed(self) -> ChannelLost:
        """The reason, once the channel is gone."""
        return await asyncio.shield(self._lost)

    async def aclose(self) -> None:
        """End now: what waits fails with ChannelLost, what was sent arrives if the other side is there.

        Never hangs (one second at most); may be called again, also while it runs.
        """
        if self._ended is not None:
            await asyncio.shield(self._ended)
            return
        self._ended = self._loop.create_future()
        try:
            await self._farewell()
        finally:
            self._lose(ChannelLost("closed on this side"))
            try:
                await self._unwind()
            finally:
                self.carrier.close()
                self._close()
                self._ended.set_result(None)

    # For what carries it --------------------------------------------------------------------

    def _transmit(self, parts: list[Any]) -> bool:
        """Send one message; False if there is no room now: then call `_flush` when there is."""
        raise NotImplementedError

    def _close(self) -> None:
        """Give back what carries the link; must not block."""
        raise NotImplementedError

    def _arrived(self, parts: list[bytes]) -> None:
        """One message came."""
        self._heard = self._clock.now()
        self._sign.set()
        try:
            for event in self.mux.receive(parts, batch.give):
                self._event(event)
        except PeerError as error:
            log.error("the peer broke the protocol: %s", error)
            self._lose(ChannelLost(f"the peer broke the protocol: {error.message}"))
        self._wake_freed()
        self.soon()

    def _start(self) -> None:
        self._beat = self._loop.create_task(self._beating())

    # Going out ------------------------------------------------------------------------------

    def soon(self) -> None:
        """Something is to be sent, now or at the end of this turn of the loop."""
        if self.mux.pending and not self._turn and not self._lost.done():
            self._turn = True
            self._loop.call_soon(self._rest)
            self._depart()

    def later(self) -> None:
        """The same for what nobody waits for: it goes with the next message, or alone at the turn's end."""
        if self.mux.pending and not self._turn and not self._rests and not self._lost.done():
            self._rests = True
            self._loop.call_soon(self._rest)

    def _rest(self) -> None:
        self._turn = self._rests = False
        self.carrier.look()
        self._flush()

    def _flush(self) -> None:
        """Send what there is, then tell those who waited for room: never from within their own call."""
        self._depart()
        if not self._lost.done():
            self._serving.release()
            writers, self.writers = self.writers, set()  # one that finds no room joins them again
            for stream in writers:
                stream.wake_writer()
            self._wake_freed()

    def _wake_freed(self) -> None:
        """Not who waits for credit of its own: a hundred that stall cost the others nothing."""
        for number in self.mux.freed():
            if number in self.streams:
                self.streams[number].wake_writer()

    def _depart(self) -> None:
        if self._lost.done():
            return
        while parts := self._unsent or self._next():
            self._unsent = []
            if not self._transmit(parts):
                self._unsent = parts
                break
            self.counters["messages"] += 1

    def _next(self) -> list[Any]:
        """What was queued, and behind it what sockets have that are joined to streams."""
        parts = self.mux.take()
        return self.carrier.fill(parts) if self.carrier.due else parts

    # Coming in ------------------------------------------------------------------------------

    def _event(self, event: arrivals.Event) -> None:
        if isinstance(event, arrivals.Answered):
            self._settle(event)
        elif isinstance(event, arrivals.Requested):
            self._serving.requested(event.id, event.message)
        elif isinstance(event, arrivals.Happened):
            self._serving.happened(event.message)
        elif isinstance(event, arrivals.Cancelled):
            self._serving.cancelled(event.id)
        elif isinstance(event, arrivals.Opened):
            feature = feature_of(tag_of(type(event.message)))
            stream = self.streams[event.stream] = ChannelStream(self, event.stream, feature)
            self._serving.opened(event.message, stream)
        elif isinstance(event, (arrivals.Received, arrivals.Credited, arrivals.Ended, arrivals.Broken)):
            if event.stream in self.streams:
                self.streams[event.stream].happened(event)
        elif isinstance(event, arrivals.Ponged):
            self._pongs += 1
            if not self._pong.done():
                self._pong.set_result(None)
        elif isinstance(event, arrivals.Refused):
            self._lose(ChannelLost(str(event.error)))
        else:
            log.error("an event is dropped: %s", event.error)

    def _settle(self, event: arrivals.Answered) -> None:
        future = self._answers.pop(event.id, None)
        if future is None or future.done():
            return
        if event.error is not None:
            future.set_exception(event.error)
        else:
            future.set_result(event.message)

    # Life -----------------------------------------------------------------------------------

    async def _beating(self) -> None:
        clock, pause = self._clock, min(self._heartbeat, self._lease / 3)
        while not self._lost.done():
            self._woke = clock.now()
            await clock.sleep(pause)
            self._slept = self._stopped()
            if self._slept > pause + self._lease / 2:
                self._heard = clock.now()  # this process was stopped or asleep: ask before judging
            silent = clock.now() - self._heard
            if silent > self._lease:
                self._gone(f"nothing heard from the other side for {silent:.1f} s")
                return
            self.mux.ping()
            self.soon()

    def _stopped(self) -> float:
        """Seconds since the beat was last at its place."""
        return self._clock.now() - self._woke

    def _gone(self, words: str) -> None:
        """The other side is not there any more. One that was left alone for a lease ended rightly."""
        slept = max(self._slept, self._stopped())
        if slept + self._heartbeat <= self._lease:
            self._lose(ChannelLost(words))
            return
        waits = f"the other side waits no longer than {self._lease:g} s (session.lease)"
        self._lose(Overslept(f"pymirror was stopped or asleep for {slept:.0f} s, and {waits}"))

    async def _farewell(self) -> None:
        """Wait until each side has what the other sent, and knows it; a ping carries our half of that."""
        before, owed = self._pongs, self.mux.owes
        late: asyncio.Future[Any] = asyncio.ensure_future(self._clock.sleep(FAREWELL))
        try:
            while not self.mux.settled or (owed and self._pongs == before):
                self._sign.clear()
                self.mux.ping()
                self._flush()
                sign: asyncio.Future[Any] = asyncio.ensure_future(self._sign.wait())
                await asyncio.wait({sign, self._lost, late}, return_when="FIRST_COMPLETED")
                sign.cancel()
                if self._lost.done() or late.done():
                    return
        finally:
            late.cancel()

    async def _unwind(self) -> None:
        """Cancel the handlers that still run and wait for them, but not for ever."""
        current = asyncio.current_task()
        tasks = {*self._serving.running, *({self._beat} if self._beat else ())}
        tasks = {task for task in tasks if task is not current and not task.done()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=UNWIND)

    def _lose(self, reason: ChannelLost) -> None:
        if self._lost.done():
            return
        self._lost.set_result(reason)
        for future in self._answers.values():
            if not future.done():
                future.set_exception(ChannelLost(reason.message))
        self._answers.clear()
        for stream in list(self.streams.values()):
            stream.happened(arrivals.Broken(stream.id, ChannelLost(reason.message)))
        self._sign.set()

    def _check(self) -> None:
        if self._lost.done():
            raise ChannelLost(self._lost.result().message)

    async def _news(self, until: float | None = None, message: Any = None) -> None:
        """Until the other side said something. ChannelLost; TimeoutError about `message` at `until`."""
        self._sign.clear()
        left = None if until is None else max(0.0, until - time.monotonic())
        try:
            async with timeout(left):
                await self._sign.wait()
        except asyncio.TimeoutError:
            raise too_late(message) from None
        self._check()
