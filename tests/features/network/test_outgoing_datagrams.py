"""Datagrams in a stream, and a flow that is offered more than it can carry."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from pymirror.features.network.outgoing.datagrams import LENGTH, QUEUE, Flow, split
from pymirror.features.network.outgoing.flows import Flows
from pymirror.features.network.outgoing.refusals import Teller


def framed(*datagrams: bytes) -> bytes:
    return b"".join(LENGTH.pack(len(each)) + each for each in datagrams)


def test_datagrams_keep_their_borders_however_the_stream_is_cut() -> None:
    whole = framed(b"one", b"", b"three")
    for cut in range(len(whole) + 1):
        first, rest = split(whole[:cut])
        second, left = split(rest + whole[cut:])
        assert (first + second, left) == ([b"one", b"", b"three"], b"")


class Stalled:
    """A stream whose other side reads nothing until `go`; then it keeps what was written."""

    broken: Exception | None = None

    def __init__(self) -> None:
        self.goes, self.written, self.ended, self.freed = False, b"", False, lambda: None

    def attach(self, came: Callable[[], None], room: Callable[[], None]) -> None:
        self.freed = room

    def write_now(self, data: bytes) -> int:
        self.written += data if self.goes else b""
        return len(data) if self.goes else 0

    def read_now(self, size: int = 65536) -> bytes:
        raise BlockingIOError

    def end(self) -> None: ...

    def close(self) -> None:
        self.ended = True


async def test_a_stalled_channel_costs_datagrams_and_no_memory() -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    here.setblocking(False)
    stream, over = Stalled(), asyncio.Event()
    flow = Flow(here, stream, over.set)
    there.setblocking(False)

    while flow.dropped < 10:
        try:
            there.send(b"x" * 8192)
        except BlockingIOError:
            await asyncio.sleep(0)
    stream.goes = True
    stream.freed()
    assert QUEUE - 16384 < len(stream.written) <= QUEUE
    assert {len(each) for each in split(stream.written)[0]} == {8192}
    flow.cancel()
    assert stream.ended and over.is_set() and flow.closed
    there.close()


async def test_only_the_introduced_socket_is_heard() -> None:
    flows, came = Flows(), asyncio.get_running_loop().create_future()

    def joined(sock: socket.socket) -> Flow:
        flow = Flow(sock, Stalled(), lambda: None)
        came.set_result((flow, sock.getpeername(), sock.recv(100)))
        return flow

    where, words = flows.expect(4, joined, lambda: None)
    with socket.socket(type=socket.SOCK_DGRAM) as stranger, socket.socket(type=socket.SOCK_DGRAM) as program:
        stranger.sendto(b"y" * len(words), (where.host, where.port))
        for data in (words, b"first"):
            program.sendto(data, (where.host, where.port))
        stranger.sendto(b"late", (where.host, where.port))
        flow, *heard = await came
        assert heard == [("127.0.0.1", program.getsockname()[1]), b"first"]
        flow.cancel()
    flows.close()


async def test_of_many_errors_at_once_few_are_told() -> None:
    told: asyncio.Queue[int] = asyncio.Queue()
    teller = Teller(told.put_nowait)
    for _ in range(2):
        for code in (111, 113, 111):
            teller(code)
        assert await told.get() == 111
    assert told.empty()
