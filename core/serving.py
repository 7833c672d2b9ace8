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

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self.running.add(task)
        task.add_done_callback(self.running.discard)
        return task

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
        task = self._answering[number] = self._spawn(self._answer(number, message, answer))
        task.add_done_callback(partial(self._answered, number, answer))

    def _answered(self, number: int, answer: Any, task: asyncio.Task[None]) -> None:
        """Also for a task that was cancelled before its first step."""
        del self._answering[number]
        if inspect.iscoroutine(answer):
            answer.close()
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
            self._events[feature] = deque([message])
            self._spawn(self._in_order(feature))
        elif len(waiting) >= MAX_EVENTS:
            raise PeerError(f"more than {MAX_EVENTS} events of {feature} wait for their handler")
        else:
            waiting.append(message)

    async def _in_order(self, feature: str) -> None:
        waiting = self._events[feature]
        while waiting:
            message = waiting.popleft()
            try:
                done = self._handler(message)(message)
                if inspect.isawaitable(done):
                    await done
            except Exception as error:
                self._blame(error, message, answered=False)
        del self._events[feature]

    def opened(self, message: Any, stream: ChannelStream) -> None:
        self._spawn(self._streamed(message, stream))

    async def _streamed(self, message: Any, stream: ChannelStream) -> None:
        try:
            done = self._handler(message)(message, stream)
            if inspect.isawaitable(done):
                await done
        except Exception as error:
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
