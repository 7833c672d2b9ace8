"""What clients asked over HTTP, one JSON object a line. Pure.

A request is printed when it has come whole, or when its body is longer than what is kept of it. A client of
HTTP/2 may wait for windows, or for answers: what it is to be told is `out`.
"""

from __future__ import annotations

import base64
import codecs
import json
import re
from collections.abc import Callable
from typing import Any

from attrs import define, field

from pymirror.features.network.incoming import http2_frames as h2
from pymirror.features.network.incoming.budget import Share
from pymirror.features.network.incoming.http1 import Head as Head1
from pymirror.features.network.incoming.http1 import Requests
from pymirror.features.network.incoming.http2_flow import Flow
from pymirror.features.network.incoming.http2_front import request
from pymirror.features.network.incoming.http2_headers import Head as Head2
from pymirror.features.network.incoming.http2_headers import Reader
from pymirror.features.network.incoming.http2_settings import COPIED, DEFAULT_WINDOW, LARGEST_TABLE, Settings
from pymirror.features.network.incoming.http2_side import Side
from pymirror.features.network.incoming.http2_windows import UNLIMITED, Credit
from pymirror.features.network.incoming.sniff import Speech, sniff

BODY, ALL_BODIES = 64 << 10, 32 << 20
"""Bytes of a body that are printed; and that are held of all which have not come whole."""
_VERSION = re.compile(rb" (HTTP/1\.\d)\r?\n")
_SERVING = Settings(connect=1)


@define(eq=False)
class Place:
    """Where requests come from. when: the time in words; seconds: a clock. held: of all bodies."""

    when: Callable[[], str]
    seconds: Callable[[], float]
    held: int = 0


@define(eq=False)
class _Request:
    """One that has begun."""

    place: Place
    said: dict[str, Any]
    body: bytearray = field(factory=bytearray)
    truncated: bool = False

    def add(self, data: bytes) -> bool:
        """False: that is more than is kept."""
        fits = min(len(data), BODY - len(self.body), ALL_BODIES - self.place.held)
        self.body += data[:fits]
        self.place.held += fits
        self.truncated = fits < len(data)
        return not self.truncated

    def line(self, whole: bool = True) -> bytes:
        self.place.held -= len(self.body)
        self.truncated = self.truncated or not whole
        said = {**self.said, **_body(bytes(self.body), self.truncated), "truncated": self.truncated}
        return json.dumps(said, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _body(data: bytes, truncated: bool) -> dict[str, str]:
    """As text where it is UTF-8; what was cut may end within a character."""
    try:
        return {"body": codecs.getincrementaldecoder("utf-8")().decode(data, not truncated)}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(data).decode()}


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


class Http:
    """One connection. about: what each of its lines says first. copied: the client speaks to the application,
    which allows it what we do not know; else it waits for us. count: requests that were printed.
    other: it speaks something else."""

    def __init__(self, place: Place, about: dict[str, Any], copied: bool) -> None:
        self.out = bytearray()
        self.count = 0
        self.other = False
        self._place, self._about, self._copied = place, about, copied
        self._begun = b""
        self._speaks: _Http1 | _Http2 | None = None

    def begin(self) -> bytes:
        return b""

    def feed(self, data: bytes) -> bytes:
        if self.other:
            return b""
        if self._speaks is None:
            data = self._begun = self._begun + data
            self._speaks = self._found(sniff(data))
            if self._speaks is None:
                return b""
            self._begun = b""
        return self._counted(self._speaks.feed(data))

    def end(self, whole: bool) -> bytes:
        return self._counted(self._speaks.end() if self._speaks is not None else [])

    def made(self, protocol: str, method: bytes, path: bytes, headers: list[tuple[bytes, bytes]]) -> _Request:
        pairs = [[_text(name), _text(value)] for name, value in headers]
        about = {"time": self._place.when(), **self._about, "protocol": protocol}
        return _Request(
            self._place, {**about, "method": _text(method), "path": _text(path), "headers": pairs}
        )

    def _found(self, speech: Speech) -> _Http1 | _Http2 | None:
        if speech is Speech.HTTP1:
            return _Http1(self)
        if speech is Speech.HTTP2:
            return _Http2(self, self._place.seconds, self._copied)
        self.other = speech is not Speech.MORE
        return None

    def _counted(self, lines: list[bytes]) -> bytes:
        self.count += len(lines)
        return b"".join(lines)


class _Http1:
    def __init__(self, owner: Http) -> None:
        self._owner, self._cutter = owner, Requests(content=True)
        self._request: _Request | None = None

    def feed(self, data: bytes) -> list[bytes]:
        lines = []
        for piece in self._cutter.feed(data):
            if piece.head is not None:
                self._request = self._made(piece.head)
            if self._request is not None:
                fits = self._request.add(piece.content)
                if piece.ends or piece.lost or not fits:
                    lines.append(self._request.line(not piece.lost))
                    self._request = None
        return lines

    def end(self) -> list[bytes]:
        request, self._request = self._request, None
        return [request.line(False)] if request is not None else []

    def _made(self, head: Head1) -> _Request:
        version = _VERSION.search(head.raw)
        protocol = version[1].decode() if version else "HTTP/1.1"
        return self._owner.made(protocol, head.method, head.target, head.headers)


class _Http2:
    """Hears the client's side; a stream that came whole is over."""

    def __init__(self, owner: Http, seconds: Callable[[], float], copied: bool) -> None:
        self._owner, self._copied, self._lines = owner, copied, list[bytes]()
        self._requests: dict[Flow, _Request] = {}
        if copied:
            credit, ignored = Credit(UNLIMITED, Share()), frozenset({h2.WINDOW_UPDATE})
            self._side = Side(self, True, COPIED, seconds, credit, Reader(LARGEST_TABLE), ignored)
        else:
            self._side = Side(self, True, _SERVING, seconds, Credit(DEFAULT_WINDOW, Share()))
            self._side.begin()

    def feed(self, data: bytes) -> list[bytes]:
        try:
            self._side.receive(data)
        except h2.Wrong:
            self._owner.other = True
            return self.end()
        if not self._copied:
            self._owner.out += self._side.out
        self._side.out.clear()
        return self._taken()

    def end(self) -> list[bytes]:
        for flow in list(self._requests):
            self._print(flow, False)
        self._side.abandon()
        return self._taken()

    def _taken(self) -> list[bytes]:
        lines, self._lines = self._lines, []
        return lines

    def _print(self, flow: Flow, whole: bool = True) -> None:
        made = self._requests.pop(flow, None)
        if made is not None:
            self._lines.append(made.line(whole))

    def came(self, flow: Flow, head: Head2, ends: bool) -> None:
        self._requests[flow] = self._owner.made("HTTP/2", *request(head))
        if ends or head.get(b":protocol"):
            self._print(flow)
        if ends:
            self._side.reset(flow, h2.NO_ERROR)

    def head(self, flow: Flow, head: Head2, ends: bool) -> None:
        self.data(flow, b"", ends)

    def data(self, flow: Flow, data: bytes, ends: bool) -> None:
        made = self._requests.get(flow)
        if made is not None and (not made.add(data) or ends):
            self._print(flow)
        self._side.received_left(flow, data)
        if ends:
            self._side.reset(flow, h2.NO_ERROR)

    def reset(self, flow: Flow, code: int) -> None:
        self._print(flow, False)

    def unable(self, flow: Flow) -> None:
        raise AssertionError("nothing is opened on a side that serves")

    def settled(self) -> None: ...

    def leaving(self, last: int, code: int) -> None: ...
