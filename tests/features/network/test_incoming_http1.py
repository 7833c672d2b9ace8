"""Cutting HTTP/1: every byte comes out again, messages end where they end, and what is no HTTP is said."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pymirror.features.network.incoming.http1 import MOST, Answers, Cutter, Piece, Requests
from pymirror.features.network.incoming.sniff import PREFACE, Speech, sniff

GET = b"GET /a?b=c HTTP/1.1\r\nHost: shop\r\nX-User: Ann\r\n\r\n"
POST = b"POST /p HTTP/1.1\r\nHost: shop\r\nContent-Length: 9\r\n\r\nab\r\n\r\ncde"
CHUNKED = (
    b"PUT /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2;x=y\r\n\r\n\r\n5\r\na\r\n\r\n\r\n3\r\nxyz\r\n0\r\nTrailer: t\r\n\r\n"
)
EMPTY = b"PUT /e HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
LATE = b"\r\n\r\nDELETE / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
UPGRADE = b"POST /u HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc"
UPGRADE_CHUNKED = (
    b"POST /v HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\n0\r\n\r\n"
)
ALL = [GET, POST, CHUNKED, EMPTY, LATE, UPGRADE, UPGRADE_CHUNKED]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n\r\n\r\n."
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
TRAILED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: y\r\n\r\n"
ANSWERS = [
    (b"GET", OK),
    (b"POST", CONTINUE + OK),
    (b"GET", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + TRAILED),
    (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"),
    (b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n"),
    (b"DELETE", b"HTTP/1.1 204 No Content\r\n\r\n"),
    (b"CONNECT", b"HTTP/1.1 407 No\r\nContent-Length: 1\r\n\r\n!"),
]


def parts(data: bytes, sizes: list[int]) -> list[bytes]:
    found, at = [], 0
    for size in sizes:
        found.append(data[at : at + size])
        at += size
    return [part for part in (*found, data[at:]) if part]


def cut(cutter: Cutter, data: list[bytes]) -> list[Piece]:
    return [piece for part in data for piece in cutter.feed(part)]


def messages(pieces: list[Piece]) -> list[bytes]:
    """The raw bytes of each message; the last may not have ended."""
    found = [b""]
    for piece in pieces:
        assert bool(piece.head) == (not found[-1]) or piece.lost
        found[-1] += piece.raw
        if piece.ends:
            found.append(b"")
    return [each for each in found if each]


sizes = st.lists(st.integers(1, 40), max_size=40)


@given(st.lists(st.sampled_from(ALL), min_size=1, max_size=6), sizes)
def test_requests_end_where_they_end_however_they_come(requests: list[bytes], how: list[int]) -> None:
    cutter = Requests()
    assert messages(cut(cutter, parts(b"".join(requests), how))) == requests
    assert cutter.between and not cutter.refused


@given(st.lists(st.sampled_from(ANSWERS), min_size=1, max_size=6), sizes)
def test_answers_end_where_they_end_however_they_come(
    asked: list[tuple[bytes, bytes]], how: list[int]
) -> None:
    cutter = Answers()
    for method, _ in asked:
        cutter.ask(method)
    whole = b"".join(answer for _, answer in asked)
    pieces = cut(cutter, parts(whole, how))
    assert b"".join(piece.raw for piece in pieces) == whole
    finals = [p.head for p in pieces if p.head and p.head.status >= 200]
    assert len(finals) == len(asked)
    assert (cutter.pending, cutter.between, cutter.refused) == (0, True, "")


@given(
    st.binary(max_size=300)
    | st.sampled_from(ALL).flatmap(lambda m: st.binary(max_size=60).map(lambda b: m + b)),
    sizes,
)
@settings(max_examples=300)
def test_no_byte_is_lost_of_what_is_no_http_either(data: bytes, how: list[int]) -> None:
    cutter = Requests(content=True)
    raw = b"".join(piece.raw for piece in cut(cutter, parts(data, how)))
    held = b"".join(piece.raw for piece in cutter.give_up("the end"))
    assert raw + held == data


def test_what_a_head_says() -> None:
    (piece,) = Requests().feed(GET)
    head = piece.head
    assert head is not None
    assert (head.method, head.target, head.raw) == (b"GET", b"/a?b=c", GET)
    assert head.headers == [(b"Host", b"shop"), (b"X-User", b"Ann")]
    assert (piece.ends, head.closes, head.upgrades, head.continues) == (True, False, False, False)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", "closes"),
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", "closes"),
        (b"GET / HTTP/1.1\r\nConnection: foo, Close\r\nA: b\r\n\r\n", "closes"),
        (b"CONNECT a:1 HTTP/1.1\r\n\r\n", "upgrades"),
        (b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "upgrades"),
        (b"PUT / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 3\r\n\r\n", "continues"),
    ],
)
def test_what_follows_a_request(request_: bytes, said: str) -> None:
    head = Requests().feed(request_)[0].head
    assert head is not None
    assert [name for name in ("closes", "upgrades", "continues") if getattr(head, name)] == [said]


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\r\nA: b\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
        b"GET / HTTP/1.1\r\nA : b\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: +4\r\n\r\nabcd",
        b"GET / HTTP/1.1\r\nContent-Length: 4, 4\r\n\r\nabcd",
        b"\x00\x01\x02",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        PREFACE,
    ],
)
def test_what_two_could_read_differently_is_no_http(request_: bytes) -> None:
    cutter = Requests()
    pieces = cutter.feed(GET) + cutter.feed(request_)
    assert cutter.refused
    assert pieces[0].raw == GET
    assert pieces[1:] == [Piece(request_, lost=True)]


@pytest.mark.parametrize("line", [b"5\nabcde\r\n", b"x\r\n", b"5\r\nabcdefg\r\n"])
def test_a_broken_chunk_is_the_end_of_http(line: bytes) -> None:
    cutter = Requests()
    head, rest = cutter.feed(EMPTY[:-5] + line + b"more")
    assert (head.raw, rest) == (EMPTY[:-5], Piece(line + b"more", lost=True))


def test_a_head_without_end_is_given_up() -> None:
    cutter, raw = Requests(), b"GET / HTTP/1.1\r\nA: "
    pieces = cutter.feed(raw)
    while not cutter.refused:
        assert not pieces and cutter.partial
        raw += (more := b"x" * 5000)
        pieces = cutter.feed(more)
    assert pieces == [Piece(raw, lost=True)]
    assert MOST < len(raw) < MOST + 5001


def test_content_is_what_chunks_carry() -> None:
    pieces = Requests(content=True).feed(CHUNKED + POST)
    assert b"".join(piece.content for piece in pieces[:-1]).endswith(b"\r\na\r\n\r\nxyz")
    assert pieces[-1].content == b"ab\r\n\r\ncde"


@pytest.mark.parametrize(
    ("method", "head"),
    [
        (b"GET", b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
        (b"GET", b"HTTP/1.1 101 Switching\r\n\r\n"),
        (b"CONNECT", b"HTTP/1.1 200 Fine\r\nContent-Length: 9\r\n\r\n"),
    ],
)
def test_after_an_upgrade_there_is_no_more_http(method: bytes, head: bytes) -> None:
    cutter = Answers()
    cutter.ask(method)
    first, rest = cutter.feed(head + b"\x81\x00GET /")
    assert first.head is not None and first.head.upgrades
    assert (rest.raw, rest.head, rest.lost, cutter.pending) == (b"\x81\x00GET /", None, False, 0)


def test_an_answer_without_length_goes_on_to_the_end_of_the_connection() -> None:
    cutter = Answers()
    cutter.ask(b"GET")
    pieces = cutter.feed(b"HTTP/1.1 200 OK\r\n\r\na" + OK)
    assert [p.ends for p in pieces] == [False, False]
    assert (cutter.pending, cutter.between) == (1, False)


@pytest.mark.parametrize(
    ("data", "speech"),
    [
        (b"", Speech.MORE),
        (b"G", Speech.MORE),
        (b"GET", Speech.MORE),
        (b"GET ", Speech.HTTP1),
        (b"\r\n", Speech.MORE),
        (b"\r\nM-SEARCH * HTTP/1.1", Speech.HTTP1),
        (b"\r\n" * 9, Speech.OTHER),
        (b"get /", Speech.OTHER),
        (b"GE /", Speech.OTHER),
        (b"GETS /", Speech.OTHER),
        (b"P", Speech.MORE),
        (b"PRI", Speech.MORE),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", Speech.MORE),
        (PREFACE + b"\x00", Speech.HTTP2),
        (b"PRI * HTTP/2.0\r\n\r\nSX", Speech.OTHER),
        (b"\x16", Speech.MORE),
        (b"\x16\x03", Speech.MORE),
        (b"\x16\x03\x01\x02", Speech.TLS),
        (b"\x16\x04", Speech.OTHER),
        (b"\x16\x03\x09", Speech.OTHER),
        (b"SSH-2.0", Speech.OTHER),
        (b"\x00", Speech.OTHER),
    ],
)
def test_what_a_client_speaks(data: bytes, speech: Speech) -> None:
    assert sniff(data) is speech


@given(st.sampled_from([GET, CHUNKED, PREFACE, b"\x16\x03\x01\x00\x05\x01"]), st.integers(0, 24))
def test_a_beginning_never_says_another(data: bytes, size: int) -> None:
    assert sniff(data[:size]) in (Speech.MORE, sniff(data))
