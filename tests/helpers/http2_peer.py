"""A client or a server of HTTP/2 that does what a test says: hyper-h2 on a socket of loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import h2.config
import h2.connection
import h2.events
import h2.settings
from hyperframe.frame import GoAwayFrame

E = TypeVar("E")
Headers = list[Any]
GET = [(":method", "GET"), (":scheme", "http"), (":authority", "there"), (":path", "/")]
POST = [(":method", "POST"), *GET[1:]]
TAKE = ("x-take", "yes")


def _told_goaway(frame: GoAwayFrame) -> tuple[list[Any], list[Any]]:
    """hyper-h2 takes a GOAWAY for the end, and what the streams still say for an error."""
    event = h2.events.ConnectionTerminated()
    event.error_code, event.last_stream_id = frame.error_code, frame.last_stream_id
    return [], [event]


class Peer:
    """events: those that came and were not waited for. manual: windows are given by the test alone."""

    def __init__(
        self,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        client: bool,
        settings: dict[int, int] | None = None,
    ) -> None:
        self._reader, self._writer = streams
        config = h2.config.H2Configuration(
            client_side=client,
            header_encoding=None,
            validate_inbound_headers=False,
            validate_outbound_headers=False,
            normalize_inbound_headers=False,
            normalize_outbound_headers=False,
        )
        self.h2 = h2.connection.H2Connection(config)
        if settings is not None:
            self.h2.local_settings = h2.settings.Settings(client, initial_values=settings)
        self.h2._frame_dispatch_table[GoAwayFrame] = _told_goaway
        self.h2.initiate_connection()
        self.events: list[Any] = []
        self.manual = False
        self.flush()

    def flush(self) -> None:
        self._writer.write(self.h2.data_to_send())

    def raw(self, data: bytes) -> None:
        self._writer.write(data)

    async def drain(self) -> None:
        await self._writer.drain()

    async def next(self, kind: type[E], stream: int | None = None) -> E:
        """The next event of that kind; EOFError when nothing more comes."""
        while True:
            for index, event in enumerate(self.events):
                if isinstance(event, kind) and stream in (None, getattr(event, "stream_id", None)):
                    del self.events[index]
                    return event
            data = await self._reader.read(65536)
            if not data:
                raise EOFError
            found = self.h2.receive_data(data)
            for event in found if not self.manual else ():
                if isinstance(event, h2.events.DataReceived) and event.flow_controlled_length:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            self.events += found
            self.flush()

    async def body(self, stream: int) -> bytes:
        """All of it."""
        data = b""
        while True:
            event = await self.next(object, stream)
            if isinstance(event, h2.events.DataReceived):
                data += event.data
            elif isinstance(event, h2.events.StreamEnded):
                return data
            elif isinstance(event, h2.events.StreamReset):
                raise ConnectionResetError(event.error_code)

    def ask(self, headers: Headers, body: bytes | None = None) -> int:
        """Sends a request, whole with a body of one frame; the stream's number."""
        number = self.h2.get_next_available_stream_id()
        self.h2.send_headers(number, headers, end_stream=body is None)
        if body is not None:
            self.h2.send_data(number, body, end_stream=True)
        self.flush()
        return number

    def answer(self, stream: int, body: bytes = b"", status: str = "200") -> None:
        self.h2.send_headers(stream, [(":status", status)], end_stream=not body)
        if body:
            self.h2.send_data(stream, body, end_stream=True)
        self.flush()

    def close(self) -> None:
        self._writer.transport.abort()


@asynccontextmanager
async def client(port: int, settings: dict[int, int] | None = None) -> AsyncIterator[Peer]:
    peer = Peer(await asyncio.open_connection("127.0.0.1", port), True, settings)
    try:
        yield peer
    finally:
        peer.close()


class Server:
    """accepted: gives each connection that came."""

    def __init__(self, settings: dict[int, int] | None) -> None:
        self._settings, self._peers = settings, list[Peer]()
        self._queue: asyncio.Queue[Peer] = asyncio.Queue()
        self.port = 0

    async def came(self, *streams: Any) -> None:
        peer = Peer(streams, False, self._settings)  # type: ignore[arg-type]
        self._peers.append(peer)
        self._queue.put_nowait(peer)

    async def accepted(self) -> Peer:
        return await self._queue.get()

    def close(self) -> None:
        for peer in self._peers:
            peer.close()


@asynccontextmanager
async def server(settings: dict[int, int] | None = None) -> AsyncIterator[Server]:
    there = Server(settings)
    listener = await asyncio.start_server(there.came, "127.0.0.1", 0)
    there.port = listener.sockets[0].getsockname()[1]
    try:
        yield there
    finally:
        there.close()
        listener.close()
