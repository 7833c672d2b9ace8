"""Developers' sessions that steal a port, with web servers as their programs and as the application."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import h2.events

from pymirror.core.feature import Stream, handles
from pymirror.core.limit import timeout
from pymirror.features.network.carry import join
from pymirror.features.network.incoming import messages as m
from pymirror.features.network.incoming.config import Config
from pymirror.features.network.incoming.http_filter import HttpFilter
from tests.helpers.http2_peer import Peer
from tests.sandbox.steal_agent import Layer, Session, session
from tests.sandbox.steal_network import WITHIN, Both, Line, Side

WEB = 8088
"""The application's, of HTTP."""


async def serve(who: str, client: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """HTTP/1 that says who answers, who its client is and what was asked for; after an upgrade, an echo."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            path = head.split(b" ")[1].decode()
            if b"Upgrade:" in head:
                upgraded = f"HTTP/1.1 101 Switching\r\nUpgrade: it\r\nConnection: Upgrade\r\n\r\n{who}\n"
                writer.write(upgraded.encode())
                while data := await reader.read(4096):
                    writer.write(data)
                break
            said = f"{who} {client} {path}\n".encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(said) + said)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        await closed(writer)


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def serve_h2(who: str, client: str, *streams: Any) -> None:
    peer = Peer(streams, False)  # type: ignore[arg-type]
    try:
        while asked := await peer.next(h2.events.RequestReceived):
            path = dict(asked.headers)[b":path"].decode()  # type: ignore[arg-type]
            peer.answer(asked.stream_id, f"{who} {client} {path}".encode())
    except (EOFError, ConnectionError):
        pass
    finally:
        await closed(streams[1])


Server = Callable[..., Any]


def program(who: str, server: Server = serve) -> type[Layer]:
    class Program(Layer):
        @handles(m.Arrived)
        async def arrived(self, arrived: m.Arrived, stream: Stream) -> None:
            ours, its = socket.socketpair()
            ours.setblocking(False)
            done = asyncio.Event()
            joined = join(ours, stream, done.set)
            try:
                await server(
                    who, f"{arrived.client} {arrived.client_port}", *await asyncio.open_connection(sock=its)
                )
                await done.wait()
            finally:
                joined.cancel()

    return Program


async def application(both: Both, port: int, server: Server) -> None:
    async def came(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = " ".join(map(str, writer.get_extra_info("peername")[:2]))
        await server("app", client, reader, writer)

    for host in ("0.0.0.0", "::"):
        made = await asyncio.start_server(came, sock=await both.target.listen(host, port))
        both.undo.callback(made.close)


@asynccontextmanager
async def developer(
    both: Both,
    who: str,
    path: str = "",
    *options: str,
    server: Server = serve,
    **chosen: Any,
) -> AsyncIterator[Session]:
    """A session that takes requests of such a path, or with an empty one all."""
    chosen = chosen or ({"path_filter": path} if path else {})
    config = Config(mode="steal", http_filter=HttpFilter(**chosen))
    async with session(both, *options, whose=f"{who}@box", layer=program(who, server), config=config) as made:
        yield made


async def ask(line: Line, path: str) -> str:
    """A request on that connection, and the answer's one line."""
    line.writer.write(f"GET {path} HTTP/1.1\r\nHost: it\r\n\r\n".encode())
    async with timeout(WITHIN):
        await line.reader.readuntil(b"\r\n\r\n")
    return await line.says()


async def asked(side: Side, host: str, path: str) -> str:
    """On a connection of its own: who answered. That it is the client who is seen is looked at here."""
    line = await side.connect(host, WEB)
    try:
        said = await ask(line, path)
        assert said.endswith(f" {line.own} {path}")
        return said.split()[0]
    finally:
        line.close()
