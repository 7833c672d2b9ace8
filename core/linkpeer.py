"""The other half of one feature, as a feature sees it: requests, messages and streams over a link."""

from __future__ import annotations

import asyncio
import errno
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from pymirror.core.feature import ANSWER_WITHIN
from pymirror.core.message import feature_of, tag_of
from pymirror.core.streams import ChannelStream

if TYPE_CHECKING:
    from pymirror.core.link import Link


def too_late(message: Any) -> TimeoutError:
    """Of a request without an answer."""
    return TimeoutError(errno.ETIMEDOUT, f"the other side did not answer {type(message).__name__} in time")


def _late(future: asyncio.Future[Any], message: Any) -> None:
    if not future.done():
        future.set_exception(too_late(message))


class LinkPeer:
    """`core.feature.Peer` over a link."""

    def __init__(self, link: Link, feature: str) -> None:
        self._link, self._feature = link, feature

    def _own(self, message: Any) -> None:
        if feature_of(tag_of(type(message))) != self._feature:
            raise TypeError(f"{type(message).__name__} is not a message of {self._feature}")
        self._link._check()

    def request(self, message: Any, timeout: float | None = ANSWER_WITHIN) -> asyncio.Future[Any]:
        """Send and await the reply. TimeoutError (ETIMEDOUT) after `timeout` seconds, None: no limit.

        Where the other side takes it, it has left when this returns, before anything is awaited. The
        limit covers all there is to wait for. Cancelled or out of time, it tells the other side, whose
        handler is then cancelled too.
        """
        until = None if timeout is None else time.monotonic() + timeout
        self._own(message)
        if self._link.mux.full:
            return self._link._loop.create_task(self._request_later(message, until))
        return self._put(message, until)

    async def _request_later(self, message: Any, until: float | None) -> Any:
        while self._link.mux.full:
            await self._link._news(until, message)
        return await self._put(message, until)

    def _put(self, message: Any, until: float | None) -> asyncio.Future[Any]:
        link = self._link
        number = link.mux.request(message)
        future = link._answers[number] = link._loop.create_future()
        link.counters["requests"] += 1
        link.counters[f"requests {type(message).__name__}"] += 1
        link.soon()
        # Not asyncio.wait_for: before Python 3.12 it makes a task, which costs more than the request.
        late = (
            None if until is None else link._loop.call_later(until - time.monotonic(), _late, future, message)
        )
        future.add_done_callback(partial(self._over, number, late))
        return future

    def _over(self, number: int, late: asyncio.TimerHandle | None, _: asyncio.Future[Any]) -> None:
        if late:
            late.cancel()
        if self._link._answers.pop(number, None) is not None:  # cancelled, or out of time
            self._link.mux.cancel(number)
            self._link.soon()

    def send(self, message: Any) -> None:
        """Send without an answer. ChannelLost; BlockingIOError while the other side takes no more."""
        self._own(message)
        self._link.mux.event(message)
        self._link.soon()

    async def drained(self) -> None:
        """Until half of what may wait of `send` has arrived over there. ChannelLost."""
        self._link._check()
        while not self._link.mux.drained(self._feature):
            await self._link._news()

    async def stream(self, message: Any) -> ChannelStream:
        """Open a stream; the other side's handler of the message gets (message, stream)."""
        return self.stream_now(message)

    def stream_now(self, message: Any, alone: bool = True) -> ChannelStream:
        """The same; neither waits."""
        link = self._link
        self._own(message)
        number = link.mux.open(message)
        stream = link.streams[number] = ChannelStream(link, number, self._feature)
        if alone:
            link.soon()
        else:
            link.later()
        return stream
