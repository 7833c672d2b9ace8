"""The requests of a mirrored client that match, from the client's bytes alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from incoming_scene import ByPath

from pymirror.features.network.incoming.copy_http1 import Copy

A, P = b"GET /a HTTP/1.1\r\n\r\n", b"GET /p HTTP/1.1\r\n\r\n"
PUT = b"PUT /p HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
TAKEN = b"POST /body HTTP/1.1\r\nContent-Length: 3\r\n\r\nxpx"
LEFT = b"POST /body HTTP/1.1\r\nContent-Length: 3\r\n\r\nxax"
UPGRADE = b"GET /%s HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
FRAME = b"\x81\x85abcdefghi"


def copied(data: bytes, sizes: list[int], needs_body: bool = False, most: int = 100) -> bytes:
    copy, out, at = Copy(ByPath(needs_body), most), b"", 0
    for size in (*sizes, len(data)):
        out += copy.feed(data[at : at + size])
        at += size
    return out


@given(
    st.lists(st.sampled_from([A, P, PUT, TAKEN, LEFT]), max_size=6), st.lists(st.integers(1, 30), max_size=20)
)
def test_what_matches_is_copied_whole(requests: list[bytes], sizes: list[int]) -> None:
    wanted = b"".join(request for request in requests if request in (P, PUT, TAKEN))
    assert copied(b"".join(requests), sizes, needs_body=True) == wanted


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (A + FRAME + P, b""),
        (P + FRAME + P, P),
        (UPGRADE % b"p" + FRAME + A, UPGRADE % b"p" + FRAME + A),
        (UPGRADE % b"a" + FRAME + P, b""),
        (UPGRADE % b"p" + A + P, UPGRADE % b"p" + P),
        (PUT[:-8] + b"zz\r\n" + A, PUT[:-8] + b"zz\r\n" + A),
        (P + P[:9], P),
    ],
)
def test_what_is_no_http(data: bytes, wanted: bytes) -> None:
    assert copied(data, []) == wanted


def test_a_body_that_is_too_long_or_not_whole_does_not_match() -> None:
    assert copied(TAKEN + P, [], needs_body=True, most=2) == P
    assert copied(P + TAKEN[:-1], [], needs_body=True) == P


def test_what_is_held_is_told() -> None:
    copy = Copy(ByPath(needs_body=True), 100)
    assert (copy.feed(P + TAKEN[:9]), copy.held) == (P, 9)
    assert (copy.feed(TAKEN[9:-1]), copy.held) == (b"", len(TAKEN) - 1)
    assert (copy.feed(TAKEN[-1:]), copy.held) == (TAKEN, 0)
    assert (copy.feed(LEFT), copy.held) == (b"", 0)
