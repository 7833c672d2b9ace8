"""Port-forward against a stand-in that speaks v4.channel.k8s.io over a real WebSocket on loopback."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from pymirror.core.errors import PymirrorError
from pymirror.runtimes.kubernetes.forward import PROTOCOL, Forward, ForwardError, split

PORT = 7777
FIRST = struct.pack("<H", PORT)
Behaviour = Callable[[ServerConnection], Awaitable[None]]


@pytest.mark.parametrize(
    ("frame", "begun", "found"),
    [
        (b"", set(), None),
        (b"\0" + FIRST, set(), None),
        (b"\1" + FIRST, {0}, None),
        (b"\0" + FIRST + b"more", set(), (0, b"more")),
        (b"\0data", {0}, (0, b"data")),
        (b"\1no", {0, 1}, (1, b"no")),
    ],
)
def test_frames_are_split(frame: bytes, begun: set[int], found: tuple[int, bytes] | None) -> None:
    result = split(frame, begun, PORT)
    assert (None if result is None else (result[0], bytes(result[1]))) == found


@pytest.mark.parametrize("frame", [b"\x05x", b"\xff\0", b"\0\0\0", b"\0x"])
def test_what_is_not_the_protocol_is_refused(frame: bytes) -> None:
    with pytest.raises(ForwardError):
        split(frame, set(), PORT)


class Pair:
    """A Forward and the stand-in behind it."""

    def __init__(self, forward: Forward, errors: list[PymirrorError], dials: list[int]) -> None:
        self.forward, self.errors, self.dials = forward, errors, dials

    async def connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        name = self.forward.address.removeprefix("ipc://@")
        return await asyncio.open_unix_connection(f"\0{name}")


async def begin(socket: ServerConnection) -> None:
    await socket.send(b"\0" + FIRST)
    await socket.send(b"\1" + FIRST)


async def echo(socket: ServerConnection) -> None:
    await begin(socket)
    async for frame in socket:
        assert isinstance(frame, bytes)
        assert frame[0] == 0
        await socket.send(frame)


async def refuse(socket: ServerConnection) -> None:
    await begin(socket)
    await socket.send(b"\1error forwarding port 7777: connection refused")


async def say_and_end(socket: ServerConnection) -> None:
    await begin(socket)
    await socket.send(b"\0bye")


async def cut(socket: ServerConnection) -> None:
    await begin(socket)
    socket.transport.abort()


@pytest.fixture
async def pairs() -> AsyncIterator[Callable[[Behaviour], Awaitable[Pair]]]:
    opened: list[Any] = []

    async def make(behaviour: Behaviour) -> Pair:
        listener = await serve(behaviour, "127.0.0.1", 0, subprotocols=[PROTOCOL], compression=None)  # type: ignore[list-item]
        port = listener.sockets[0].getsockname()[1]
        dials: list[int] = []

        async def dial() -> Any:
            dials.append(1)
            return await connect(
                f"ws://127.0.0.1:{port}",
                subprotocols=[PROTOCOL],  # type: ignore[list-item]
                compression=None,
                proxy=None,
                max_queue=8,
                close_timeout=1,
            )

        errors: list[PymirrorError] = []
        forward = Forward(dial, PORT, errors.append)
        await forward.start()
        opened.append((forward, listener))
        return Pair(forward, errors, dials)

    yield make
    for forward, listener in opened:
        await forward.aclose()
        listener.close()
        await listener.wait_closed()


Make = Callable[[Behaviour], Awaitable[Pair]]


async def test_bytes_come_back_whole(pairs: Make) -> None:
    pair = await pairs(echo)
    reader, writer = await pair.connection()
    sent = os.urandom(3_000_000)
    writer.write(sent)
    assert await asyncio.wait_for(reader.readexactly(len(sent)), 20) == sent
    writer.close()
    assert pair.errors == []


async def test_each_connection_has_a_websocket_of_its_own(pairs: Make) -> None:
    pair = await pairs(echo)
    assert len(pair.dials) == 1  # opened ahead, used by the first
    ends = [await pair.connection() for _ in range(3)]
    for number, (reader, writer) in enumerate(ends):
        writer.write(b"%d" % number)
        assert await asyncio.wait_for(reader.readexactly(1), 10) == b"%d" % number
    assert len(pair.dials) == 3
    for _, writer in ends:
        writer.close()


async def test_an_error_frame_is_told_and_ends_the_connection(pairs: Make) -> None:
    pair = await pairs(refuse)
    reader, writer = await pair.connection()
    assert await asyncio.wait_for(reader.read(), 10) == b""
    assert "connection refused" in pair.errors[0].message
    writer.close()


async def test_the_far_end_may_end_first(pairs: Make) -> None:
    pair = await pairs(say_and_end)
    reader, writer = await pair.connection()
    assert await asyncio.wait_for(reader.read(), 10) == b"bye"
    assert pair.errors == []
    writer.close()


async def test_a_cut_connection_is_told(pairs: Make) -> None:
    pair = await pairs(cut)
    reader, writer = await pair.connection()
    assert await asyncio.wait_for(reader.read(), 10) == b""
    assert "was cut" in pair.errors[0].message
    writer.close()


async def test_one_loss_is_told_once(pairs: Make) -> None:
    there = False

    async def sometimes(socket: ServerConnection) -> None:
        await (echo if there else refuse)(socket)

    async def comes_again() -> None:
        reader, writer = await pair.connection()
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()

    pair = await pairs(sometimes)
    for _ in range(3):
        await comes_again()
    assert len(pair.dials) == 3 and len(pair.errors) == 1
    there = True
    reader, writer = await pair.connection()
    writer.write(b"x")
    assert await asyncio.wait_for(reader.readexactly(1), 10) == b"x"
    writer.close()
    there = False
    for _ in range(2):
        await comes_again()
    assert len(pair.errors) == 2


async def test_who_does_not_read_is_not_sent_more(pairs: Make) -> None:
    sent = 0
    full = asyncio.Event()

    async def flood(socket: ServerConnection) -> None:
        nonlocal sent
        await begin(socket)
        while True:
            try:
                await asyncio.wait_for(socket.send(b"\0" + bytes(65536)), 0.5)
            except asyncio.TimeoutError:
                full.set()
                return
            sent += 65536
            assert sent < 64_000_000

    pair = await pairs(flood)
    _, writer = await pair.connection()
    await asyncio.wait_for(full.wait(), 20)
    writer.close()
