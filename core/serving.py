"""Handlers of what the peer sends: requests run side by side, events of one feature one by one.

Requests start in the order they came. They start later while much waits to leave already, so that a
peer that asks and does not read costs a bounded amount of memory. A handler's bug is logged once,
here; what it raises on purpose (OSError, PymirrorError) only crosses.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Coroutine
from functools import partial
from typing import Any

from pymirror.core.errors import PeerError, PymirrorError
from pymirror.core.feature import HANDLES, marked
from pymirror.core.message import feature_of, tag_of
from pymirror.core.streams import ChannelStream, Pump

log = logging.getLogger("pymirror.core.channel")

MAX_EVENTS = 65536
"""Events of one feature that wait for its handler; more is a peer that does not stop."""


class Serving:
    """The halves of one channel and what runs of them."""

    def __init__(self, pump: Pump) -> None:
        self._pump, self._mux = pump, pump.mux
        self._loop = asyncio.get_running_loop()
        self._halves: dict[str, dict[type, Any]] = {}
        self._answering: dict[int, asyncio.Task[None]] = {}
        self._held: deque[tuple[int, Any]] = deque()
        self._events: dict[str, deque[Any]] = {}
        self.running: set[asyncio.Task[None]] = set()

    def serve(self, feature: str, half: object) -> None:
        """Messages of `feature` go to the methods of `half` marked with `@handles`."""
        self._halves[feature] = {cls: getattr(half, name) for name, cls in marked(type(half), HANDLES)}

    def _handler(self, message: Any) -> Any:
        feature = feature_of(tag_of(type(message)))
        handler = self._halves.get(feature, {}).get(type(message))
        if handler is None:
            raise PeerError(f"no half of {feature} here handles {type(message).__name__}")
        return handler

    def _spawn(self, work: Coroutine[Any, Any, None], waits_for: Awaitable[Any]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self.running.add(task)
        task.add_done_callback(partial(self._ended, waits_for))
        return task

    def _ended(self, waits_for: Awaitable[Any], task: asyncio.Task[None]) -> None:
        """Also for a task that was cancelled before its first step: nobody awaits the handler then."""
        self.running.discard(task)
        if inspect.iscoroutine(waits_for):
            waits_for.close()

    # Requests -------------------------------------------------------------------------------

    def requested(self, number: int, message: Any) -> None:
        if self._held or self._mux.congested:
            self._held.append((number, message))
        else:
            self._start(number, message)

    def release(self) -> None:
        """Something left: requests that were held may start."""
        while self._held and not self._mux.congested:
            self._start(*self._held.popleft())

    def cancelled(self, number: int) -> None:
        task = self._answering.get(number)
        if task is not None:
            task.cancel()
            return
        self._held = deque(held for held in self._held if held[0] != number)
        self._mux.fail(number, PeerError("cancelled over there"), "")

    def _start(self, number: int, message: Any) -> None:
        """A plain method's answer leaves now; a coroutine gets a task."""
        try:
            answer = self._handler(message)(message)
            if not inspect.isawaitable(answer):
                self._mux.reply(number, answer)
                self._pump.soon()
                return
        except Exception as error:
            self._failed(number, error, message)
            return
        task = self._answering[number] = self._spawn(self._answer(number, message, answer), answer)
        task.add_done_callback(partial(self._answered, number))

    def _answered(self, number: int, task: asyncio.Task[None]) -> None:
        del self._answering[number]
        self._mux.fail(number, PeerError("cancelled over there"), "")  # nothing, if it is answered
        self._pump.soon()

    async def _answer(self, number: int, message: Any, answer: Awaitable[Any]) -> None:
        try:
            self._mux.reply(number, await answer)
        except Exception as error:
            self._failed(number, error, message)
        self._pump.soon()

    def _failed(self, number: int, error: Exception, message: Any) -> None:
        self._blame(error, message)
        self._mux.fail(number, error, feature_of(tag_of(type(message))))
        self._pump.soon()

    # Events and streams ---------------------------------------------------------------------

    def happened(self, message: Any) -> None:
        """PeerError when more events wait than any half should ever send."""
        feature = feature_of(tag_of(type(message)))
        waiting = self._events.get(feature)
        if waiting is None:
            done = self._heard(message)
            if done is not None:
                self._events[feature] = deque()
                self._spawn(self._in_order(feature, message, done), done)
        elif len(waiting) >= MAX_EVENTS:
            raise PeerError(f"more than {MAX_EVENTS} events of {feature} wait for their handler")
        else:
            waiting.append(message)

    def _heard(self, message: Any) -> Awaitable[Any] | None:
        """Hand one event over; what is to be awaited before the next, if anything."""
        try:
            done = self._handler(message)(message)
        except Exception as error:
            self._blame(error, message, answered=False)
            return None
        return done if inspect.isawaitable(done) else None

    async def _in_order(self, feature: str, message: Any, done: Awaitable[Any] | None) -> None:
        waiting = self._events[feature]
        while True:
            try:
                if done is not None:
                    await done
            except Exception as error:
                self._blame(error, message, answered=False)
            if not waiting:
                break
            message = waiting.popleft()
            done = self._heard(message)
        del self._events[feature]

    def opened(self, message: Any, stream: ChannelStream) -> None:
        try:
            done = self._handler(message)(message, stream)
        except Exception as error:
            self._broke(error, message, stream)
            return
        if inspect.isawaitable(done):
            self._spawn(self._streamed(message, stream, done), done)

    async def _streamed(self, message: Any, stream: ChannelStream, done: Awaitable[Any]) -> None:
        try:
            await done
        except Exception as error:
            self._broke(error, message, stream)

    def _broke(self, error: Exception, message: Any, stream: ChannelStream) -> None:
        self._blame(error, message)
        stream.fail(error, feature_of(tag_of(type(message))))

    @staticmethod
    def _blame(error: Exception, message: Any, answered: bool = True) -> None:
        """Log what nobody else will: bugs, and any failure that no answer carries over."""
        meant = isinstance(error, PymirrorError) or (isinstance(error, OSError) and error.errno is not None)
        feature, name = feature_of(tag_of(type(message))), type(message).__name__
        if not meant:
            log.error("%s failed on %s", feature, name, exc_info=error)
        elif not answered:
            log.error("%s failed on %s: %s", feature, name, error)
