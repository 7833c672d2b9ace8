"""A socket joined to a stream: ends, resets, back-pressure and borders, and the connect before it."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
from attrs import define, field, frozen
from incoming_agent import until

from pymirror.core import _batch as batch
from pymirror.core import link
from pymirror.core.feature import Stream, handles
from pymirror.core.message import message
from pymirror.core.testing import MemoryLink
from pymirror.core.windows import FIRST
from pymirror.features.network.carry import LARGEST, SIZE, Join, join
from pymirror.features.network.outgoing.dialing import Dialing
from pymirror.features.network.outgoing.messages import Dial
from pymirror.features.network.outgoing.stock import KEPT, Stock

T = TypeVar("T")


@message("test-carry")
class Open:
    pass


@define
class Half:
    stream: asyncio.Future[Stream] = field(factory=lambda: asyncio.get_running_loop().create_future())

    @handles(Open)
    def open(self, _: Open, stream: Stream) -> None:
        self.stream.set_result(stream)


def tcp() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    for sock in (ours, theirs):
        sock.setblocking(False)
    return ours, theirs


def packets() -> tuple[socket.socket, socket.socket]:
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for sock in pair:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LARGEST)
    return pair


@frozen
class Joined:
    """far: the other end of the stream."""

    program: socket.socket
    join: Join
    ended: asyncio.Event
    far: Any


@asynccontextmanager
async def joined(made: tuple[socket.socket, socket.socket]) -> AsyncIterator[Joined]:
    near, far = MemoryLink.pair()
    half, ended = Half(), asyncio.Event()
    far.serve("test-carry", half)
    stream = near.peer("test-carry").stream_now(Open())
    one = join(made[1], stream, ended.set)
    with made[0] as program:
        yield Joined(program, one, ended, await half.stream)
    one.cancel()
    await near.aclose()
    await far.aclose()


async def test_ends_are_ends_both_ways() -> None:
    loop = asyncio.get_running_loop()
    async with joined(tcp()) as both:
        await loop.sock_sendall(both.program, b"there")
        both.program.shutdown(socket.SHUT_WR)
        assert (await both.far.read(), await both.far.read()) == (b"there", b"")
        assert both.join.taken.is_set() and not both.join.given.is_set()
        await both.far.write(b"back")
        await both.far.close_write()
        assert (await loop.sock_recv(both.program, 10), await loop.sock_recv(both.program, 10)) == (
            b"back",
            b"",
        )
        await both.ended.wait()
        assert both.join.closed and both.join.given.is_set()


@pytest.mark.parametrize("much", [b"", bytes(FIRST)], ids=["idle", "full"])
async def test_a_reset_of_the_stream_resets_the_socket(much: bytes) -> None:
    """Also while the socket takes no more: nobody waits for a program that does not read."""
    made = tcp()
    made[1].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    async with joined(made) as both:
        await both.far.write(much)
        await asyncio.sleep(0)
        await both.far.aclose()
        await both.ended.wait()
        with pytest.raises(ConnectionResetError):
            while both.program.recv(1 << 20):
                pass


LINGER = struct.pack("ii", 0, 0)


async def test_what_was_sent_to_its_end_arrives_though_the_socket_is_closed_as_by_a_kill() -> None:
    """The kernel then does with it what SO_LINGER says, and has both it and the end still to send."""
    async with joined(tcp()) as both:
        sock = both.join._sock
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) != LINGER
        await both.far.write(b"all")
        await both.far.close_write()
        await both.join.given.wait()
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == LINGER
        await both.far.aclose()  # and the other direction is cut off
        await both.ended.wait()
        assert (both.program.recv(10), both.program.recv(10)) == (b"all", b"")
        with pytest.raises(ConnectionError):
            for _ in range(2):
                both.program.send(b"more")


async def test_a_reset_after_an_end_ends_the_other_direction() -> None:
    """An early answer to an upload, and its end: who still sends is told."""
    async with joined(tcp()) as both:
        await both.far.write(b"413")
        await both.far.close_write()
        await both.join.given.wait()
        await both.far.aclose()
        await both.ended.wait()
        assert both.program.recv(10) == b"413"
        with pytest.raises(ConnectionError):
            for _ in range(2):
                both.program.send(b"more")


@pytest.mark.parametrize("ended", [False, True])
async def test_a_reset_while_the_stream_has_no_room_ends_it(ended: bool) -> None:
    async with joined(tcp()) as both:
        if ended:
            await both.far.close_write()
        with suppress(BlockingIOError):
            while True:
                for _ in range(50):  # until neither the stream nor the kernel takes more
                    await asyncio.sleep(0)
                both.program.send(bytes(1 << 20))
        both.program.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        both.program.close()
        await both.ended.wait()
        with pytest.raises(ConnectionResetError):
            while await both.far.read(1 << 20):
                pass


async def test_both_ends_while_the_stream_has_no_room_lose_nothing() -> None:
    async with joined(tcp()) as both:
        await both.far.close_write()
        sent = 0
        with suppress(BlockingIOError):
            while True:
                for _ in range(50):
                    await asyncio.sleep(0)
                sent += both.program.send(bytes(1 << 20))
        both.program.close()
        got = 0
        while data := await both.far.read(1 << 20):
            got += len(data)
        assert got == sent
        await both.ended.wait()


async def test_a_reset_of_the_socket_resets_the_stream() -> None:
    async with joined(tcp()) as both:
        both.program.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        both.program.close()
        with pytest.raises(ConnectionResetError):
            await both.far.read()
        assert both.ended.is_set()


async def test_what_a_socket_takes_in_parts_arrives_whole() -> None:
    made, loop = tcp(), asyncio.get_running_loop()
    made[1].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2304)  # the least there is
    made[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    async with joined(made) as both:
        data = bytes(range(256)) * (FIRST // 256)
        await both.far.write(data)
        await both.far.close_write()
        got = b""
        while more := await loop.sock_recv(both.program, 1000):
            got += more
        assert got == data


async def test_what_a_socket_takes_while_its_rest_is_told_stays_in_order(monkeypatch: Any) -> None:
    """A program reads on another processor: its socket is full when a message comes, not when the rest of a
    frame is told, and full again before all of the message is."""
    got = bytearray()
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)

    def read() -> None:
        with suppress(BlockingIOError):
            while data := ours.recv(1 << 16):
                got.extend(data)

    def give(*args: Any) -> Any:
        done = batch.give(*args)
        read()
        return done

    monkeypatch.setattr(link, "batch", SimpleNamespace(give=give))
    asyncio.get_running_loop().add_reader(ours, read)
    async with joined((ours, theirs)) as there:
        sent = b""
        for at in range(60):
            pieces = [b"%8d" % (10 * at + one) * 400 for one in range(1 + at % 4)]
            for piece in pieces:
                await there.far.write(piece)
            sent += b"".join(pieces)
            for _ in range(at % 3):
                await asyncio.sleep(0)
        await until(lambda: len(got) >= len(sent))
        asyncio.get_running_loop().remove_reader(ours)
        assert got == sent


async def test_empty_packets_are_packets_and_no_end() -> None:
    loop = asyncio.get_running_loop()
    async with joined(packets()) as both:
        for packet in (b"", b"one", b""):
            both.program.send(packet)
        got = b""
        while len(got) < 3 * SIZE.size + 3:
            got += await both.far.read()
        assert got == SIZE.pack(0) + SIZE.pack(3) + b"one" + SIZE.pack(0)
        await both.far.write(got)
        both.program.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        for packet in (b"", b"one", b""):
            while True:
                try:
                    data, sender, _, _ = both.program.recvmsg(10, 100)
                    break
                except BlockingIOError:
                    await asyncio.sleep(0)
            assert data == packet and sender
        both.program.shutdown(socket.SHUT_WR)
        assert await both.far.read() == b""
        await both.far.close_write()
        assert await loop.sock_recv(both.program, 10) == b""


async def test_descriptors_in_a_packet_end_here() -> None:
    read, write = os.pipe()
    async with joined(packets()) as both:
        socket.send_fds(both.program, [b"x"], [write])
        os.close(write)
        assert await both.far.read() == SIZE.pack(1) + b"x"
        assert os.read(read, 1) == b""  # nobody has the other end
        os.close(read)


async def test_a_socket_is_not_read_while_its_stream_has_no_room() -> None:
    made = tcp()
    async with joined(made) as both:
        sent = 0
        for _ in range(10000):  # the kernel's buffers grow to some MiB; then it stands still
            try:
                sent += both.program.send(bytes(1 << 20))
            except BlockingIOError:
                await asyncio.sleep(0)
        assert sum(map(len, both.far._received)) <= FIRST
        got = 0
        while got < sent:
            got += len(await both.far.read(1 << 20))
            await asyncio.sleep(0)
        assert got == sent


async def test_packets_keep_their_borders() -> None:
    loop, sizes = asyncio.get_running_loop(), (1, 70000, 1, 600_000, 3)
    async with joined(packets()) as both:
        for size in sizes:
            await loop.sock_sendall(both.program, bytes(size))
        data = b""
        while len(data) < sum(sizes) + len(sizes) * SIZE.size:
            data += await both.far.read()
        await both.far.write(data[:70001])
        for at in range(70001, len(data), 70000):
            await both.far.write(data[at : at + 70000])
        assert tuple([len(await loop.sock_recv(both.program, LARGEST)) for _ in sizes]) == sizes
        await both.far.write(SIZE.pack(LARGEST + 1))
        await both.ended.wait()


async def test_a_cancelled_join_resets_unless_all_was_given() -> None:
    for given in (False, True):
        async with joined(tcp()) as both:
            if given:
                await both.far.close_write()
                await both.join.given.wait()
            both.join.cancel()
            both.join.cancel()
            assert both.ended.is_set()
            if given:
                assert both.program.recv(10) == b""
            else:
                with pytest.raises(ConnectionResetError):
                    both.program.recv(10)


def dialing(path: bytes, done: Callable[[socket.socket, int], None]) -> Dialing:
    return Dialing(Dial(1, "unix", path=path), -1, 0, done)


async def test_a_unix_socket_whose_queue_is_full_is_waited_for() -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("")
        server.listen(0)
        name, results = server.getsockname(), asyncio.Queue[tuple[socket.socket, int]]()
        for _ in range(2):
            dialing(name, lambda sock, code: results.put_nowait((sock, code))).begin(
                socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK), None
            )
        first, code = results.get_nowait()
        assert code == 0 and results.empty()
        server.accept()[0].close()
        second, code = await results.get()
        assert code == 0 and second.getpeername() == name
        first.close()
        second.close()


async def test_a_cancelled_connect_closes_its_socket_and_says_nothing() -> None:
    said: list[int] = []
    one = Dialing(Dial(1, "tcp", "192.0.2.1", 9), -1, 0.01, lambda sock, code: said.append(code))
    one.cancel()
    sock = socket.socket()
    one.begin(sock, ("192.0.2.1", 9))
    assert sock.fileno() < 0 and not said and one.given.is_set()


async def at_once(work: Callable[[], T]) -> T:
    return work()


async def test_sockets_are_there_before_they_are_needed() -> None:
    stock, kind = Stock(at_once), (socket.AF_INET, socket.SOCK_STREAM)
    assert stock.take(kind) is None  # the first is being made
    with await stock.make(kind) as sock:
        assert sock.getblocking() is False and sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    taken = []
    while len(taken) < 2 * KEPT:
        await asyncio.sleep(0)
        taken += [sock for sock in [stock.take(kind)] if sock is not None]
    assert len(set(taken)) == 2 * KEPT
    before = len(os.listdir("/proc/self/fd"))
    stock.close()
    await asyncio.sleep(0)
    assert before - len(os.listdir("/proc/self/fd")) >= KEPT // 2
    for sock in taken:
        sock.close()


async def test_a_target_without_ipv6_has_no_way_there() -> None:
    async def refused(work: Callable[[], T]) -> T:
        raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))

    stock, kind = Stock(refused), (socket.AF_INET6, socket.SOCK_STREAM)
    assert stock.take(kind) is None
    with pytest.raises(OSError, match=os.strerror(errno.ENETUNREACH)):
        await stock.make(kind)
    await asyncio.sleep(0)
    stock.close()
