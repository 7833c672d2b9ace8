"""What a program sent before it ended: it arrives, as by the kernel alone, or the user is told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from pymirror.core.limit import timeout
from pymirror.features.network.carry import Join
from pymirror.features.network.outgoing.datagrams import Flow

log = logging.getLogger("pymirror.features.network.outgoing")

AT_ONCE = 3.0
"""Seconds for all of it; for a connection that a child holds, nobody waits any longer."""
QUIETLY = 1.0
"""Further seconds until it is said what is waited for."""
Settle = Callable[[list[int]], Awaitable[object]]
"""Returns once the target's kernel has all that was sent in these, to the end of their streams."""


async def settle(joined: Mapping[int, Join | Flow], asked: Settle, patience: float) -> None:
    """patience: seconds for what the target is slow to take. PeerError; OSError."""
    for each in joined.values():
        if isinstance(each, Flow):
            each.finish()
    if await _within(AT_ONCE, _taken(joined, asked)):
        return
    left = {number: each for number, each in joined.items() if isinstance(each, Join) and is_behind(each)}
    rest = asyncio.ensure_future(_taken(left, asked))
    try:
        if await _within(min(QUIETLY, patience), asyncio.shield(rest)):
            return
        log.warning(
            "the target is slow to take what the program sent: %d connections have up to %g s for it (%s)",
            *(len(left), patience, "feature.network.outgoing.settle_timeout"),
        )
        if not await _within(max(patience - QUIETLY, 0), asyncio.shield(rest)):
            lost = sum(not each.given.is_set() for each in left.values())
            log.warning("%d connections are reset: the target has not taken all that the program sent", lost)
    finally:
        rest.cancel()
        await asyncio.gather(rest, return_exceptions=True)


def is_behind(join: Join) -> bool:
    """Does it carry something that is over for the program, or that it waits to be rid of?"""
    return not join.closed and (join.taken.is_set() or join.stalls)


async def _taken(joined: Mapping[int, Join | Flow], asked: Settle) -> None:
    if joined:
        await asyncio.gather(*(each.taken.wait() for each in joined.values()))
        await asked(list(joined))


async def _within(seconds: float, work: Awaitable[object]) -> bool:
    try:
        async with timeout(seconds):
            await work
    except asyncio.TimeoutError:
        return False
    return True
