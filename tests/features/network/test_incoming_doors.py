"""Clients of the target at real listeners of this machine: who is told, what is carried, and who is reset."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any, ClassVar

import pytest
from incoming_agent import CLIENT, LIMIT, SPOKEN, accepted, listen, listening, place, session, until
from verdicts import verdict_of

from pymirror.core.call import Address
from pymirror.core.errors import PeerError
from pymirror.core.feature import Stream
from pymirror.core.limit import timeout
from pymirror.core.testing import FakeGuests
from pymirror.features.network.incoming import doors as module
from pymirror.features.network.incoming import messages as m
from pymirror.features.network.incoming.config import Config
from pymirror.features.network.incoming.doors import PER_TURN, Doors

STEAL = Config(mode="steal")


async def read(stream: Stream, size: int) -> bytes:
    data = b""
    async with timeout(LIMIT):
        while len(data) < size and (more := await stream.read()):
            data += more
    return data


async def is_reset(stream: Stream) -> bool:
    try:
        return await read(stream, 1) != b""
    except (PeerError, OSError):
        return True


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::"])
async def test_a_client_reaches_the_listener_as_a_guest(tmp_path: Any, host: str) -> None:
    loop = asyncio.get_running_loop()
    async with session(tmp_path, STEAL) as it:
        with listening(host) as server:
            await verdict_of(it.layer.listen, listen(server, 80))
            stream = it.agent.arrive(80)
            with await accepted(server) as sock:
                door = Address(*sock.getpeername()[:2])
                assert it.guests.known == {door: (CLIENT, SPOKEN)}
                await stream.write(b"ask")
                assert await loop.sock_recv(sock, 100) == b"ask"
                await stream.close_write()
                assert await loop.sock_recv(sock, 100) == b""
                await loop.sock_sendall(sock, b"answer")
            assert await read(stream, 100) == b"answer"
            await until(lambda: not it.guests.known)


async def test_what_listens_on_an_address_of_its_own_is_reached_there(tmp_path: Any) -> None:
    async with session(tmp_path, STEAL) as it:
        with listening("127.0.7.7") as server:
            await verdict_of(it.layer.listen, listen(server, 80))
            it.agent.arrive(80)
            with await accepted(server) as sock:
                assert sock.getsockname()[0] == "127.0.7.7"


async def test_a_reset_of_either_is_the_others(tmp_path: Any) -> None:
    loop = asyncio.get_running_loop()
    async with session(tmp_path, STEAL) as it:
        with listening() as server:
            await verdict_of(it.layer.listen, listen(server, 80))
            first = it.agent.arrive(80)
            with await accepted(server) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            assert await is_reset(first)
            second = it.agent.arrive(80)
            with await accepted(server) as sock:
                second.close()
                with pytest.raises(ConnectionResetError):
                    await loop.sock_recv(sock, 1)


async def test_many_at_once_are_served_in_several_turns(tmp_path: Any) -> None:
    """So that what the program says to some leaves before all are."""
    async with session(tmp_path, STEAL) as it:
        with listening() as server:
            await verdict_of(it.layer.listen, listen(server, 80))
            before, grown = 0, list[int]()

            def look() -> None:
                nonlocal before
                now = len(it.guests.known)
                grown.append(now - before)
                before = now
                if now < 30:
                    loop.call_soon(look)

            loop = asyncio.get_running_loop()
            loop.call_soon(look)
            streams = [it.agent.arrive(80) for _ in range(30)]
            for _ in streams:
                (await accepted(server)).close()
            assert sum(grown) == 30 and max(grown) <= 2 * PER_TURN


async def test_a_door_that_fails_fails_alone(tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with session(tmp_path, STEAL) as it:
        with listening() as server:
            await verdict_of(it.layer.listen, listen(server, 80))
            doors: Any = it.layer._doors
            deliver = doors._deliver

            def fails_once(*given: Any) -> Any:
                doors._deliver = deliver
                raise ValueError("a file that is gone")

            doors._deliver = fails_once
            streams = [it.agent.arrive(80) for _ in range(6)]
            socks = [await accepted(server) for _ in range(6)]
            assert await is_reset(streams[0])
            for stream in streams[1:]:
                await stream.write(b"x")
            loop = asyncio.get_running_loop()
            heard = []
            for sock in socks:
                with sock, suppress(ConnectionResetError):
                    heard.append(await loop.sock_recv(sock, 9))
            assert heard.count(b"x") == 5
            assert "a connection to port 80 is reset" in caplog.text


async def test_answers_to_a_copy_stay_here(tmp_path: Any) -> None:
    loop = asyncio.get_running_loop()
    async with session(tmp_path, Config()) as it:
        with listening() as server:
            await verdict_of(it.layer.listen, listen(server, 80))
            stream = it.agent.arrive(80)
            with await accepted(server) as sock:
                await loop.sock_sendall(sock, b"answer" * 100_000)
                await stream.write(b"more")
                assert await loop.sock_recv(sock, 100) == b"more"
            assert await read(stream, 1) == b""


async def test_answers_to_a_copy_are_carried_where_they_are_asked_for(tmp_path: Any) -> None:
    async with session(tmp_path, Config()) as it:
        with listening() as server:
            await verdict_of(it.layer.listen, listen(server, 80))
            stream = it.agent.peer.stream_now(m.Arrived(80, "10.1.2.3", 4, "10.9.9.9", 80, True))
            with await accepted(server) as sock:
                await asyncio.get_running_loop().sock_sendall(sock, b"answer")
                assert await read(stream, 6) == b"answer"


async def test_a_listener_that_comes_late_is_knocked_at_again(tmp_path: Any) -> None:
    """As the engine does it: `listen` is asked about, and answered, before it is made."""
    async with session(tmp_path, STEAL) as it:
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            await verdict_of(it.layer.listen, listen(server, 80))
            stream = it.agent.arrive(80)
            await stream.write(b"early")
            await until(lambda: it.layer._doors and any(each.knocks for each in it.layer._doors._open))
            assert not it.guests.known
            server.listen()
            server.setblocking(False)
            with await accepted(server) as sock:
                assert await asyncio.get_running_loop().sock_recv(sock, 100) == b"early"


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, "WITHIN", 0.3)
    yield


async def test_a_client_of_nobody_is_reset_and_that_is_told_once(
    tmp_path: Any, brief: None, caplog: pytest.LogCaptureFixture
) -> None:
    async with session(tmp_path, STEAL) as it:
        with listening() as server:
            await verdict_of(it.layer.listen, listen(server, 80))
        for _ in range(2):
            assert await is_reset(it.agent.arrive(80))
        assert not it.guests.known and not it.layer._doors._open  # type: ignore[union-attr]
    assert caplog.text.count("nothing of the program accepted a connection to port 80") == 1


async def test_a_full_backlog_is_knocked_at_again(tmp_path: Any) -> None:
    async with session(tmp_path, STEAL) as it:
        with listening(backlog=0) as server, ExitStack() as stack:
            await verdict_of(it.layer.listen, listen(server, 80))
            for _ in range(3):
                sock = stack.enter_context(socket.socket())
                sock.setblocking(False)
                sock.connect_ex(server.getsockname())
            stream = it.agent.arrive(80)
            await stream.write(b"in the end")
            await until(lambda: it.layer._doors and any(each.knocks > 1 for each in it.layer._doors._open))
            while (sock := await accepted(server)) and not (
                it.guests.known and Address(*sock.getpeername()) in it.guests.known
            ):
                sock.close()
            with sock:
                assert await asyncio.get_running_loop().sock_recv(sock, 100) == b"in the end"


async def test_a_client_that_went_while_it_waited_is_not_connected(tmp_path: Any) -> None:
    async with session(tmp_path, STEAL) as it:
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            await verdict_of(it.layer.listen, listen(server, 80))
            it.agent.arrive(80).close()
            await until(lambda: it.layer._doors and not it.layer._doors._open)
            server.listen()
            server.setblocking(False)
            with pytest.raises(BlockingIOError):
                server.accept()


async def test_the_latest_listener_is_the_one_and_an_earlier_one_takes_over(tmp_path: Any) -> None:
    async with session(tmp_path, STEAL) as it:
        with listening() as first:
            await verdict_of(it.layer.listen, listen(first, 80))
            with listening() as second:
                await verdict_of(it.layer.listen, listen(second, 80))
                it.agent.arrive(80)
                (await accepted(second)).close()
            it.agent.arrive(80)
            (await accepted(first)).close()


async def test_a_client_is_at_the_listener_of_its_ip_version(tmp_path: Any) -> None:
    async with session(tmp_path, STEAL) as it:
        with listening("::1") as six, listening() as four:
            for server in (six, four):
                await verdict_of(it.layer.listen, listen(server, 80))
            it.agent.arrive(80, Address("fd00::1", 4), Address("fd00::2", 80))
            (await accepted(six)).close()
            it.agent.arrive(80)
            (await accepted(four)).close()


async def test_connections_are_bounded_and_that_is_told_once(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with session(tmp_path, Config(mode="steal", max_connections=1)) as it:
        with listening() as server:
            await verdict_of(it.layer.listen, listen(server, 80))
            kept = it.agent.arrive(80)
            with await accepted(server):
                for _ in range(2):
                    assert await is_reset(it.agent.arrive(80))
            assert await read(kept, 1) == b""
            await kept.close_write()
            await until(lambda: it.layer._doors and not it.layer._doors._open)
            it.agent.arrive(80)
            (await accepted(server)).close()
    assert caplog.text.count("1 connections to the program are open") == 1


async def test_the_programs_last_words_reach_its_clients(tmp_path: Any) -> None:
    loop = asyncio.get_running_loop()
    async with session(tmp_path, STEAL) as it:
        with listening() as server:
            await verdict_of(it.layer.listen, listen(server, 80))
            stream = it.agent.arrive(80)
            await stream.close_write()
            with await accepted(server) as sock:
                await loop.sock_sendall(sock, b"last" * 10_000)
        closing = asyncio.ensure_future(it.layer.aclose())
        assert await read(stream, 40_000) == b"last" * 10_000
        assert await read(stream, 1) == b""
        await closing


async def test_a_client_that_is_slow_gets_all_the_program_sent(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In longer than those have who have all but their end."""
    monkeypatch.setattr(module, "AT_ONCE", 0.1)
    sent = got = 0
    async with session(tmp_path, STEAL) as it:
        with listening() as server:
            await verdict_of(it.layer.listen, listen(server, 80))
            stream = it.agent.arrive(80)
            await stream.close_write()
            with await accepted(server) as sock:
                (door,) = it.layer._doors._open  # type: ignore[union-attr]
                while door.joined is None or not door.joined.stalls:
                    with suppress(BlockingIOError):  # its buffer may be full before the door has looked
                        sent += sock.send(bytes(65536))
                    await asyncio.sleep(0)
        closing = asyncio.ensure_future(it.layer.aclose())
        await until(lambda: "clients are slow to take what the program sent" in caplog.text)
        while more := await stream.read():
            got += len(more)
        await closing
    assert got == sent > 0


async def test_the_end_of_a_session_ends_its_doors(tmp_path: Any) -> None:
    async with session(tmp_path, STEAL) as it:
        with listening() as server:
            await verdict_of(it.layer.listen, listen(server, 80))
            stream = it.agent.arrive(80)
            with await accepted(server) as sock:
                await it.layer.aclose()
                assert not it.guests.known
                with pytest.raises(ConnectionResetError):
                    await asyncio.get_running_loop().sock_recv(sock, 1)
            assert await is_reset(stream)
            assert await is_reset(it.agent.arrive(80))


class Busy(socket.socket):
    """Of a machine whose first address of loopback has no port left, and then gives one that a door has."""

    asked: ClassVar[list[str]] = []
    taken = 0

    def bind(self, address: Any) -> None:
        self.asked.append(address[0])
        if address[0] == "127.0.0.1":
            raise OSError(errno.EADDRINUSE, "in use")
        super().bind((address[0], self.taken if len(self.asked) == 2 else 0))


async def test_a_door_comes_from_another_address_where_one_has_no_port_left(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening() as server, listening() as other:
        made = Doors(FakeGuests(), lambda _: [], lambda: None, 9, True, logging.getLogger("doors"))
        Busy.taken = place(other).port
        made._ports.add((4, Busy.taken))
        monkeypatch.setattr(module.socket, "socket", Busy)
        door = module._Door(None, None, 0.0)  # type: ignore[arg-type]
        with made._bound(door, "127.0.0.1") as sock:
            assert Busy.asked == ["127.0.0.1", "127.0.0.2", "127.0.0.2"]
            assert sock.getsockname()[0] == "127.0.0.2" and sock.getsockname()[1] != Busy.taken
            with suppress(BlockingIOError):
                sock.connect(server.getsockname())
