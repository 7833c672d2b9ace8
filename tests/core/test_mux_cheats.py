"""A mux whose peer cheats, or asks and does not read."""

from __future__ import annotations

import pytest
from raw_peer import ASKED, Raw

from pymirror.core import room, windows, wire
from pymirror.core.errors import PeerError


def test_cheating_ends_the_connection() -> None:
    tag, body = ASKED
    for rows, words in (
        ([(wire.REQUEST, 1, tag, body)] * 2, "open already"),
        ([(wire.REPLY, 5, tag, body)], "not open"),
        ([(wire.OPEN, 2, tag, body)], "cannot be opened"),  # an agent's number
        ([(wire.OPEN, 1, tag, body)] * 2, "cannot be opened"),
        (
            [
                (wire.OPEN, 1, tag, body),
                *[(wire.DATA, 1, "", b"", bytes(windows.TO_AGENT // 3))] * 3,
                (wire.DATA, 1, "", b"", bytes(windows.LEAST + 1)),
            ],
            "window",
        ),
        ([(wire.OPEN, 1, tag, body), (wire.END, 1), (wire.DATA, 1, "", b"x")], "after its end"),
        ([(wire.OPEN, 1, tag, body), (wire.CREDIT, 1, "", b"\1" + bytes(7))], "more credit"),
    ):
        raw = Raw()
        with pytest.raises(PeerError, match=words):
            for row in rows:
                raw.say(*row)  # type: ignore[arg-type]


def test_what_a_peer_that_does_not_read_may_open_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_OPEN", 3)
    raw = Raw()
    for number in (1, 2, 3):
        raw.say(wire.REQUEST, number, "test-mux/Gone", b"\0\x80")
    with pytest.raises(PeerError, match="more than 3"):  # answered, but no answer has left
        raw.say(wire.REQUEST, 4, "test-mux/Gone", b"\0\x80")
    raw = Raw()
    for number in (1, 3, 5):
        raw.say(wire.OPEN, number, "test-mux/Gone", b"\0\x80")
    with pytest.raises(PeerError, match="more than 3"):
        raw.say(wire.OPEN, 7, "test-mux/Gone", b"\0\x80")
    raw.mux.take()
    assert raw.mux._theirs == set()


def test_frames_of_streams_that_are_gone_are_dropped() -> None:
    raw = Raw()
    for kind in (wire.DATA, wire.CREDIT, wire.END, wire.RESET):
        assert raw.say(kind, 9, "", b"x") == []
    assert raw.say(wire.CANCEL, 9) == []
