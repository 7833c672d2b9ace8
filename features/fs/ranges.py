"""The bytes of a file that somebody has locked: what a lock or an unlock of some makes of them. Pure."""

from __future__ import annotations

from typing import NamedTuple

READ, WRITE, NONE = 0, 1, 2
"""F_RDLCK, F_WRLCK, F_UNLCK of fcntl(2)."""
LAST = (1 << 63) - 1
"""The last byte there can be (the kernel's OFFSET_MAX): to a file's end, wherever that is."""


class Range(NamedTuple):
    """From `start` to `end`, both in it."""

    start: int
    end: int
    kind: int


def put(held: list[Range], new: Range) -> list[Range]:
    """Those that are held once `new` is, in the order of their bytes; neighbours of one kind are one."""
    start, end = new.start, new.end
    rest = []
    for one in held:
        touches = one.start <= end + 1 and start <= one.end + 1
        if touches and one.kind == new.kind:
            start, end = min(start, one.start), max(end, one.end)
            continue
        if one.end < new.start or one.start > new.end:
            rest.append(one)
            continue
        if one.start < new.start:
            rest.append(Range(one.start, new.start - 1, one.kind))
        if one.end > new.end:
            rest.append(Range(new.end + 1, one.end, one.kind))
    return sorted([*rest, Range(start, end, new.kind)] if new.kind != NONE else rest)
