"""What the target's inotify told, as steps; pairs of renames; what no kernel says."""

from __future__ import annotations

import pytest

from pymirror.features.fs import replay as r
from pymirror.features.fs.messages import Event
from pymirror.features.fs.replay import Do, Step, steps, unpaired


def event(mask: int, name: bytes = b"x", number: int = 1, cookie: int = 0) -> Event:
    return Event(number, mask, cookie, name)


FROM, TO = event(r.IN_MOVED_FROM, b"a", cookie=5), event(r.IN_MOVED_TO, b"b", 2, cookie=5)


@pytest.mark.parametrize(
    ("mask", "name", "step"),
    [
        (r.IN_CREATE, b"x", Step(Do.MAKE, (1, b"x"))),
        (r.IN_CREATE | r.IN_ISDIR, b"x", Step(Do.MAKE, (1, b"x"), None, True)),
        (r.IN_MODIFY, b"x", Step(Do.TOUCH, (1, b"x"))),
        (r.IN_MODIFY, b"", Step(Do.TOUCH, (1, b""))),
        (r.IN_ATTRIB, b"", Step(Do.ATTRIB, (1, b""))),
        (r.IN_CLOSE_WRITE, b"x", Step(Do.CLOSE, (1, b"x"))),
        (r.IN_DELETE, b"x", Step(Do.REMOVE, (1, b"x"))),
        (r.IN_DELETE_SELF, b"", Step(Do.GONE, (1, b""))),
        (r.IN_UNMOUNT, b"", Step(Do.GONE, (1, b""))),
        (r.IN_MOVE_SELF, b"", Step(Do.LEFT, (1, b""))),
        (r.IN_IGNORED, b"", Step(Do.END, (1, b""))),
    ],
)
def test_one_event_is_one_step(mask: int, name: bytes, step: Step) -> None:
    assert steps([event(mask, name)]) == [step]


def test_both_halves_of_a_rename_are_one_step() -> None:
    between = event(r.IN_MODIFY)
    assert steps([FROM, between, TO]) == [
        Step(Do.MOVE, (1, b"a"), (2, b"b")),
        Step(Do.TOUCH, (1, b"x")),
    ]


def test_half_a_rename_comes_from_or_goes_elsewhere() -> None:
    assert steps([FROM]) == [Step(Do.MOVE, (1, b"a"), None)]
    assert steps([TO]) == [Step(Do.MOVE, None, (2, b"b"))]


@pytest.mark.parametrize(
    "odd",
    [
        event(r.IN_CREATE, b"a/b"),
        event(r.IN_CREATE, b".."),
        event(r.IN_CREATE, b"a\0"),
        event(r.IN_CREATE, b"a" * 256),
        event(r.IN_DELETE, b""),
        event(0),
        event(r.IN_Q_OVERFLOW, b""),
    ],
)
def test_what_no_kernel_says_is_left_out(odd: Event) -> None:
    assert steps([odd, event(r.IN_MODIFY)]) == [Step(Do.TOUCH, (1, b"x"))]


def test_where_the_second_half_is_still_to_come() -> None:
    modified = event(r.IN_MODIFY)
    assert unpaired([modified, FROM, TO, modified]) == 4
    assert unpaired([modified, FROM, modified]) == 1
    assert unpaired([]) == 0
