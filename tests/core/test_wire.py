"""The frame layout: what goes in comes out, and whatever else arrives is refused, never worse."""

from __future__ import annotations

import errno
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymirror.core import wire
from pymirror.core.errors import ChannelLost, PeerError, PluginError
from pymirror.core.message import message
from pymirror.core.wire import Frame


@message("test-wire")
class Thing:
    number: int
    text: str
    first: bytes
    second: bytes
    inner: list[str]


@message("test-wire")
class Nothing:
    pass


FRAMES = st.builds(
    Frame,
    st.integers(wire.REQUEST, wire.REFUSED),
    st.integers(0, 2**32 - 1),
    st.text(st.characters(codec="ascii"), max_size=40),
    st.binary(max_size=200),
    st.lists(st.binary(max_size=50), max_size=3).map(tuple),
)
NUMBERS = st.integers(0, 2**64 - 1)
SIZES = st.sampled_from([0, 1, wire.BLOB_FROM - 1, wire.BLOB_FROM, 5000])


@given(st.lists(st.tuples(FRAMES, NUMBERS, NUMBERS), min_size=1, max_size=5))
def test_frames_survive(rows: list[tuple[Frame, int, int]]) -> None:
    batch = b"".join(wire.pack(*row) for row in rows)
    assert list(wire.unpack([batch, *(blob for frame, _, _ in rows for blob in frame.blobs)])) == rows


@given(st.integers(-(2**63), 2**63), st.text(), SIZES, SIZES, st.lists(st.text(max_size=5), max_size=3))
def test_messages_survive(number: int, text: str, one: int, two: int, inner: list[str]) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    thing = Thing(number, text, b"a" * one, b"b" * two, inner)
    tag, body, blobs = wire.encode(thing)
    assert len(blobs) == (one >= wire.BLOB_FROM) + (two >= wire.BLOB_FROM)
    assert wire.decode(Frame(wire.REQUEST, 1, tag, body, blobs)) == thing


def test_a_blob_is_not_copied_on_its_way_out() -> None:
    data = bytes(wire.BLOB_FROM)
    assert wire.encode(Thing(1, "", data, b"", []))[2][0] is data


@given(st.lists(st.binary(max_size=120), max_size=4))
def test_noise_is_refused_in_words(parts: list[bytes]) -> None:
    try:
        for frame, _, _ in wire.unpack(parts):
            wire.decode(frame)
    except PeerError:
        return
    assert parts == [b""]


@given(st.data())
def test_a_damaged_message_is_refused_in_words(data: st.DataObject) -> None:
    tag, body, blobs = wire.encode(Thing(1, "x", b"y" * 600, b"z", ["a"]))
    whole = bytearray(wire.pack(Frame(wire.REQUEST, 1, tag, body, blobs), 1, 0))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        for frame, _, _ in wire.unpack([bytes(whole), *blobs]):
            wire.decode(frame)
    except PeerError:
        pass  # the only exception that may leave


def header(kind: int, blobs: int = 0, tag: int = 0, body: int = 0) -> bytes:
    return struct.pack("<BBIQQHI", kind, blobs, 0, 1, 0, tag, body)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([], "0 parts"),
        ([b"x" * (wire.MAX_BATCH + 1)], "limits"),
        ([b""] * (wire.MAX_BLOBS + 1), "limits"),
        ([header(1)[:-1]], "inside its header"),
        ([header(0)], "kind 0"),
        ([header(wire.REFUSED + 1)], "kind 14"),
        ([header(1, tag=wire.MAX_TAG + 1)], "limits"),
        ([header(1, body=wire.MAX_BODY + 1)], "limits"),
        ([header(1, body=9) + b"short"], "inside its body"),
        ([header(1, tag=1) + b"\xff"], "not text"),
        ([header(1, blobs=2), b"one"], "blob is missing"),
        ([header(1, blobs=1), bytes(wire.MAX_BLOB + 1)], "larger"),
        ([header(1), b"one too many"], "more blobs"),
        ([header(1), *[bytes(wire.MAX_BLOB)] * 5], "a message larger"),
    ],
)
def test_limits(parts: list[bytes], words: str) -> None:
    with pytest.raises(PeerError, match=words):
        list(wire.unpack(parts))


@pytest.mark.parametrize(
    ("tag", "body", "blobs", "words"),
    [
        ("test-wire/Gone", b"\0\x80", (), "unknown on this side"),
        ("test-wire/Nothing", b"", (), "malformed"),
        ("test-wire/Thing", b"\0\x80", (), "missing required field"),
        ("test-wire/Thing", b"\1\0\x80", (), "where its 0 blobs"),
        ("test-wire/Thing", b"\1\7\x80", (b"x",), "where its 1 blobs"),
        ("test-wire/Thing", b"\2\0\0\x80", (b"x", b"y"), "where its 2 blobs"),
        ("test-wire/Thing", b"\2\0", (b"x", b"y"), "where its 2 blobs"),
        ("test-wire/Thing", b"\0\x80", (b"x",), "where its 1 blobs"),
    ],
)
def test_bodies(tag: str, body: bytes, blobs: tuple[bytes, ...], words: str) -> None:
    with pytest.raises(PeerError, match=words):
        wire.decode(Frame(wire.EVENT, 0, tag, body, blobs))


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file", "/secret"), FileNotFoundError, "No such file"),
        (OSError(errno.ELOOP, "loops"), OSError, "loops"),
        (PeerError("no", "do"), PeerError, "no\n  do"),
        (ChannelLost("gone"), PeerError, "gone"),
        (PluginError("dist", "broken", "mend"), PluginError, "dist: broken\n  mend"),
        (ValueError("a secret"), PeerError, "env failed over there: ValueError"),
        (TimeoutError(), PeerError, "env failed over there: TimeoutError"),
    ],
)
def test_errors(error: Exception, kind: type[Exception], words: str) -> None:
    there = wire.decode_error(wire.encode_error(error, "env"))
    assert type(there) is kind and words in str(there)
    assert "secret" not in str(there)
    if isinstance(error, OSError) and error.errno:
        assert there.errno == error.errno  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", ["\udcff not text", "x" * (wire.MAX_BODY + 1)])
def test_an_error_with_any_text_crosses(text: str) -> None:
    body = wire.encode_error(PeerError(text, text), "env")
    assert len(body) < 8 * wire.MAX_WORDS and isinstance(wire.decode_error(body), PeerError)


@given(st.binary(max_size=60))
def test_a_noisy_error_is_still_an_error(body: bytes) -> None:
    assert isinstance(wire.decode_error(body), Exception)


def test_an_impossible_errno_is_no_errno() -> None:
    import msgspec

    for number in (-1, 0, 4096, 2**63):
        there: Any = wire.decode_error(msgspec.msgpack.encode(["os", number, "x", ""]))
        assert isinstance(there, PeerError)
