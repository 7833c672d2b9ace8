"""Datagrams in a stream, and a flow that is offered more than it can carry."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

from pymirror.core.limit import timeout
from pymirror.features.network.outgoing import flows as flows_of
from pymirror.features.network.outgoing.borrow import cookie_of
from pymirror.features.network.outgoing.datagrams import LENGTH, QUEUE, Flow, split
from pymirror.features.network.outgoing.flows import Flows
from pymirror.features.network.outgoing.refusals import Teller
from pymirror.features.network.outgoing.telling import Telling


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


async def test_a_queue_that_is_full_to_its_last_byte_has_room_to_receive() -> None:
    size = QUEUE // 5 - 2
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    here.setblocking(False)
    there.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * QUEUE)
    stream = Stalled()
    stream.goes = True
    flow = Flow(here, stream, lambda: None)
    for _ in range(6):
        there.send(b"x" * size)
    flow.finish()
    assert (stream.written, flow.dropped) == (framed(*[b"x" * size] * 5), 1)
    flow.cancel()
    there.close()


async def test_only_the_introduced_socket_is_heard() -> None:
    flows, stream, came = Flows(), Stalled(), asyncio.get_running_loop().create_future()
    stream.goes = True

    def joined(sock: socket.socket, sender: Any) -> Flow:
        flow = Flow(sock, stream, lambda: None, only=sender)
        came.set_result((flow, sock.getpeername()))
        return flow

    where, words = flows.expect(4, joined, lambda: None)
    with socket.socket(type=socket.SOCK_DGRAM) as stranger, socket.socket(type=socket.SOCK_DGRAM) as program:
        stranger.sendto(b"y" * len(words), (where.host, where.port))
        program.sendto(words, (where.host, where.port))
        stranger.sendto(b"before it is connected", (where.host, where.port))
        program.sendto(b"first", (where.host, where.port))
        flow, peer = await came
        assert peer == ("127.0.0.1", program.getsockname()[1])
        stranger.sendto(b"afterwards", (where.host, where.port))
        program.sendto(b"second", (where.host, where.port))
        flow.finish()
        assert stream.written == framed(b"first", b"second")
        flow.cancel()
    flows.close()


@pytest.mark.parametrize("told", [True, False])
async def test_a_flow_ends_with_its_socket_whoever_has_the_port(
    told: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(flows_of, "SWEEP", 0.0)
    tables = [{1, 2}, {2}] if told else [OSError("not told"), {1}, set[int]()]
    looked: list[Any] = []

    def there() -> set[int]:
        looked.append(tables[len(looked)])
        if isinstance(looked[-1], OSError):
            raise looked[-1]
        return set(looked[-1])

    flows, over = Flows(there), asyncio.Event()
    where, words = flows.expect(
        4, lambda sock, sender: Flow(sock, Stalled(), over.set, program=1), lambda: None
    )
    with socket.socket(type=socket.SOCK_DGRAM) as program:
        program.sendto(words, (where.host, where.port))
        async with timeout(30):
            await over.wait()
    assert looked == tables and ("not told" in caplog.text) is not told
    flows.close()


async def test_of_many_errors_at_once_few_are_told() -> None:
    told: asyncio.Queue[bool] = asyncio.Queue()
    teller = Teller(lambda: told.put_nowait(True))
    for _ in range(2):
        for _ in range(3):
            teller()
        assert await told.get()
    assert told.empty()


async def test_a_refusal_is_told_beside_everything_else_and_once_for_many() -> None:
    """Nothing waits while the program's socket is looked for."""
    found: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()
    asked: list[Flow] = []

    async def find(flow: Flow) -> tuple[int, int] | None:
        asked.append(flow)
        return await found

    with socket.socket(type=socket.SOCK_DGRAM) as relay, socket.socket(type=socket.SOCK_DGRAM) as program:
        for sock in (relay, program):
            sock.setblocking(False)
            sock.bind(("127.0.0.1", 0))
        relay.connect(program.getsockname())
        program.connect(relay.getsockname())
        flow, telling = Flow(relay, Stalled(), lambda: None, program=cookie_of(program)), Telling(find)
        for _ in range(3):
            telling.refused(flow)
            await asyncio.sleep(0)
        assert asked == [flow]
        found.set_result((os.getpid(), program.fileno()))
        for _ in range(2):
            await asyncio.sleep(0)
        with pytest.raises(ConnectionRefusedError):
            program.recv(1)
        with pytest.raises(BlockingIOError):
            program.recv(1)
        flow.cancel()
        await telling.aclose()


@pytest.mark.parametrize("error", [None, OSError("no /proc")])
async def test_a_socket_that_is_not_found_is_told_nothing(
    error: OSError | None, caplog: pytest.LogCaptureFixture
) -> None:
    asked = asyncio.Event()

    async def find(flow: Flow) -> tuple[int, int] | None:
        asked.set()
        if error is not None:
            raise error
        return None

    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    here.setblocking(False)
    with there:
        flow, telling = Flow(here, Stalled(), lambda: None), Telling(find)
        for _ in range(2):  # the first costs the second nothing
            asked.clear()
            telling.refused(flow)
            await asked.wait()
            await asyncio.sleep(0)
        assert caplog.text.count("no /proc") == (1 if error is not None else 0)
        flow.cancel()
        await telling.aclose()
