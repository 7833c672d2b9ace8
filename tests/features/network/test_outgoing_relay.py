"""Who is let in at the relay, and what the others cost."""

from __future__ import annotations

import asyncio
import errno
import socket
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import pytest

from pymirror.core.limit import timeout
from pymirror.features.network.outgoing import relay as module
from pymirror.features.network.outgoing.flows import Flows
from pymirror.features.network.outgoing.relay import STRANGERS, Relay


class Guest:
    """One that is expected: whether it came, and its end at the relay."""

    def __init__(self, relay: Relay) -> None:
        self._came: asyncio.Future[socket.socket | None] = asyncio.get_running_loop().create_future()
        self.words = relay.expect(self._came.set_result, lambda: self._came.set_result(None))

    async def came(self) -> bool:
        async with timeout(30):
            sock = await self._came
        if sock is not None:
            sock.close()
        return sock is not None


def unix(relay: Relay) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(relay.name(socket.SOCK_STREAM))
    return sock


async def test_a_crowd_of_silent_strangers_keeps_nobody_out(caplog: pytest.LogCaptureFixture) -> None:
    relay = Relay()
    with ExitStack() as open_:
        first = open_.enter_context(unix(relay))
        crowd = [open_.enter_context(unix(relay)) for _ in range(STRANGERS)]
        for _ in range(2):
            guest = Guest(relay)
            open_.enter_context(unix(relay)).sendall(guest.words)
            assert await guest.came()
        assert first.recv(1) == b""
        crowd[0].setblocking(False)  # and of the others nobody was sent away
        with pytest.raises(BlockingIOError):
            crowd[0].recv(1)
        relay.close()
    assert caplog.text.count("not the program's was closed") == 1


async def test_who_is_there_is_taken_before_the_end() -> None:
    relay, flows = Relay(), Flows()
    guest, came = Guest(relay), list[Any]()

    def joined(sock: socket.socket, sender: Any) -> Any:
        came.append(sender)
        sock.close()
        return sock

    where, words = flows.expect(4, joined, lambda: None)
    with unix(relay) as sock, socket.socket(type=socket.SOCK_DGRAM) as program:
        sock.sendall(guest.words)
        program.bind(("127.0.0.1", 0))
        program.sendto(words, (where.host, where.port))
        for each in (relay, flows):  # in the same turn of the loop
            each.settle()
            each.close()
        assert came == [program.getsockname()]
    assert await guest.came()


async def test_a_guest_may_be_slow_to_say_its_words() -> None:
    relay = Relay()
    guest = Guest(relay)
    with unix(relay) as sock:
        for byte in guest.words:
            sock.sendall(bytes([byte]))
            await asyncio.sleep(0)
        assert await guest.came()
    relay.close()


async def test_where_no_descriptor_is_left_it_rests_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[float] = []
    accept, loop = socket.socket.accept, asyncio.get_running_loop()

    def scarce(listener: socket.socket) -> Any:
        tries.append(loop.time())
        if len(tries) < 4:
            raise OSError(errno.EMFILE, "Too many open files")
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", scarce)
    monkeypatch.setattr(module, "REST", 0.05)
    relay = Relay()
    guest = Guest(relay)
    with unix(relay) as sock:
        sock.sendall(guest.words)
        assert await guest.came()
    assert all(after - before >= 0.05 for before, after in pairwise(tries[:4]))
    assert caplog.text.count("a connection to the relay is lost") == 1
    relay.close()


async def test_a_relay_that_rests_can_be_closed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failed = asyncio.Event()

    def scarce(listener: socket.socket) -> Any:
        failed.set()
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket.socket, "accept", scarce)
    monkeypatch.setattr(module, "REST", 0.01)
    relay = Relay()
    with unix(relay):
        await failed.wait()
        relay.settle()  # once more while it rests
        relay.close()
        await asyncio.sleep(0.02)
    assert not [each for each in caplog.records if each.name == "asyncio"]  # nothing was watched anew


@pytest.mark.parametrize("said", [b"x" * 16, b""])
async def test_who_says_something_else_or_leaves_is_closed(said: bytes) -> None:
    relay = Relay()
    guest = Guest(relay)
    with unix(relay) as stranger:
        stranger.sendall(said)
        stranger.shutdown(socket.SHUT_WR)
        stranger.setblocking(False)
        assert await asyncio.get_running_loop().sock_recv(stranger, 1) == b""
    relay.close()
    assert not await guest.came()


async def test_words_are_good_for_one_connection() -> None:
    relay = Relay()
    guest = Guest(relay)
    with unix(relay) as sock, unix(relay) as second:
        sock.sendall(guest.words)
        assert await guest.came()
        second.sendall(guest.words)
        second.setblocking(False)
        assert await asyncio.get_running_loop().sock_recv(second, 1) == b""
    relay.close()
