"""Cuts a connection's bytes of HTTP/1 into messages; no byte is changed, added or lost. Pure.

llhttp (httptools, its one importer) reads heads and chunks as strictly as it can: what it refuses is no
HTTP, and all bytes from there are `lost`. It does not say how far it has read, so it is given a message's
bytes in such parts that it has read all of them: a head, and a chunked body, end in CRLF CRLF and nowhere
else; other bodies are counted, or go on to the connection's end. One parser a message: making one
takes 0.3 us, and one that saw the end of a connection, HEAD or an upgrade would be of no use any more.
"""

from __future__ import annotations

import re
from collections import deque
from enum import Enum, auto
from typing import NamedTuple, TypeAlias

import httptools
from attrs import define

BLANK = b"\r\n\r\n"
MOST = 64 << 10
"""Bytes of a head."""
_CHUNKED = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
"""Read before a chunked body whose head had llhttp stop: one that asks for an upgrade."""
SWITCHING = 101
BODILESS = (204, 304)
_FORM = re.compile(rb"\r\n(?:content-length:[ \t]*(\d+)|transfer-encoding:)", re.IGNORECASE)
_EXPECT = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*\r", re.IGNORECASE)
Parser: TypeAlias = "httptools.HttpRequestParser | httptools.HttpResponseParser"


@define(eq=False)
class Head:
    """A request's (method, target, headers with their names as they were written), or an answer's (status).

    closes: no other message follows. upgrades: CONNECT, or a protocol asked for; of an answer: from
    its end on it is another protocol. continues: its body waits for `100 Continue`.
    """

    method: bytes
    target: bytes
    status: int
    headers: list[tuple[bytes, bytes]]
    raw: bytes
    closes: bool = False
    upgrades: bool = False
    continues: bool = False


class Piece(NamedTuple):
    """raw: the next bytes of the connection. head: with its first piece. ends: the message does.

    content: of a body, without its chunks' framing, if that was wished for. lost: no HTTP from here on.
    """

    raw: bytes
    head: Head | None = None
    ends: bool = False
    content: bytes = b""
    lost: bool = False


class _State(Enum):
    HEAD = auto()
    COUNTED = auto()
    CHUNKED = auto()
    REST = auto()


class Cutter:
    """What requests and answers have in common: use one of the two below."""

    def __init__(self) -> None:
        self.refused = ""
        self._state = _State.HEAD
        self._held = bytearray()  # of a head that is not whole
        self._left = 0  # of a counted body
        self._tail = b""  # the last bytes of a chunked body, which may be half of its end
        self._content: list[bytes] = []
        self._renew()

    @property
    def partial(self) -> bool:
        """Is a head begun and not whole?"""
        return bool(self._held)

    @property
    def held(self) -> int:
        """Bytes of it."""
        return len(self._held)

    @property
    def between(self) -> bool:
        """Is no message begun?"""
        return self._state is _State.HEAD and not self._held

    def feed(self, data: bytes) -> list[Piece]:
        """The pieces that these bytes, and what was held before, are. The last of them may be held."""
        pieces: list[Piece] = []
        at = 0
        while at < len(data):
            if self._state is _State.HEAD:
                at = self._head(data, at, pieces)
            elif self._state is _State.COUNTED:
                at = self._counted(data, at, pieces)
            elif self._state is _State.CHUNKED:
                at = self._chunked(data, at, pieces)
            else:
                pieces.append(Piece(data[at:], lost=bool(self.refused)))
                break
        return pieces

    def give_up(self, reason: str) -> list[Piece]:
        """No HTTP from here on: what was held."""
        self.refused = self.refused or reason
        self._state = _State.REST
        held = bytes(self._held)
        self._held.clear()
        self._renew()  # the old one has all it was given
        return [Piece(held, lost=True)] if held else []

    def on_headers_complete(self) -> None:
        self._whole = True

    def on_message_complete(self) -> None:
        self._done += 1

    def _made(self) -> Parser:
        raise NotImplementedError

    def _begun(self, raw: bytes) -> Head:
        """The head that was read; `_state` says how its body goes on."""
        raise NotImplementedError

    def _renew(self) -> None:
        self._parser = self._made()
        self._whole = self._stopped = False
        self._done = 0

    def _next(self) -> None:
        """The message has ended."""
        self._state = _State.HEAD
        self._renew()

    def _read(self, data: bytes) -> bool:
        """Have llhttp read it. False: it refuses."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._stopped = True
        except httptools.HttpParserError as error:
            self.refused = str(error) or "llhttp refuses it"
            return False
        return True

    def _head(self, data: bytes, at: int, pieces: list[Piece]) -> int:
        """Up to the end of the head, or all there is."""
        held = self._held
        end = _after_blank(bytes(held[-3:]) if held else b"", data, at)
        fresh = data[at:end]
        fits = len(held) + len(fresh) <= MOST
        if not fits or not self._read(fresh):
            held += data[at:]
            pieces += self.give_up(f"a head of more than {MOST >> 10} KiB")
            return len(data)
        if not self._whole:  # an empty line before a request is a part of its head
            held += fresh
            return at + len(fresh)
        raw = bytes(held) + fresh if held else fresh
        held.clear()
        head = self._begun(raw)
        pieces.append(Piece(raw, head, self._state is _State.HEAD))
        return at + len(fresh)

    def _framed(self, raw: bytes) -> bool:
        """Take the body's form from its head, of which llhttp refused what says two. False: it says none."""
        found = _FORM.search(raw)
        if found is None:
            return False
        if found[1] is None:
            self._state, self._tail = _State.CHUNKED, b""
            if self._stopped:
                self._renew()
                self._read(_CHUNKED)
        elif length := int(found[1]):
            self._state, self._left = _State.COUNTED, length
        else:
            self._next()
        return True

    def _counted(self, data: bytes, at: int, pieces: list[Piece]) -> int:
        raw = data[at : at + self._left]
        self._left -= len(raw)
        ends = not self._left
        if ends:
            self._next()
        pieces.append(Piece(raw, None, ends, raw))
        return at + len(raw)

    def _chunked(self, data: bytes, at: int, pieces: list[Piece]) -> int:
        """Up to the next place where it may end, or all there is."""
        end = _after_blank(self._tail, data, at)
        raw = data[at:end]
        self._tail = (self._tail + raw[-3:])[-3:] if end is None else b""
        if not self._read(raw):
            pieces += [Piece(data[at:], lost=True), *self.give_up("")]
            return len(data)
        content = b"".join(self._content)
        self._content.clear()
        ends = self._done > 0
        if ends:
            self._next()
        pieces.append(Piece(raw, None, ends, content))
        return at + len(raw)


def is_method(name: str) -> bool:
    """Is it one that requests are read with? Others are no HTTP/1."""
    try:
        httptools.HttpRequestParser(object()).feed_data(f"{name.upper()} ".encode())
    except httptools.HttpParserError:
        return False
    return True


class Requests(Cutter):
    """content: have the pieces of chunked bodies carry their content."""

    def __init__(self, content: bool = False) -> None:
        if content:
            self.on_body = lambda data: self._content.append(data)
        super().__init__()

    def on_url(self, part: bytes) -> None:
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._whole = True
        self._closes = not self._parser.should_keep_alive()  # forgotten when the message is complete

    def _made(self) -> Parser:
        self._target, self._closes = b"", False
        self._headers: list[tuple[bytes, bytes]] = []
        return httptools.HttpRequestParser(self)

    def _begun(self, raw: bytes) -> Head:
        stopped, method = self._stopped, self._parser.get_method()  # type: ignore[union-attr]
        head = Head(method, self._target, 0, self._headers, raw, self._closes, stopped)
        if self._done and not stopped:
            self._next()
        elif not self._framed(raw):
            self._next()
        elif self._state is not _State.HEAD:
            head.continues = _EXPECT.search(raw) is not None
        return head


class Answers(Cutter):
    """Each answer's form depends on the request it is for: `ask` in their order, before it comes."""

    def __init__(self) -> None:
        self._asked: deque[bytes] = deque()
        self.pending = self._began = 0
        super().__init__()

    @property
    def asked(self) -> bytes:
        """The method of the request that the next answer is for."""
        return self._asked[0] if self._asked else b""

    def ask(self, method: bytes) -> None:
        """One more answer is to come, to a request of that method."""
        self._asked.append(method)
        self.pending += 1

    def begin(self, left: int) -> None:
        """The first answer that was asked for is under way: so many bytes of its body are to come."""
        self._asked.popleft()
        self._state, self._left = _State.COUNTED, left

    def on_message_begin(self) -> None:
        self._began += 1

    def one(self, data: bytes) -> bool:
        """Was this one whole answer, and taken as such? The usual case, in few steps; if not, `feed` it."""
        asked = self._asked
        if not asked or self._state is not _State.HEAD or self._held or asked[0] in (b"HEAD", b"CONNECT"):
            return False
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._renew()
            return False
        whole = self._done == 1 == self._began and self._parser.get_status_code() >= 200  # type: ignore[union-attr]
        if whole:
            asked.popleft()
            self.pending -= 1
            self._done = self._began = 0
        else:
            self._renew()
        return whole

    def _made(self) -> Parser:
        self._began = 0
        return httptools.HttpResponseParser(self)

    def _read(self, data: bytes) -> bool:
        if super()._read(data):
            return True
        if self._whole and self._parser.get_status_code() == SWITCHING:  # type: ignore[union-attr]
            self.refused = ""  # one that does not name the other protocol; llhttp would go on no further
            return True
        return False

    def _next(self) -> None:
        super()._next()
        self.pending = max(self.pending - 1, 0)

    def _begun(self, raw: bytes) -> Head:
        status = self._parser.get_status_code()  # type: ignore[union-attr]
        head = Head(b"", b"", status, [], raw)
        if 100 <= status < 200 and status != SWITCHING:
            self._renew()
            return head
        method = self._asked.popleft() if self._asked else b"GET"
        if status == SWITCHING or (method == b"CONNECT" and 200 <= status < 300):
            self._next()
            self._state, head.upgrades = _State.REST, True
        elif method == b"HEAD" or status in BODILESS:
            self._next()
        elif not self._framed(raw):
            self._state = _State.REST  # up to the end of the connection
        return head


def _after_blank(tail: bytes, data: bytes, at: int) -> int | None:
    """Where in `data`, of which what is before `at` is done with, the first empty line is over; None: there
    is none. tail: up to three bytes before `at`."""
    if tail:
        across = (tail + data[at : at + 3]).find(BLANK)
        if across >= 0:
            return at + across + len(BLANK) - len(tail)
    found = data.find(BLANK, at)
    return found + len(BLANK) if found >= 0 else None
