"""What the halves of `fs` say to each other of locks.

A holder is whom the kernel here tells apart: a process for `fcntl`, an open file for `flock`. He has a number
for each file.
"""

from __future__ import annotations

from pymirror.core.message import message


@message("fs")
class Lock:
    """Lock bytes for `holder`, or unlock them; `Locked`. EAGAIN: others hold some, for `wait` seconds.

    handle: a held file that is his; changes: it is open for writing. kind, start, end: as ranges.py has them.
    whole: flock(2), which knows no bytes. number: of the wait, for `GiveUp`.
    """

    holder: int
    handle: int
    changes: bool
    whole: bool
    kind: int
    start: int
    end: int
    wait: float = 0.0
    number: int = 0


@message("fs")
class Locked:
    """It is done. All that happened to the file before has been told."""


@message("fs")
class AskLock:
    """Who would keep `holder` from locking these bytes? Otherwise as `Lock`."""

    holder: int
    handle: int
    kind: int
    start: int
    end: int


@message("fs")
class Conflict:
    """The bytes that one other holds. kind NONE: nobody does."""

    kind: int
    start: int
    end: int


@message("fs")
class GiveUp:
    """Nobody waits for that lock any more: `Lock` is answered with what there is by then. An event."""

    number: int


@message("fs")
class Unlock:
    """The holders hold nothing of their files any more; `Locked`."""

    holders: list[int]
