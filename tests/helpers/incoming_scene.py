"""One client's connection with an application and a local program, each a socket of the test's."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from pymirror.core.limit import timeout
from pymirror.features.network.incoming.exchange import Exchange
from pymirror.features.network.incoming.http_filter import Decision
from pymirror.features.network.incoming.limits import Limits
from pymirror.features.network.incoming.outlet import Given
from pymirror.features.network.incoming.pipe import Pipe

WITHIN = 10


def pair() -> tuple[socket.socket, socket.socket]:
    """A connected TCP connection, both ends non-blocking."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    for sock in (one, other):
        sock.setblocking(False)
    return one, other


class ByPath:
    """Takes what begins with /p; with `needs_body` those under /body whose body has a `p`."""

    def __init__(self, needs_body: bool = False) -> None:
        self.needs_body = needs_body

    def decide(
        self, method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], body: bytes | None = None
    ) -> Decision | None:
        if self.needs_body and target.startswith(b"/body"):
            return None if body is None else Decision(b"p" in body, "body")
        return Decision(target.startswith(b"/p"), "path")

    def soon(self, *request: Any) -> Decision | None:
        return self.decide(*request[:4])


class Far:
    """The far ends of the connections to one side, in the order they were asked for."""

    def __init__(self) -> None:
        self.asked = 0
        self.refuses = False
        self.waiting: list[Given] = []
        self.later = False
        self._ends: asyncio.Queue[socket.socket] = asyncio.Queue()
        self.sockets: list[socket.socket] = []

    def opener(self, given: Given) -> None:
        self.asked += 1
        if self.later:
            self.waiting.append(given)
        else:
            self.give(given)

    def give(self, given: Given) -> None:
        if self.refuses:
            given(None)
            return
        inner, outer = pair()
        self.sockets.append(outer)
        self._ends.put_nowait(outer)
        given(Pipe(inner))

    async def next(self) -> socket.socket:
        async with timeout(WITHIN):
            return await self._ends.get()


class Scene:
    def __init__(
        self,
        matcher: ByPath | None = None,
        limits: Limits | None = None,
        first: bytes = b"",
        marks: bool = False,
    ) -> None:
        self.client, inner = pair()
        self.application, self.program = Far(), Far()
        self.told: list[str] = []
        self.over = asyncio.Event()
        self.exchange = Exchange(
            Pipe(inner, waits=True),
            self.application.opener,
            self.program.opener,
            matcher or ByPath(),
            limits or Limits(),
            self.told.append,
            self.over.set,
            first,
            marks,
        )

    def close(self) -> None:
        self.exchange.cancel()
        for sock in (self.client, *self.application.sockets, *self.program.sockets):
            sock.close()


Made = Callable[..., Scene]


def ok(body: bytes = b"", more: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (more, len(body), body)


async def send(sock: socket.socket, data: bytes) -> None:
    async with timeout(WITHIN):
        await asyncio.get_running_loop().sock_sendall(sock, data)


async def exactly(sock: socket.socket, size: int) -> bytes:
    """So many bytes, or all up to the end."""
    loop, data = asyncio.get_running_loop(), b""
    async with timeout(WITHIN):
        while len(data) < size and (more := await loop.sock_recv(sock, size - len(data))):
            data += more
    return data


async def got(sock: socket.socket, data: bytes) -> None:
    assert await exactly(sock, len(data)) == data


async def ended(sock: socket.socket) -> None:
    assert await exactly(sock, 1) == b""


async def reset(sock: socket.socket) -> bool:
    try:
        await exactly(sock, 1 << 20)
    except ConnectionResetError:
        return True
    return False


async def quiet(sock: socket.socket, turns: int = 20) -> None:
    """Nothing comes, as far as the loop has got."""
    for _ in range(turns):
        await asyncio.sleep(0)
    try:
        data = sock.recv(1 << 16, socket.MSG_PEEK)
    except BlockingIOError:
        return
    raise AssertionError(data)
