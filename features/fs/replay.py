"""What the target's inotify told, as operations that make the kernel here tell the same. Pure.

Each is the smallest that makes that event alone: a time set for a change of content, a mode set for one of
attributes. Only a file that was written and closed has to be opened for it, which a program that watches
IN_OPEN sees.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

from attrs import frozen

from pymirror.features.fs.messages import Event

IN_MODIFY, IN_ATTRIB, IN_CLOSE_WRITE = 0x2, 0x4, 0x8
IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE = 0x40, 0x80, 0x100, 0x200
IN_DELETE_SELF, IN_MOVE_SELF, IN_UNMOUNT, IN_Q_OVERFLOW, IN_IGNORED = 0x400, 0x800, 0x2000, 0x4000, 0x8000
IN_ISDIR = 0x40000000
MASK = (
    IN_MODIFY
    | IN_ATTRIB
    | IN_CLOSE_WRITE
    | IN_MOVED_FROM
    | IN_MOVED_TO
    | IN_CREATE
    | IN_DELETE
    | IN_DELETE_SELF
    | IN_MOVE_SELF
)
"""What is told: changes. Who opens and reads a file in the target is not."""
MOST = 1024
"""Files that are watched at once in one session; more is ENOSPC, as where a user's watches are used up."""
NAME_MAX = 255


class Do(enum.Enum):
    MAKE = "make"
    TOUCH = "touch"
    ATTRIB = "attrib"
    CLOSE = "close"
    REMOVE = "remove"
    MOVE = "move"
    GONE = "gone"  # the watched file itself: removed
    LEFT = "left"  # renamed
    END = "end"  # not watched any more


KINDS = {
    IN_MODIFY: Do.TOUCH,
    IN_ATTRIB: Do.ATTRIB,
    IN_CLOSE_WRITE: Do.CLOSE,
    IN_CREATE: Do.MAKE,
    IN_DELETE: Do.REMOVE,
    IN_MOVED_FROM: Do.MOVE,
    IN_MOVED_TO: Do.MOVE,
    IN_DELETE_SELF: Do.GONE,
    IN_UNMOUNT: Do.GONE,
    IN_MOVE_SELF: Do.LEFT,
    IN_IGNORED: Do.END,
}
NAMED = (Do.MAKE, Do.REMOVE, Do.MOVE)

Place = tuple[int, bytes]
"""A watched file's number, and a name in it or nothing."""


@frozen
class Step:
    """at: None for a MOVE from elsewhere; to: None for one to elsewhere. folder: what is named is one."""

    do: Do
    at: Place | None
    to: Place | None = None
    folder: bool = False


def unpaired(events: Sequence[Event]) -> int:
    """The place of the first half of a rename whose second is not there; else the length."""
    arrived = {event.cookie for event in events if event.mask & IN_MOVED_TO}
    for place, event in enumerate(events):
        if event.mask & IN_MOVED_FROM and event.cookie not in arrived:
            return place
    return len(events)


def steps(events: Sequence[Event]) -> list[Step]:
    """In order; both halves of a rename are one step. What no kernel says is left out."""
    usable = [event for event in events if _is_usable(event.name)]
    arrived = {event.cookie: event for event in usable if event.mask & IN_MOVED_TO}
    found: list[Step] = []
    for event in usable:
        do = next((do for bit, do in KINDS.items() if event.mask & bit), None)
        if do is None or (do in NAMED and not event.name):
            continue
        place, folder = (event.number, event.name), bool(event.mask & IN_ISDIR)
        if event.mask & IN_MOVED_FROM:
            other = arrived.pop(event.cookie, None)
            found.append(Step(do, place, (other.number, other.name) if other else None, folder))
        elif event.mask & IN_MOVED_TO:
            if arrived.pop(event.cookie, None) is not None:
                found.append(Step(do, None, place, folder))
        else:
            found.append(Step(do, place, None, folder))
    return found


def _is_usable(name: bytes) -> bool:
    return len(name) <= NAME_MAX and name not in (b".", b"..") and not {0, ord("/")}.intersection(name)
