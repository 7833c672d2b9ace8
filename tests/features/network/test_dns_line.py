"""One socket for many queries: whose answer is whose, and how it ends. A socket pair stands for the network."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import dns.message
import pytest

from pymirror.features.network.dns import line as module
from pymirror.features.network.dns.line import Line
from pymirror.features.network.dns.upstream import connected


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for end in (near, far):
        end.setblocking(False)
    with near, far:
        yield near, far


def query(name: str) -> bytes:
    return dns.message.make_query(name, "A", id=7).to_wire()


async def asked(far: socket.socket) -> bytes:
    return await asyncio.get_running_loop().sock_recv(far, 512)


def answered(wire: bytes) -> bytes:
    return wire[:2] + bytes([wire[2] | 0x80]) + wire[3:]


async def test_answers_in_any_order_and_nobody_elses(ends: tuple[socket.socket, socket.socket]) -> None:
    near, far = ends
    line = Line(near)
    tasks = [asyncio.ensure_future(line.ask(query(name))) for name in ("a.", "b.")]
    first, second = await asked(far), await asked(far)
    assert first[:2] != second[:2]
    far.send(b"garbage")
    far.send(first)  # no answer
    far.send(answered(first[:2] + second[2:]))  # right number, another question
    far.send(answered(second))
    far.send(answered(second))
    far.send(answered(first))
    assert await asyncio.gather(*tasks) == [answered(query("a.")), answered(query("b."))]
    line.close()


async def test_an_error_is_everybodys_and_the_end() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
        far.bind(("127.0.0.1", 0))
        near = connected("127.0.0.1", far.getsockname()[1], socket.SOCK_DGRAM)
        line = Line(near)
        first = asyncio.ensure_future(line.ask(query("a.")))
        far.setblocking(False)
        await asked(far)
    with pytest.raises(ConnectionRefusedError):
        await line.ask(query("b."))
    with pytest.raises(ConnectionRefusedError):
        await first
    assert not line.fits and near.fileno() == -1


async def test_it_is_replaced_after_so_many(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 1)
    near, far = ends
    line = Line(near)
    task = asyncio.ensure_future(line.ask(query("a.")))
    wire = await asked(far)
    assert not line.fits and near.fileno() >= 0
    far.send(answered(wire))
    await task
    assert near.fileno() == -1


@pytest.mark.parametrize("another_is_answered", [True, False])
async def test_it_is_replaced_when_a_query_has_waited_in_silence(
    ends: tuple[socket.socket, socket.socket], another_is_answered: bool
) -> None:
    near, far = ends
    line = Line(near)
    slow = asyncio.ensure_future(line.ask(query("slow.")))
    await asked(far)
    quick = asyncio.ensure_future(line.ask(query("quick.")))
    wire = await asked(far)
    if another_is_answered:
        far.send(answered(wire))
        await quick
    slow.cancel()
    await asyncio.wait([slow])
    assert line.fits is another_is_answered
    if not another_is_answered:  # who still waits may be answered
        far.send(answered(wire))
        await quick
        assert near.fileno() == -1
    line.close()


async def test_closed_and_cancelled(ends: tuple[socket.socket, socket.socket]) -> None:
    near, far = ends
    line = Line(near)
    tasks = [asyncio.ensure_future(line.ask(query("a."))) for _ in range(2)]
    await asked(far)
    tasks[0].cancel()
    line.close()
    assert [type(each) for each in await asyncio.gather(*tasks, return_exceptions=True)] == [
        asyncio.CancelledError
    ] * 2
    line.close()
    assert near.fileno() == -1
