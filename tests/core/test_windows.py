"""Windows and their pool: how they grow, what each leaves to the others, and when credit is due."""

from __future__ import annotations

import random

import pytest

from pymirror.core.arrivals import Credited, Received
from pymirror.core.message import message
from pymirror.core.testing import Transcript
from pymirror.core.windows import (
    CREDIT_FROM,
    CREDIT_FROM_TIGHT,
    FIRST,
    LEAST,
    SMALLEST,
    Pool,
    Terms,
    Window,
    needed,
    reach,
)

MIB = 1 << 20


@message("test-windows")
class Begin:
    pass


def filled(pool: Pool, window: Window) -> int:
    """Written until there is no more room."""
    before = window.ahead
    while room := pool.room(window):
        pool.wrote(window, min(room, 128 << 10))
    return window.ahead - before


def test_a_window_grows_by_what_is_taken_of_it_up_to_its_share() -> None:
    pool, window, sizes = Pool(64 * MIB), Window(), []
    for _ in range(7):
        filled(pool, window)
        sizes.append(window.ahead)
        assert pool.credited(window, window.ahead)
    assert sizes[:4] == [FIRST, 3 * FIRST, 9 * FIRST, 27 * FIRST]
    assert sizes[5] == sizes[6] == pytest.approx(16 * MIB, rel=0.01)


def test_a_window_that_was_large_enough_does_not_grow() -> None:
    pool, window = Pool(64 * MIB), Window()
    for _ in range(100):
        pool.wrote(window, FIRST // 2)
        assert pool.room(window) == FIRST // 2
        assert pool.credited(window, FIRST // 2)
    assert window.size == FIRST


def test_each_stalled_window_takes_its_share_of_what_is_left_and_none_gets_less_than_the_least() -> None:
    pool = Pool(64 * MIB)
    taken = [filled(pool, Window(size=64 * MIB)) for _ in range(300)]
    assert taken == sorted(taken, reverse=True)
    assert taken[6] > MIB and taken[-1] == LEAST
    assert pool.used <= pool.size + 300 * LEAST


@pytest.mark.parametrize("size", [24 * MIB, 64 * MIB])
@pytest.mark.parametrize(("stalled", "least"), [(12, 96), (24, 78), (100, 24)])
def test_readers_that_stall_when_their_windows_are_wide_leave_a_small_one_to_each_other(
    size: int, stalled: int, least: int
) -> None:
    pool = Pool(size)
    for _ in range(stalled):
        filled(pool, Window(size=size))
    assert filled(pool, Window()) >= least << 10


@pytest.mark.parametrize("size", [SMALLEST, 24 * MIB, 64 * MIB])
def test_what_is_needed_is_the_least_that_reaches_so_far(size: int) -> None:
    for ahead in (LEAST + 1, 50_000, FIRST, FIRST + 1, MIB // 2, size // 8):
        least = needed(ahead, size)
        assert reach(least, size) >= ahead > reach(least - 1, size)


def test_nobody_may_be_further_ahead_than_what_is_free_or_the_least() -> None:
    for free in (*range(-MIB, 4 * MIB, 3001), 4 * MIB):
        assert reach(free, 4 * MIB) <= max(free, LEAST)


def test_room_too_small_to_be_worth_it_is_none() -> None:
    pool, window = Pool(64 * MIB), Window()
    pool.wrote(window, FIRST - CREDIT_FROM_TIGHT + 1)
    assert pool.room(window) == 0 and window.short


def test_more_credit_than_was_used_and_more_bytes_than_the_pool_are_seen() -> None:
    pool, window = Pool(64 * MIB), Window()
    pool.wrote(window, 5)
    assert pool.credited(window, 5) and not pool.credited(window, 1)
    pool, window = Pool(MIB), Window()
    assert pool.arrived(window, MIB + 2 * LEAST, 2)
    assert not pool.arrived(window, 1, 2)


def test_who_has_too_little_because_of_others_is_named_once_they_leave_enough() -> None:
    pool, large, small = Pool(4 * MIB), Window(size=4 * MIB), Window(size=4 * MIB)
    filled(pool, large)
    filled(pool, small)
    pool.wait(large, 1)
    pool.wait(small, 3)
    pool.wait(small, 3)
    assert pool.freed() == []
    lacks = needed(small.ahead + CREDIT_FROM_TIGHT, pool.size) - (pool.size - pool.used)
    pool.credited(large, lacks - 1)
    assert pool.freed() == [] and not pool.room(small)
    pool.credited(large, 1)
    assert pool.freed() == [3] and pool.room(small)
    assert pool.freed() == []
    pool.forget(small, 3)
    pool.credited(large, large.ahead // 2)
    assert pool.freed() == [1]


def test_who_waits_for_its_own_credit_is_not_named_and_nobody_who_is_gone() -> None:
    pool, own, other, gone = Pool(64 * MIB), Window(), Window(size=64 * MIB), Window(size=64 * MIB)
    for number, window in enumerate((own, gone, other)):
        filled(pool, window)
        pool.wait(window, number)
    pool.forget(gone, 1)
    pool.credited(other, other.ahead)
    assert pool.freed() == [2] and not pool.room(own)


def test_who_was_held_up_by_others_and_has_too_little_ahead_for_a_credit_is_told_by_theirs() -> None:
    """What was on its way filled the pool for the writer; for the reader, who took it as it came, it never did."""
    talk, credited = Transcript(), set()
    for side in (talk.layer, talk.agent):
        side.agree(Terms(4 * MIB, 4 * MIB))
    *others, last = [talk.layer.open(Begin()) for _ in range(9)]
    for number in (*others, last):
        talk.layer._streams[number].out.size = 4 * MIB
        while room := talk.layer.room(number):
            talk.layer.write(number, bytes(room))
    assert CREDIT_FROM_TIGHT < talk.layer._streams[last].out.ahead < CREDIT_FROM
    much = {number for number in others if talk.layer._streams[number].out.ahead >= CREDIT_FROM}
    while talk.layer.pending:
        for event in talk.carry("layer"):
            if isinstance(event, Received):
                talk.agent.consumed(event.stream, len(event.data))
        credited |= {event.stream for event in talk.carry("agent") if isinstance(event, Credited)}
    assert credited == much
    assert last in talk.layer.freed() and talk.layer.room(last)


class Told:
    """Writers that look for room only when they are told to, and readers that take what they like."""

    def __init__(self, seed: int, pool: int, streams: int, stalled: int) -> None:
        self.chance, self.talk = random.Random(seed), Transcript()
        self.quick = self.chance.choice((0.0, 0.5, 1.0))
        for side in (self.talk.layer, self.talk.agent):
            side.agree(Terms(pool, pool))
        self.numbers = [self.talk.layer.open(Begin()) for _ in range(streams)]
        self.stalled = set(self.numbers[:stalled])
        self.left = {number: self.chance.randrange(1, 3 * MIB) for number in self.numbers}
        self.unread = dict.fromkeys(self.numbers, 0)

    def write(self, number: int) -> None:
        layer = self.talk.layer
        while self.left[number] and (room := layer.room(number)):
            size = min(room, self.left[number])
            layer.write(number, bytes(size))
            self.left[number] -= size

    def carry(self) -> bool:
        """One message each way. False: there was none."""
        layer, crowded = self.talk.layer, [n for n in self.numbers if self.talk.layer.crowded(n)]
        lines = len(self.talk.lines)
        for event in self.talk.carry("layer"):
            if isinstance(event, Received):
                self.unread[event.stream] += len(event.data)
        credited = [event.stream for event in self.talk.carry("agent") if isinstance(event, Credited)]
        for number in (*crowded, *credited, *layer.freed()):
            self.write(number)
        return len(self.talk.lines) > lines

    def read(self) -> bool:
        """Some of what is there, of some streams. False: there was nothing."""
        there = [n for n in self.numbers if self.unread[n] and n not in self.stalled]
        quick = self.chance.random() < self.quick
        for number in self.chance.sample(there, self.chance.randint(min(1, len(there)), len(there))):
            size = self.unread[number] if quick else self.chance.randint(1, self.unread[number])
            self.unread[number] -= size
            self.talk.agent.consumed(number, size)
        return bool(there)


@pytest.mark.parametrize("pool", [SMALLEST, 4 * MIB])
@pytest.mark.parametrize(("moving", "stalled"), [(1, 0), (2, 1), (24, 60)])
@pytest.mark.parametrize("seed", range(2))
def test_nobody_waits_for_ever_who_waits_to_be_told(seed: int, moving: int, stalled: int, pool: int) -> None:
    told = Told(seed, pool, moving + stalled, stalled)
    for number in told.numbers:
        told.write(number)
    while told.carry() | told.read():
        pass
    assert not any(told.left[number] for number in told.numbers if number not in told.stalled)
    assert sum(told.unread.values()) <= pool + len(told.numbers) * LEAST


@pytest.mark.parametrize(
    ("taken", "ahead", "tight", "ended", "due"),
    [
        (CREDIT_FROM - 1, FIRST, False, False, False),
        (CREDIT_FROM, FIRST, False, False, True),
        (CREDIT_FROM_TIGHT - 1, FIRST, True, False, False),
        (CREDIT_FROM_TIGHT, FIRST, True, False, True),
        (LEAST, LEAST + 1, False, True, False),  # the rest is not read yet
        (LEAST, LEAST, False, True, True),
        (LEAST - 1, LEAST - 1, False, True, False),  # the writer forgets so little by itself
    ],
)
def test_credit_is_due(taken: int, ahead: int, tight: bool, ended: bool, due: bool) -> None:
    pool, window = Pool(64 * MIB), Window(taken=taken)
    pool.wrote(window, ahead)
    pool.tight = tight
    credited = taken if due else 0
    assert pool.due(window, ended) == credited
    assert (window.taken, window.ahead, pool.used) == (taken - credited, ahead - credited, ahead - credited)


def test_a_pool_is_tight_from_one_half_used_until_a_quarter_is() -> None:
    pool, window, seen = Pool(MIB), Window(), []
    for size in (MIB // 2, 1, -(MIB // 4), 1, -2, MIB // 4 + 2):
        pool.wrote(window, size)
        seen.append((pool.tightened(), pool.tight))
    assert seen == [(False, False), (True, True), (False, True), (False, True), (False, False), (True, True)]
