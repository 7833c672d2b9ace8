"""A socket with the face of a stream: bytes, ends, resets, and who has no room."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress

import pytest
from incoming_agent import until

from pymirror.features.network.incoming.budget import BUDGET
from pymirror.features.network.incoming.passed import Passed
from pymirror.features.network.incoming.pipe import Pipe

pytestmark = pytest.mark.asyncio


def pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    for sock in (one, other):
        sock.setblocking(False)
    return one, other


async def joined() -> tuple[socket.socket, socket.socket, asyncio.Event]:
    """Two sockets whose other ends are joined by a pipe, and when that is over."""
    near, inner = pair()
    outer, far = pair()
    over = asyncio.Event()
    Passed(inner, outer, b"", over.set)
    return near, far, over


async def received(sock: socket.socket, size: int) -> bytes:
    loop, data = asyncio.get_running_loop(), b""
    while len(data) < size and (more := await loop.sock_recv(sock, 1 << 20)):
        data += more
    return data


async def test_bytes_and_ends_go_both_ways() -> None:
    loop = asyncio.get_running_loop()
    near, far, over = await joined()
    await loop.sock_sendall(near, b"ask")
    near.shutdown(socket.SHUT_WR)
    assert await received(far, 4) == b"ask"
    await loop.sock_sendall(far, b"answer")
    far.close()
    assert await received(near, 7) == b"answer"
    await asyncio.wait_for(over.wait(), 5)
    near.close()


async def test_what_finds_no_room_is_not_taken() -> None:
    inner, outer = pair()
    pipe, taken = Pipe(inner), 0
    while size := pipe.write_now(b"x" * (1 << 20)):
        taken += size
        assert pipe.room() == max(0, Pipe.MOST - len(pipe._held))
    assert len(pipe._held) == Pipe.MOST and pipe.room() == 0
    loop, came = asyncio.get_running_loop(), 0
    while came < taken:
        came += len(await loop.sock_recv(outer, 1 << 20))
    assert came == taken and pipe.room() == Pipe.MOST
    pipe.close()
    outer.close()


async def test_a_stalled_reader_stops_the_writer_and_nothing_is_lost() -> None:
    loop = asyncio.get_running_loop()
    near, far, _ = await joined()
    data = bytes(range(256)) * (64 << 10)  # 16 MiB
    sent = 0
    with suppress(BlockingIOError):
        while sent < len(data):
            for _ in range(50):  # until nobody takes more
                await asyncio.sleep(0)
            sent += near.send(data[sent : sent + (1 << 20)])
    assert sent < len(data)
    sending = asyncio.ensure_future(loop.sock_sendall(near, data[sent:]))
    assert await received(far, len(data)) == data
    await sending
    near.close()
    far.close()


async def test_what_is_held_for_who_does_not_read_counts_and_still_leaves_at_the_end() -> None:
    """The application answers, ends, and reads what the client has sent long before."""
    near, far, over = await joined()
    far.shutdown(socket.SHUT_WR)
    assert await received(near, 1) == b""
    sent, quiet = 0, 0
    while quiet < 50:
        await asyncio.sleep(0)
        try:
            sent += near.send(b"x" * (1 << 16))
            quiet = 0
        except BlockingIOError:
            quiet += 1
    near.close()
    assert BUDGET.held > 0 and not over.is_set()
    assert len(await received(far, sent + 1)) == sent
    await asyncio.wait_for(over.wait(), 5)
    assert BUDGET.held == 0
    far.close()


async def test_first_bytes_that_are_not_taken_whole_are_a_reset() -> None:
    near, inner = pair()
    outer, far = pair()
    over = asyncio.Event()
    far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    Passed(inner, outer, b"x" * (16 << 20), over.set)
    assert over.is_set()
    for sock in (near, far):
        with pytest.raises(ConnectionResetError):
            while await asyncio.get_running_loop().sock_recv(sock, 1 << 20):
                pass
        sock.close()
    assert BUDGET.held == 0


async def test_what_was_given_to_its_end_arrives_although_the_rest_is_ended() -> None:
    near, inner = pair()
    outer, far = pair()
    over = asyncio.Event()
    passed = Passed(inner, outer, b"", over.set)
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(far, b"x" * 200_000)
    far.shutdown(socket.SHUT_WR)
    await until(lambda: passed._pipes[0]._shut)
    passed.cancel()
    assert over.is_set()
    assert len(await received(near, 200_001)) == 200_000
    near.close()
    far.close()


async def test_who_holds_much_that_does_not_move_is_reset() -> None:
    near, inner = pair()
    outer, far = pair()
    over = asyncio.Event()
    passed = Passed(inner, outer, b"", over.set)
    with pytest.raises(BlockingIOError):
        while True:
            near.send(b"x" * (1 << 16))
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    (share,) = BUDGET._shares
    share.give_back()
    assert passed.closed and over.is_set() and BUDGET.held == 0
    with pytest.raises(ConnectionResetError):
        while await asyncio.get_running_loop().sock_recv(far, 1 << 20):
            pass
    near.close()
    far.close()


@pytest.mark.parametrize("which", ["near", "far"])
async def test_a_reset_is_one_at_the_other_end(which: str) -> None:
    near, far, over = await joined()
    one, other = (near, far) if which == "near" else (far, near)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.close()
    with pytest.raises(ConnectionResetError):
        await asyncio.get_running_loop().sock_recv(other, 1)
    await asyncio.wait_for(over.wait(), 5)
    other.close()


async def test_who_does_not_read_is_not_told_again_and_again() -> None:
    near, far = pair()
    pipe, told = Pipe(near), 0
    came = asyncio.Event()

    def tell() -> None:
        nonlocal told
        told += 1
        came.set()

    pipe.attach(tell, lambda: None)
    for data in (b"x", b"y"):
        with pytest.raises(BlockingIOError):
            pipe.read_now()
        came.clear()
        far.send(data)
        await came.wait()
        for _ in range(50):
            await asyncio.sleep(0)
        assert pipe.read_now() == data
    assert told == 2
    pipe.close()
    far.close()
