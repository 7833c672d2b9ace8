"""Heartbeat, lease and goodbye of a link in memory, by a clock that only the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from channel_ends import Note, soon
from hand_clock import HandClock, settle

from pymirror.core import link
from pymirror.core.testing import MemoryLink

HEARTBEAT, LEASE = 3.0, 30.0


class Ends:
    def __init__(self) -> None:
        self.clock = HandClock()
        self.near, self.far = MemoryLink.pair(HEARTBEAT, LEASE, self.clock)


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    made = Ends()
    yield made
    made.near.cut()
    await asyncio.gather(made.near.aclose(), made.far.aclose())


def lost(end: MemoryLink) -> str:
    return str(end._lost.result()) if end._lost.done() else ""


async def test_heartbeats_keep_an_idle_connection(ends: Ends) -> None:
    await ends.clock.go_on(10 * LEASE)
    assert not lost(ends.near) and not lost(ends.far)


async def test_silence_ends_it_after_the_lease_and_not_before(ends: Ends) -> None:
    ends.far.stop()
    await ends.clock.go_on(LEASE)
    assert not lost(ends.near)
    await ends.clock.go_on(HEARTBEAT)
    assert "nothing heard from the other side for 33.0 s" in lost(ends.near)


async def test_a_pause_longer_than_a_third_of_the_lease_is_shortened() -> None:
    clock = HandClock()
    near, far = MemoryLink.pair(heartbeat=100.0, lease=LEASE, clock=clock)
    await clock.go_on(10 * LEASE)
    assert not lost(near) and not lost(far)
    near.cut()
    await asyncio.gather(near.aclose(), far.aclose())


async def test_who_was_stopped_itself_asks_before_it_judges(ends: Ends) -> None:
    await ends.clock.jump(100 * LEASE)
    await ends.clock.go_on(LEASE)
    assert not lost(ends.near) and not lost(ends.far)


async def test_who_was_stopped_itself_judges_a_lease_later(ends: Ends) -> None:
    ends.far.stop()
    await ends.clock.jump(100 * LEASE)
    assert not lost(ends.near)
    await ends.clock.go_on(LEASE + HEARTBEAT)
    assert "nothing heard" in lost(ends.near)


async def test_the_end_waits_for_a_silent_peer_as_long_as_a_goodbye_takes(ends: Ends) -> None:
    ends.far.stop()
    ends.near.peer("test-channel").send(Note(1))
    closing = asyncio.ensure_future(ends.near.aclose())
    await ends.clock.go_on(link.FAREWELL * 0.9)
    assert not closing.done()
    await ends.clock.go_on(link.FAREWELL * 0.1)
    await soon(closing)


async def test_the_end_waits_for_no_time_where_the_peer_answers(ends: Ends) -> None:
    ends.near.peer("test-channel").send(Note(1))
    closing = asyncio.ensure_future(ends.near.aclose())
    await settle()
    assert closing.done()


async def test_who_was_stopped_for_longer_than_the_lease_says_so(ends: Ends) -> None:
    await ends.clock.go_on(LEASE)
    ends.clock._now += 45.0  # the loop comes to the broken connection before it comes to the beat
    ends.near.cut()
    assert "stopped or asleep for 45 s, and the other side waits no longer than 30 s" in lost(ends.near)


async def test_who_was_stopped_says_so_as_well_when_the_beat_came_first(ends: Ends) -> None:
    await ends.clock.jump(45.0)
    ends.near.cut()
    assert "stopped or asleep for 45 s" in lost(ends.near)


async def test_a_pause_that_was_lived_through_explains_nothing_later(ends: Ends) -> None:
    await ends.clock.jump(45.0)
    await ends.clock.go_on(2 * HEARTBEAT)
    ends.near.cut()
    assert "the connection was cut" in lost(ends.near)
