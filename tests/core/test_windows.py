"""Windows and their pool: how they grow, what each leaves to the others, and when credit is due."""

from __future__ import annotations

import pytest

from pymirror.core.windows import CREDIT_FROM, CREDIT_FROM_TIGHT, FIRST, LEAST, SHARE, Pool, Window

MIB = 1 << 20


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
    assert sizes[:5] == [FIRST, 3 * FIRST, 9 * FIRST, 27 * FIRST, 81 * FIRST]
    assert sizes[5] == sizes[6] == pytest.approx(64 * MIB / (SHARE + 1), rel=0.01)


def test_a_window_that_was_large_enough_does_not_grow() -> None:
    pool, window = Pool(64 * MIB), Window()
    for _ in range(100):
        pool.wrote(window, FIRST // 2)
        assert pool.room(window) == FIRST // 2
        assert pool.credited(window, FIRST // 2)
    assert window.size == FIRST


def test_each_stalled_window_takes_its_share_of_what_is_left_and_none_gets_less_than_the_least() -> None:
    pool = Pool(64 * MIB)
    taken = [filled(pool, Window(size=64 * MIB)) for _ in range(100)]
    assert taken == sorted(taken, reverse=True)
    assert taken[6] > MIB and taken[-1] == LEAST
    assert pool.used <= pool.size + 100 * LEAST


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
