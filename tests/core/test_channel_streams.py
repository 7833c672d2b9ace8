"""Byte streams over real sockets on loopback."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
from channel_ends import MIB, Ask, Both, Copy, Data, Note, Stall, soon

from pymirror.core import mux, windows
from pymirror.core.errors import PeerError


async def test_64_mib_there_and_back_beside_a_stalled_stream(both: Both) -> None:
    peer = both.layer.peer("test-channel")
    stalled = await peer.stream(Stall())
    stuck = asyncio.ensure_future(stalled.write(bytes(4 * MIB)))
    stream = await peer.stream(Copy())
    sent, received, pattern = hashlib.sha256(), hashlib.sha256(), bytes(range(251)) * 4178

    async def write() -> None:
        for _ in range(64):
            sent.update(pattern)
            await stream.write(pattern)
        await stream.close_write()

    async def read() -> int:
        size = 0
        while data := await stream.read(1 << 17):
            received.update(data)
            size += len(data)
        return size

    _, size = await soon(asyncio.gather(write(), read()))
    assert size == 64 * len(pattern) and sent.digest() == received.digest()
    assert both.half.stalled is not None and not stuck.done()
    assert sum(map(len, both.half.stalled._received)) <= windows.FIRST
    assert stream.id not in both.layer.streams and stream.id not in both.agent.streams
    await stalled.aclose()
    with pytest.raises(BrokenPipeError):
        await soon(stuck)


async def test_a_stream_that_ended_unread_is_given_back_by_its_close(both: Both) -> None:
    peer = both.layer.peer("test-channel")
    stream = await peer.stream(Stall())
    await stream.write(bytes(windows.FIRST))
    await stream.close_write()
    await soon(peer.request(Data(bytes(mux.BULK_FROM))))  # in turn with what was written
    other = both.half.stalled
    assert other is not None and await other.read(1) == b"\0"
    await other.close_write()
    assert await soon(stream.read()) == b""
    assert both.agent.mux._into.used == both.layer.mux._out.used == windows.FIRST
    await other.aclose()
    await soon(peer.request(Ask(1)))
    assert both.agent.mux._into.used == both.layer.mux._out.used == 0


async def test_who_waits_for_room_is_told_after_the_turn_that_made_some(both: Both) -> None:
    """Not from within it: who writes has not noted yet what was taken."""
    peer, told = both.layer.peer("test-channel"), asyncio.Event()
    stream = await peer.stream(Stall())
    await soon(peer.request(Ask(1)))
    stream.wake_writer = told.set  # type: ignore[method-assign]
    both.layer.writers.add(stream)
    peer.send(Note(1))
    assert not both.layer.mux.pending and not told.is_set()
    await soon(told.wait())


async def test_single_bytes_cost_no_object_each(both: Both) -> None:
    stream = await both.layer.peer("test-channel").stream(Stall())
    for _ in range(3000):
        await stream.write(b"x")
    await soon(both.layer.peer("test-channel").request(Ask(1)))
    await soon(both.layer.peer("test-channel").request(Data(bytes(mux.BULK_FROM))))
    other = both.half.stalled
    assert other is not None and len(other._received) < 10
    read = [await soon(other.read(7)) for _ in range(10)]
    assert b"".join(read).startswith(b"x")


async def test_small_requests_pass_bulk(both: Both) -> None:
    peer = both.layer.peer("test-channel")
    stream = await peer.stream(Stall())
    writing = asyncio.ensure_future(stream.write(bytes(8 * MIB)))
    assert (await soon(peer.request(Ask(1)))).number == 2
    assert not writing.done()
    await stream.aclose()
    with pytest.raises(BrokenPipeError):
        await soon(writing)


async def test_a_reset_wakes_both_halves_of_the_other_side(both: Both) -> None:
    peer = both.layer.peer("test-channel")
    stream = await peer.stream(Stall())
    await soon(both.half.has_stalled.wait())
    assert both.half.stalled is not None
    reading = asyncio.ensure_future(stream.read())
    await both.half.stalled.aclose()
    with pytest.raises(ConnectionResetError):
        await soon(reading)
    with pytest.raises(ConnectionResetError):
        await stream.write(b"x")
    await stream.aclose()
    await stream.aclose()


async def test_a_stream_without_a_handler_fails_in_words(both: Both) -> None:
    stream = await both.agent.peer("test-channel").stream(Copy())
    with pytest.raises(PeerError, match="no half of test-channel here handles Copy"):
        await soon(stream.read())
