"""What answers a probe in the application's stead, at once and from memory: that all is well.

A side of an exchange like the application's own connection, so that answers keep their order. It gets
probes alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from pymirror.features.network.incoming.budget import Share
from pymirror.features.network.incoming.health import CHECK, WATCH
from pymirror.features.network.incoming.http1 import Requests
from pymirror.features.network.incoming.http2_flow import Flow
from pymirror.features.network.incoming.http2_frames import Wrong
from pymirror.features.network.incoming.http2_headers import Head, plain
from pymirror.features.network.incoming.http2_settings import DEFAULT_WINDOW, MOST_STREAMS, Settings
from pymirror.features.network.incoming.http2_side import Side
from pymirror.features.network.incoming.http2_windows import Credit
from pymirror.features.network.incoming.outlet import Opener

MOST = 64 << 10
"""Bytes taken at once."""
ALL = 1 << 20
"""Bytes; the answers of as many streams as there may be are a tenth."""
WELL = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
WELL_AND_LAST = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
SERVING = b"\0\0\0\0\2\x08\1"
"""A frame of gRPC: HealthCheckResponse{status: SERVING}."""
_HEADS = {
    "grpc": plain([(b":status", b"200"), (b"content-type", b"application/grpc")]),
    "end": plain([(b"grpc-status", b"0")]),
    "plain": plain([(b":status", b"200"), (b"content-length", b"0")]),
}


class Speaking(Protocol):
    over: bool
    """Nothing more is said."""

    def feed(self, data: bytes) -> bytes:
        """What is said to that. Wrong."""

    def close(self) -> None:
        """Nothing more is heard."""


class Http1:
    def __init__(self) -> None:
        self.over = False
        self._requests = Requests()
        self._closes = False

    def feed(self, data: bytes) -> bytes:
        out = b""
        for piece in self._requests.feed(data):
            if self.over:
                break
            if piece.head is not None:
                self._closes = piece.head.closes
            if piece.ends:
                out += WELL_AND_LAST if self._closes else WELL
            self.over = self.over or piece.lost or (piece.ends and self._closes)
        return out

    def close(self) -> None: ...


class Http2:
    """Hears what its side of the connection tells (http2_flow)."""

    def __init__(self) -> None:
        self.over = False
        mine = Settings(streams=MOST_STREAMS)
        credit = Credit(DEFAULT_WINDOW, Share())  # nothing is held
        self._side = Side(self, True, mine, asyncio.get_running_loop().time, credit)
        self._side.begin()

    def feed(self, data: bytes) -> bytes:
        self._side.receive(data)
        self._side.fill(ALL)
        out = bytes(self._side.out)
        self._side.out.clear()
        return out

    def close(self) -> None:
        self._side.abandon()

    def came(self, flow: Flow, head: Head, ends: bool) -> None:
        flow.asked = head
        if ends:
            self._answer(flow)

    def head(self, flow: Flow, head: Head, ends: bool) -> None:
        self._answer(flow)  # trailers

    def data(self, flow: Flow, data: bytes, ends: bool) -> None:
        self._side.received_left(flow, data)
        if ends:
            self._answer(flow)

    def reset(self, flow: Flow, code: int) -> None: ...
    def unable(self, flow: Flow) -> None: ...
    def settled(self) -> None: ...
    def leaving(self, last: int, code: int) -> None: ...

    def _answer(self, flow: Flow) -> None:
        """Who watches is told once, and then only of changes, which there are none of."""
        target = flow.asked.get(b":path") if flow.asked is not None else b""
        if target not in (CHECK, WATCH):
            self._side.put(flow, _HEADS["plain"], True)
            return
        self._side.put(flow, _HEADS["grpc"], False)
        self._side.put(flow, SERVING, False)
        if target == CHECK:
            self._side.put(flow, _HEADS["end"], True)


class StandIn:
    """`carry.Bytes` of a connection to it."""

    def __init__(self, speaking: Speaking) -> None:
        self._loop = asyncio.get_running_loop()
        self._speaking = speaking
        self._out = bytearray()
        self._came: Callable[[], object] = lambda: None
        self._theirs_ended = False
        self.broken: Exception | None = None

    def attach(self, came: Callable[[], object], room: Callable[[], object]) -> None:
        self._came = came

    def room(self) -> int:
        return MOST

    def write_now(self, data: bytes | memoryview) -> int:
        """All of it, however much: who asks stops with the answers that it has not read. BrokenPipeError."""
        if self.broken is not None:
            raise self.broken
        try:
            self._out += self._speaking.feed(bytes(data))
        except Wrong as error:
            self.broken = BrokenPipeError(str(error))
            self._speaking.close()
        self._loop.call_soon(self._came)
        return len(data)

    def read_now(self, size: int = MOST) -> bytes:
        if self._out:
            data = bytes(self._out[:size])
            del self._out[:size]
            return data
        if self.broken is not None:
            raise self.broken
        if self._speaking.over or self._theirs_ended:
            return b""
        raise BlockingIOError

    def end(self) -> None:
        self._theirs_ended = True
        self._speaking.close()
        self._loop.call_soon(self._came)

    def close(self) -> None:
        self.broken = self.broken or BrokenPipeError("closed on this side")
        self._speaking.close()


def stand_in(two: bool) -> Opener:
    """two: HTTP/2."""
    return lambda given: given(StandIn(Http2() if two else Http1()))
