"""What `pymirror dump` prints: text, hex, and HTTP requests."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from pymirror.features.network.incoming import http2_frames as h2
from pymirror.features.network.incoming import print_http
from pymirror.features.network.incoming.budget import BUDGET
from pymirror.features.network.incoming.print_bytes import Hex, Page, Text
from pymirror.features.network.incoming.print_http import BODY, Http, Place


def test_text_is_for_reading_and_says_whose_it_is() -> None:
    page = Page()
    one, other = Text(page, 1, "10.0.0.5:4000 to 10.0.0.7:80"), Text(page, 2, "c to a")
    said = one.begin() + one.feed(b"GET / HTTP/1.1\r") + one.feed(b"\nhost: x\r\n\r\n")
    said += other.begin() + other.feed(b"half") + one.feed("größe\t\\".encode()) + one.end(True)
    said += other.feed(b"a line") + other.end(False)
    assert said.decode().split("\n") == [
        "--- connection 1: 10.0.0.5:4000 to 10.0.0.7:80",
        "GET / HTTP/1.1",
        "host: x",
        "",
        "--- connection 2: c to a",
        "half",
        "--- connection 1: 10.0.0.5:4000 to 10.0.0.7:80",
        "größe\t\\",
        "--- connection 1: ended",
        "--- connection 2: c to a",
        "a line",
        "--- connection 2: broke off",
        "",
    ]


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ([b"\x1b[2J\x07"], r"\x1b[2J\x07"),
        ([b"\xff\xfe ok"], r"\xff\xfe ok"),
        ([b"a\rb\r", b"c"], r"a\rb\rc"),
        ([b"a\r"], r"a\r"),
        (["\u202e\u2028\x85".encode()], r"\u202e\u2028\x85"),
        (["ü".encode()[:1], "ü".encode()[1:]], "ü"),
        ([b"\xc3"], r"\xc3"),
        (["😀".encode()], "😀"),
    ],
)
def test_what_is_not_printable_is_escaped(sent: list[bytes], shown: str) -> None:
    text = Text(Page(), 1, "t")
    said = text.begin() + b"".join(map(text.feed, sent)) + text.end(True)
    assert said.decode() == f"--- connection 1: t\n{shown}\n--- connection 1: ended\n"


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_nothing_that_a_terminal_obeys_is_printed(parts: list[bytes]) -> None:
    text = Text(Page(), 1, "t")
    said = (text.begin() + b"".join(map(text.feed, parts)) + text.end(True)).decode()
    assert all(each.isprintable() or each in "\n\t" for each in said)


def test_hex_shows_each_byte() -> None:
    form = Hex(Page(), 3, "c to a")
    said = form.begin() + form.feed(bytes(range(0x58, 0x68))) + form.feed(b"\0\xffz") + form.feed(b"!")
    assert said.decode().split("\n") == [
        "--- connection 3: c to a",
        "00000000  58 59 5a 5b 5c 5d 5e 5f  60 61 62 63 64 65 66 67  |XYZ[\\]^_`abcdefg|",
        "00000010  00 ff 7a                                          |..z|",
        "00000013  21                                                |!|",
        "",
    ]


def http(copied: bool = True, place: Place | None = None) -> Http:
    about: dict[str, Any] = {"connection": 1, "client": "c", "address": "a"}
    made = Http(place or Place(lambda: "noon", lambda: 0.0), about, copied)
    _MADE.append(made)
    return made


_MADE: list[Http] = []


@pytest.fixture(autouse=True)
def nothing_is_held() -> Iterator[None]:
    """Of connections that have ended."""
    yield
    while _MADE:
        _MADE.pop().end(False)
    assert BUDGET.held == 0


def lines(said: bytes) -> list[Any]:
    return [json.loads(each) for each in said.splitlines()]


def test_a_request_is_one_object() -> None:
    form = http()
    head = b"POST /a?b=1 HTTP/1.0\r\nHost: x\r\nX-Same: 1\r\nX-Same: \xe4\r\nContent-Length: 5\r\n\r\n"
    assert form.begin() == form.feed(head[:9]) == form.feed(head[9:] + b"hel") == b""
    assert lines(form.feed(b"lo")) == [
        {
            "time": "noon",
            "connection": 1,
            "client": "c",
            "address": "a",
            "protocol": "HTTP/1.0",
            "method": "POST",
            "path": "/a?b=1",
            "headers": [["Host", "x"], ["X-Same", "1"], ["X-Same", "ä"], ["Content-Length", "5"]],
            "body": "hello",
            "truncated": False,
        }
    ]
    assert form.count == 1 and form.end(True) == b""


def test_requests_of_one_connection_are_lines_each() -> None:
    form = http()
    chunked = (
        b"PUT /2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )
    found = lines(form.feed(b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n" + chunked + b"GET /3 HTTP/1.1\r\n\r\n"))
    assert [(each["path"], each["body"]) for each in found] == [("/1", ""), ("/2", "abcde"), ("/3", "")]


def posted(body: bytes, size: int) -> bytes:
    return b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % size + body


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"\xff\0", {"body_base64": base64.b64encode(b"\xff\0").decode()}),
        ("é".encode(), {"body": "é"}),
        (b"\xc3", {"body_base64": "ww=="}),
    ],
)
def test_a_body_is_text_or_base64(body: bytes, said: dict[str, str]) -> None:
    (found,) = lines(http().feed(posted(body, len(body))))
    assert {key: value for key, value in found.items() if key.startswith("body")} == said


def test_a_long_body_is_cut_and_the_next_request_is_seen() -> None:
    form = http()
    body = "é".encode() * BODY
    (found,) = lines(form.feed(posted(b"x" + body[: BODY + 9], 1 + len(body))))
    assert found["truncated"] and found["body"] == "x" + "é" * (BODY // 2 - 1)
    assert form.feed(body[BODY + 9 :]) == b""
    assert lines(form.feed(b"GET /next HTTP/1.1\r\n\r\n"))[0]["path"] == "/next"


def test_what_breaks_off_is_truncated() -> None:
    form = http()
    assert form.feed(posted(b"half", 8)) == b""
    (found,) = lines(form.end(False))
    assert found["body"] == "half" and found["truncated"]


def test_the_bodies_of_all_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(print_http, "ALL_BODIES", 10)
    place = Place(lambda: "", lambda: 0.0)
    one, other = http(place=place), http(place=place)
    assert one.feed(posted(b"123456", 9)) == b""
    (found,) = lines(other.feed(posted(b"123456", 9)))
    assert found["body"] == "1234" and found["truncated"]
    one.end(True)
    assert place.held == 0


@pytest.mark.parametrize("data", [b"\x16\x03\x01\0\0", b"SSH-2.0-x\r\n", b"GETX / HTTP/1.1\r\n"])
def test_what_is_no_http_is_said_to_be_none(data: bytes) -> None:
    form = http()
    assert form.feed(data) == form.feed(b"GET / HTTP/1.1\r\n\r\n") == form.end(True) == b""
    assert form.other


class Client:
    """Of HTTP/2, as bytes."""

    def __init__(self, form: Http) -> None:
        self.form, self.encoder = form, Encoder()
        assert form.feed(h2.PREFACE[:7]) == b""
        assert form.feed(h2.PREFACE[7:] + h2.settings([])) == b""

    def ask(self, number: int, ends: bool = True, *more: tuple[str, str], method: str = "POST") -> list[Any]:
        head = [(":method", method), (":path", "/s/M"), (":scheme", "http"), (":authority", "web"), *more]
        return lines(self.form.feed(h2.headers(number, ends, self.encoder.encode(head), 16384)))

    def data(self, number: int, body: bytes, ends: bool = False) -> list[Any]:
        return lines(self.form.feed(h2.frame(h2.DATA, h2.END_STREAM if ends else 0, number, body)))


@pytest.mark.parametrize("copied", [True, False])
def test_streams_of_http2_are_requests(copied: bool) -> None:
    client = Client(http(copied))
    assert client.ask(1, False, ("te", "trailers")) == client.data(1, b"\0\0\0\0\2ab") == []
    assert client.ask(3)[0]["method"] == "POST"
    (found,) = client.data(1, b"c", True)
    assert found["protocol"] == "HTTP/2" and found["path"] == "/s/M" and not found["truncated"]
    assert found["headers"] == [["host", "web"], ["te", "trailers"]]
    assert found["body"] == "\0\0\0\0\2abc"
    assert client.form.count == 2


def test_who_waits_for_an_answer_gets_one() -> None:
    """SETTINGS, windows, and the end of what came whole; a copied client is answered by the application."""
    client, copied = Client(http(False)), Client(http())
    client.ask(1, False)
    for _ in range(8):
        client.data(1, b"x" * 16000)
    client.data(1, b"", True)
    kinds = {kind for kind, *_ in h2.Cutter(16384, b"").feed(bytes(client.form.out))}
    assert kinds == {h2.SETTINGS, h2.WINDOW_UPDATE, h2.RST_STREAM}
    copied.ask(1)
    assert copied.form.out == b""


def test_a_stream_that_is_reset_is_printed_as_far_as_it_came() -> None:
    client = Client(http())
    client.ask(1, False)
    client.data(1, b"half")
    (found,) = lines(client.form.feed(h2.rst_stream(1, h2.CANCEL)))
    assert found["body"] == "half" and found["truncated"]
    client.ask(3, False)
    client.data(3, b"open")
    (found,) = lines(client.form.end(True))
    assert found["truncated"]


def test_a_websocket_over_http2_is_a_request() -> None:
    client = Client(http(False))
    (found,) = client.ask(1, False, (":protocol", "websocket"), method="CONNECT")
    assert found["method"] == "CONNECT" and found["body"] == ""
    assert client.data(1, b"frames", True) == []


def test_broken_http2_ends_what_is_seen_of_it() -> None:
    client = Client(http())
    client.ask(1, False)
    (found,) = lines(client.form.feed(h2.frame(h2.DATA, 0, 9, b"")))
    assert found["truncated"] and client.form.other and client.form.feed(b"more") == b""
