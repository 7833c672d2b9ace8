"""What a holder has locked, as a table and beside a byte for byte account."""

from __future__ import annotations

import itertools
import random

import pytest

from pymirror.features.fs.ranges import LAST, NONE, READ, WRITE, Range, put


@pytest.mark.parametrize(
    ("held", "new", "left"),
    [
        ([], Range(0, 9, READ), [Range(0, 9, READ)]),
        ([], Range(0, 9, NONE), []),
        ([Range(0, 9, READ)], Range(3, 5, NONE), [Range(0, 2, READ), Range(6, 9, READ)]),
        ([Range(0, 9, READ)], Range(3, 5, WRITE), [Range(0, 2, READ), Range(3, 5, WRITE), Range(6, 9, READ)]),
        ([Range(0, 2, READ), Range(6, 9, READ)], Range(3, 5, READ), [Range(0, 9, READ)]),
        ([Range(0, 2, READ)], Range(3, 5, WRITE), [Range(0, 2, READ), Range(3, 5, WRITE)]),
        ([Range(5, 7, WRITE)], Range(0, LAST, NONE), []),
        ([Range(5, LAST, WRITE)], Range(LAST, LAST, NONE), [Range(5, LAST - 1, WRITE)]),
        ([Range(5, 7, WRITE)], Range(5, 7, READ), [Range(5, 7, READ)]),
    ],
)
def test_a_lock_and_those_before(held: list[Range], new: Range, left: list[Range]) -> None:
    assert put(held, new) == left


def test_beside_an_account_of_each_byte() -> None:
    chance = random.Random(6)
    held: list[Range] = []
    account = [NONE] * 40
    for _ in range(3000):
        start = chance.randrange(40)
        new = Range(start, chance.randrange(start, 40), chance.choice((READ, WRITE, NONE)))
        held = put(held, new)
        account[new.start : new.end + 1] = [new.kind] * (new.end + 1 - new.start)
        assert [kind for one in held for kind in [one.kind] * (one.end + 1 - one.start)] == [
            kind for kind in account if kind != NONE
        ]
        for one, after in itertools.pairwise(held):
            assert one.end < after.start and (one.kind != after.kind or one.end + 1 < after.start)
        assert all(account[byte] == one.kind for one in held for byte in range(one.start, one.end + 1))
