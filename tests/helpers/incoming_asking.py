"""A filter that has to ask, and is answered when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from attrs import define, field

from pymirror.core.limit import timeout
from pymirror.features.network.incoming.http_rules import Decision, Headers


@define(eq=False)
class Question:
    again: Callable[[], object]
    target: bytes
    body: bytes | None
    done: bool = False
    decision: Decision | None = None
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True

    def answer(self, matches: bool | None) -> None:
        self.done = True
        self.decision = None if matches is None else Decision(matches, "a test's")
        self.again()


@define(eq=False)
class Asks:
    """Of every request, as often as it is looked at."""

    needs_body: bool = True
    asked: list[Question] = field(factory=list)
    changed: asyncio.Event = field(factory=asyncio.Event)

    async def reached(self, count: int) -> Question:
        """The last of so many questions."""
        async with timeout(10):
            while len(self.asked) < count:
                self.changed.clear()
                await self.changed.wait()
        assert len(self.asked) == count
        return self.asked[-1]

    def decide(
        self, method: bytes, target: bytes, headers: Headers, body: bytes | None = None
    ) -> Decision | None:
        raise AssertionError("nobody may wait")

    def soon(
        self, method: bytes, target: bytes, headers: Headers, body: bytes | None, again: Callable[[], object]
    ) -> Question:
        self.asked.append(Question(again, target, body))
        self.changed.set()
        return self.asked[-1]
