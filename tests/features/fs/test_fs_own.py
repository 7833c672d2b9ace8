"""Which paths the program has changed here."""

from __future__ import annotations

import pytest

from pymirror.features.fs import own as module
from pymirror.features.fs.own import Own


def test_a_path_and_what_is_below_it() -> None:
    own = Own()
    assert not own.covers(b"/data/x")
    assert own.add(b"/data/x") and not own.add(b"/data/x")
    assert own.covers(b"/data/x") and own.covers(b"/data/x/y/z")
    assert not own.covers(b"/data") and not own.covers(b"/data/xy") and not own.covers(b"/")


def test_the_oldest_make_room_and_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    own = Own()
    for name in (b"/1", b"/2", b"/3", b"/1"):
        own.add(name)
    assert not own.full
    own.add(b"/4")
    assert own.full and not own.covers(b"/2")
    assert all(own.covers(each) for each in (b"/1", b"/3", b"/4"))
