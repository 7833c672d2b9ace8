"""Byte streams over real sockets on loopback."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import suppress
from functools import partial

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


async def test_who_waits_for_credit_is_woken_by_its_own_alone(both: Both) -> None:
    """A hundred stalled writers that look for room at each message took three quarters of a stream's speed."""
    peer, woken = both.layer.peer("test-channel"), asyncio.Queue[int]()
    stalled = [peer.stream_now(Stall()) for _ in range(20)]
    for stream in stalled:
        await stream.write(bytes(windows.FIRST))
    await soon(peer.request(Data(bytes(mux.BULK_FROM))))  # in turn with what was written
    for stream in stalled:
        stream.attach(lambda: None, partial(woken.put_nowait, stream.id))
        assert not stream.room()
    moving, size = peer.stream_now(Copy()), 0
    writing = asyncio.ensure_future(moving.write(bytes(8 * MIB)))
    while size < 8 * MIB:
        size += len(await soon(moving.read(1 << 17)))
    await writing
    assert woken.empty()
    last = both.half.stalled
    assert last is not None
    for _ in range(3):
        await last.read(1 << 16)
    assert await soon(woken.get()) == last.id and woken.empty()


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


async def test_by_callbacks_bytes_go_as_far_as_there_is_room(both: Both) -> None:
    """Nobody waits for anything: who has no room, or nothing to read, is told when that has changed."""
    stream, loop = both.layer.peer("test-channel").stream_now(Copy()), asyncio.get_running_loop()
    ended, received, left = loop.create_future(), bytearray(), memoryview(bytes(range(256)) * (16 << 10))

    def came() -> None:
        with suppress(BlockingIOError):
            while data := stream.read_now():
                received.extend(data)
            ended.set_result(None)

    def room() -> None:
        nonlocal left
        while left and (size := stream.write_now(left)):
            left = left[size:]
        if not left:
            stream.end()

    whole = bytes(left)
    stream.attach(came, room)
    with pytest.raises(BlockingIOError):
        stream.read_now()
    room()
    assert left and stream.room() == 0
    await soon(ended)
    assert bytes(received) == whole and stream.broken is None
    with pytest.raises(BrokenPipeError):
        stream.write_now(b"x")


async def test_by_callbacks_who_was_taken_from_in_part_is_told_when_others_leave_room(both: Both) -> None:
    """Without having asked for room: its own reader owes it no credit for so little."""
    peer, told = both.layer.peer("test-channel"), asyncio.Event()
    for side in (both.layer, both.agent):
        side.mux.agree(windows.Terms(4 * MIB, 4 * MIB))
    *others, last = [peer.stream_now(Stall()) for _ in range(9)]
    for stream in others:
        window = both.layer.mux._streams[stream.id].out
        window.size = 4 * MIB
        while both.layer.mux._out.room(window):
            stream.write_now(bytes(1 << 17))
            await asyncio.sleep(0)
    last.attach(lambda: None, told.set)
    assert 0 < last.write_now(bytes(MIB)) < MIB
    others[0].close()
    await soon(told.wait())


async def test_by_callbacks_one_that_raises_costs_its_stream_alone(
    both: Both, caplog: pytest.LogCaptureFixture
) -> None:
    peer = both.layer.peer("test-channel")
    stream, other = peer.stream_now(Copy()), peer.stream_now(Copy())
    stream.attach(lambda: 1 // 0, lambda: None)
    stream.write_now(b"x")
    other.write_now(b"y")
    assert await soon(other.read()) == b"y"
    assert isinstance(stream.broken, ZeroDivisionError)
    assert [record.getMessage() for record in caplog.records] == ["test-channel failed on a stream"] * 2
    assert await soon(peer.request(Ask(1))) == Ask(2)


async def test_by_callbacks_a_reset_is_told_once_and_what_came_before_is_kept(both: Both) -> None:
    stream, told = both.layer.peer("test-channel").stream_now(Stall()), asyncio.Queue[int]()
    await soon(both.half.has_stalled.wait())
    other = both.half.stalled
    assert other is not None
    stream.attach(lambda: told.put_nowait(1), lambda: None)
    assert other.write_now(b"last words") == 10
    await soon(told.get())
    other.close()
    await soon(told.get())
    assert isinstance(stream.broken, ConnectionResetError) and stream.read_now() == b"last words"
    for call in (stream.read_now, lambda: stream.write_now(b"x")):
        with pytest.raises(ConnectionResetError):
            call()
    stream.close()
    assert told.empty()
