"""Whether the agent may read or run a file: the kernel's own rule, as a table."""

from __future__ import annotations

import errno

import pytest

from pymirror.features.fs.access import Identity, R, W, X, refusal
from pymirror.features.fs.attr import Attr

ROOT = Identity()
BARE_ROOT = Identity(overrides=False)
USER = Identity(1000, frozenset({100, 200}), False)
FILE, DIR = 0o100000, 0o40000


@pytest.mark.parametrize(
    ("mode", "uid", "gid", "who", "mask", "allowed"),
    [
        (FILE | 0o000, 5, 5, ROOT, R, True),
        (FILE | 0o666, 5, 5, ROOT, X, False),
        (FILE | 0o001, 5, 5, ROOT, X, True),
        (DIR | 0o000, 5, 5, ROOT, R | X, True),
        (FILE | 0o600, 5, 5, BARE_ROOT, R, False),
        (FILE | 0o600, 0, 5, BARE_ROOT, R, True),
        (FILE | 0o600, 1000, 5, USER, R, True),
        (FILE | 0o077, 1000, 5, USER, R, False),
        (FILE | 0o640, 5, 200, USER, R, True),
        (FILE | 0o604, 5, 200, USER, R, False),
        (FILE | 0o604, 5, 5, USER, R, True),
        (FILE | 0o604, 5, 5, USER, R | X, False),
        (FILE | 0o000, 5, 5, USER, 0, True),
    ],
)
def test_who_may_what(mode: int, uid: int, gid: int, who: Identity, mask: int, allowed: bool) -> None:
    attr = Attr(mode, uid, gid, *[0] * 10)
    assert refusal(attr, mask, who) == (0 if allowed else errno.EACCES)


def test_modes_are_no_hindrance_to_root_but_for_running() -> None:
    assert refusal(Attr(FILE | 0o400, *[0] * 12), R | W, ROOT) == 0
