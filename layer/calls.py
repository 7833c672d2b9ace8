"""Dispatch: a call goes to the layer halves that intercept it, in configured order.

The first verdict that is not None wins. A scope is passed on to the engine only where
keeping it is sound: every half asked before must have promised to be `pure`.
"""

from __future__ import annotations

import errno
import inspect
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import attrs
from attrs import frozen

from pymirror.core.call import Call, Errno, Scope, Untouched, Verdict
from pymirror.core.errors import PeerError
from pymirror.core.feature import INTERCEPTS, LayerFeature, marked
from pymirror.core.later import Later
from pymirror.layer.other import settled

log = logging.getLogger("pymirror.layer.calls")

NOT_CLAIMED = "no feature claims this call"
UNCLAIMED = Untouched(NOT_CLAIMED, scope=Scope.CALL)


@frozen
class _Asked:
    feature: str
    method: Callable[[Call], Any]
    pure: bool


class Dispatch:
    """Asks the halves. `trace(call, verdict)` sees every decision."""

    def __init__(self, halves: Sequence[LayerFeature], trace: Callable[[Call, Verdict], None] | None = None):
        self._table: dict[str, list[_Asked]] = {}
        self._trace = trace
        self._refused: set[str] = set()
        for half in halves:
            for name, (calls, pure) in marked(type(half), INTERCEPTS):
                for call in calls:
                    self._table.setdefault(call, []).append(_Asked(half.name, getattr(half, name), pure))

    @property
    def calls(self) -> frozenset[str]:
        """The calls at least one half intercepts."""
        return frozenset(self._table)

    def sound(self, call: str) -> bool:
        """May a verdict that a half declared in `Launch.known` be kept by the engine?

        With several halves on one call only if all but the last are `pure`.
        """
        return all(asked.pure for asked in self._table.get(call, ())[:-1])

    def __call__(self, call: Call) -> Verdict | Awaitable[Verdict]:
        """The verdict at once where no half has to wait for it, else something to await."""
        keep = True
        for place, asked in enumerate(self._table.get(call.name, ())):
            answer = self._begin(asked, call)
            if isinstance(answer, Later):
                later = Later()
                answer.then(partial(self._settled, later, call, keep))
                return later
            if answer is not None and not isinstance(answer, Verdict):
                return self._later(call, place, answer, keep)
            if answer is not None:
                return self._told(call, answer, keep)
            keep = keep and asked.pure
        return self._told(call, UNCLAIMED, keep)

    async def _later(self, call: Call, place: int, first: Awaitable[Any], keep: bool) -> Verdict:
        """As __call__, from the half at `place` on, whose answer has to be awaited."""
        waited: Any = first
        for asked in self._table[call.name][place:]:
            answer = self._begin(asked, call) if waited is None else waited
            waited = None
            if answer is not None and not isinstance(answer, Verdict):
                answer = await self._finish(asked, call, answer)
            if answer is not None:
                return self._told(call, answer, keep)
            keep = keep and asked.pure
        return self._told(call, UNCLAIMED, keep)

    def _settled(self, later: Later, call: Call, keep: bool, verdict: Verdict) -> None:
        later.settle(self._told(call, verdict, keep))

    def _told(self, call: Call, verdict: Verdict, keep: bool) -> Verdict:
        told, verdict = verdict, settled(call, verdict)
        if told is not verdict:
            self._warn(call, verdict)
        if not keep and verdict.scope is not Scope.ONCE:
            verdict = attrs.evolve(verdict, scope=Scope.ONCE)
        if self._trace is not None:
            self._trace(call, verdict)
        return verdict

    def _warn(self, call: Call, refused: Verdict) -> None:
        """Once for a system call; `--trace` has them all."""
        if call.system not in self._refused:
            self._refused.add(call.system)
            log.warning("%s of %s fails: %s", call.system, os.fsdecode(call.path), refused.reason)

    def _begin(self, asked: _Asked, call: Call) -> Verdict | Awaitable[Any] | None:
        try:
            answer = asked.method(call)
        except Exception as error:
            return _failed(asked, call, error)
        if answer is None or isinstance(answer, Verdict) or inspect.isawaitable(answer):
            return answer
        return _no_verdict(asked, call, answer)

    async def _finish(self, asked: _Asked, call: Call, waited: Awaitable[Any]) -> Verdict | None:
        try:
            answer = await waited
        except Exception as error:
            return _failed(asked, call, error)
        if answer is None or isinstance(answer, Verdict):
            return answer
        return _no_verdict(asked, call, answer)


def _failed(asked: _Asked, call: Call, error: Exception) -> Errno:
    if isinstance(error, OSError):
        code = error.errno or errno.EIO
        return Errno(f"{asked.feature}: {os.strerror(code)}", code=code)
    if isinstance(error, PeerError):  # the session's own end says why
        log.debug("feature %s: %s %r: %s", asked.feature, call.name, call.path, error)
        return Errno(f"{asked.feature}: {error.message}", code=errno.EIO)
    # A bug of the half: said once per call with its name; the program gets a plain EIO.
    log.error("feature %s failed on %s %r", asked.feature, call.name, call.path, exc_info=error)
    return Errno(f"{asked.feature}: failed, see the log", code=errno.EIO)


def _no_verdict(asked: _Asked, call: Call, answer: object) -> Errno:
    log.error("feature %s answered %s with %r, not a verdict", asked.feature, call.name, answer)
    return Errno(f"{asked.feature}: not a verdict", code=errno.EIO)
