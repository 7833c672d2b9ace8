"""A clock that a test moves: what waits for a time waits until the test says so."""

from __future__ import annotations

import asyncio

from pymirror.core.link import Clock

TURNS = 20
"""Of the loop: more than a ping, its answer and what that wakes take between ends in memory."""


async def settle() -> None:
    """Whatever needs no time happens now."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


class HandClock(Clock):
    def __init__(self) -> None:
        self._now = 1000.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._now + seconds, sleeper))
        await sleeper

    async def go_on(self, seconds: float) -> None:
        """So much time passes; each sleeper wakes at its own moment."""
        await settle()
        end = self._now + seconds
        while self._sleepers and (first := min(at for at, _ in self._sleepers)) <= end:
            await self.jump(first - self._now)
        self._now = end

    async def jump(self, seconds: float) -> None:
        """So much time passes at once, as for a process that was stopped."""
        await settle()
        self._now += seconds
        due = [sleeper for at, sleeper in self._sleepers if at <= self._now]
        self._sleepers = [(at, sleeper) for at, sleeper in self._sleepers if at > self._now]
        for sleeper in due:
            if not sleeper.done():
                sleeper.set_result(None)
        await settle()
