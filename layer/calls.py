"""Dispatch: a call goes to the layer halves that intercept it, in configured order.

The first verdict that is not None wins. A scope is passed on to the engine only where
keeping it is sound: every half asked before must have promised to be `pure`.
"""

from __future__ import annotations

import errno
import inspect
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

import attrs
from attrs import frozen

from pymirror.core.call import Call, Errno, Scope, Untouched, Verdict
from pymirror.core.feature import INTERCEPTS, LayerFeature, marked

log = logging.getLogger("pymirror.layer.calls")

NOT_CLAIMED = "no feature claims this call"


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

    async def __call__(self, call: Call) -> Verdict:
        verdict = await self._ask(call)
        if self._trace is not None:
            self._trace(call, verdict)
        return verdict

    async def _ask(self, call: Call) -> Verdict:
        keep = True
        for asked in self._table.get(call.name, ()):
            verdict = await self._one(asked, call)
            if verdict is not None:
                return verdict if keep else attrs.evolve(verdict, scope=Scope.ONCE)
            keep = keep and asked.pure
        return Untouched(NOT_CLAIMED, scope=Scope.CALL if keep else Scope.ONCE)

    async def _one(self, asked: _Asked, call: Call) -> Verdict | None:
        try:
            answer = asked.method(call)
            if inspect.isawaitable(answer):
                answer = await answer
        except OSError as error:
            code = error.errno or errno.EIO
            return Errno(f"{asked.feature}: {os.strerror(code)}", code=code)
        except Exception:
            # A bug of the half: said once per call with its name; the program gets a plain EIO.
            log.exception("feature %s failed on %s %r", asked.feature, call.name, call.path)
            return Errno(f"{asked.feature}: failed, see the log", code=errno.EIO)
        if answer is not None and not isinstance(answer, Verdict):
            log.error("feature %s answered %s with %r, not a verdict", asked.feature, call.name, answer)
            return Errno(f"{asked.feature}: not a verdict", code=errno.EIO)
        return answer
