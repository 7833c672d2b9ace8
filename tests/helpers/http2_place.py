"""Clients come to a port on loopback as they would to a caught one: an HTTP/2 exchange stands behind it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from attrs import define, field

from pymirror.features.network.incoming.http2 import Exchange
from pymirror.features.network.incoming.http_rules import Decision
from pymirror.features.network.incoming.limits import Limits
from pymirror.features.network.incoming.pipe import Pipe

LOOPBACK = "127.0.0.1"


@define
class Filter:
    """Takes what has `x-take: yes`, or, with `words`, whose body has them."""

    words: bytes = b""
    asked: list[tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes | None]] = field(factory=list)

    @property
    def needs_body(self) -> bool:
        return bool(self.words)

    def decide(
        self, method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], body: bytes | None = None
    ) -> Decision | None:
        self.asked.append((method, target, headers, body))
        if (b"x-take", b"yes") in headers:
            return Decision(True, "a test's")
        if self.words:
            return None if body is None else Decision(self.words in body, "a test's")
        return Decision(False, "a test's")

    def soon(self, *request: Any) -> Decision | None:
        return self.decide(*request[:4])


def to(port: int) -> Callable[[Callable[[Any], None]], None]:
    """Asks for a connection to that port; 0: there is none."""

    def ask(given: Callable[[Any], None]) -> None:
        task = asyncio.ensure_future(_connect(port, given))
        _TASKS.add(task)
        task.add_done_callback(_TASKS.discard)

    return ask


_TASKS = set[asyncio.Task[None]]()


async def _connect(port: int, given: Callable[[Any], None]) -> None:
    sock = socket.socket()
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, (LOOPBACK, port))
    except OSError:
        sock.close()
        given(None)
    else:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        given(Pipe(sock))


@define
class Place:
    """port: where clients come. application, program: ports; or what
    asks for the stream. exchanges: those that are not over. accepted, over:
    how many connections."""

    application: Any
    program: Any
    filter: Any = field(factory=Filter)
    limits: Limits = field(factory=Limits)
    marks: bool = False
    port: int = 0
    said: list[str] = field(factory=list)
    exchanges: list[Exchange] = field(factory=list)
    accepted: int = 0
    over: int = 0
    changed: asyncio.Event = field(factory=asyncio.Event)

    def accept(self, sock: socket.socket) -> None:
        self.accepted += 1
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made: list[Exchange] = []

        def over() -> None:
            self.over += 1
            self.exchanges.remove(made[0])
            self.changed.set()

        openers = [to(each) if isinstance(each, int) else each for each in (self.application, self.program)]
        parts = Pipe(sock), *openers, self.filter, self.limits, self.said.append, over, b"", self.marks
        made.append(Exchange(*parts))
        self.exchanges.append(made[0])

    async def until_over(self) -> None:
        """Nothing of any connection is left."""
        while self.exchanges:
            self.changed.clear()
            await self.changed.wait()


@asynccontextmanager
async def place(application: Any, program: Any = 0, **more: Any) -> AsyncIterator[Place]:
    there = Place(application, program, **more)
    loop = asyncio.get_running_loop()
    with socket.create_server((LOOPBACK, 0)) as listener:
        listener.setblocking(False)
        there.port = listener.getsockname()[1]
        loop.add_reader(listener, lambda: there.accept(listener.accept()[0]))
        try:
            yield there
        finally:
            loop.remove_reader(listener)
            for exchange in list(there.exchanges):
                exchange.cancel()
