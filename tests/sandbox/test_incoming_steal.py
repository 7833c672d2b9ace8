"""Ports of a target that are taken, with real sockets: who gets what, who is seen, and what is left."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pymirror.features.network.incoming.ruleset import Place
from pymirror.features.network.incoming.steal import Steal
from tests.sandbox.steal_network import PORT, TARGET, Both, Line, cabled

pytestmark = pytest.mark.sandbox
LOG = logging.getLogger("test")


@pytest.fixture
async def both() -> AsyncIterator[Both]:
    async with cabled() as made:
        yield made


@asynccontextmanager
async def stealing(both: Both, session: str = "one", peer: Any = None) -> AsyncIterator[Steal]:
    steal = Steal(both.target, peer, session, f"{session} of test@here", LOG)
    await steal.start()
    try:
        yield steal
    finally:
        await steal.aclose()


def program(sock: socket.socket, client: Place, address: Place, port: int) -> None:
    """Stands for it: says who came and where to, and closes."""
    sock.sendall(f"program {client.host} {client.port} {address.host} {address.port} {port}\n".encode())
    sock.close()


async def first(line: Line) -> str:
    said = await line.says()
    line.close()
    return said


ways = pytest.mark.parametrize("version", [4, 6])


@ways
async def test_another_pods_connection_is_taken_and_released(both: Both, version: int) -> None:
    host = TARGET[version]
    async with stealing(both) as steal:
        line = await both.client.connect(host)
        assert await line.says() == f"app {line.own}"
        await steal.take(PORT, program)
        taken = await both.client.connect(host)
        assert await first(taken) == f"program {taken.own} {host} {PORT} {PORT}"
        assert await line.asks("still") == "still"
        await steal.release(PORT)
        again = await both.client.connect(host)
        assert await first(again) == f"app {again.own}"
        assert await line.asks("here") == "here"
    assert await both.target.rules() == ""
    line.close()


@ways
@pytest.mark.parametrize("own", [False, True], ids=["loopback", "own address"])
async def test_from_inside_the_pod_and_from_a_proxy_in_it(both: Both, version: int, own: bool) -> None:
    host = TARGET[version] if own else {4: "127.0.0.1", 6: "::1"}[version]
    async with stealing(both) as steal:
        await steal.take(PORT, program)
        line = await both.target.connect(host)
        assert await first(line) == f"program {line.own} {host} {PORT} {PORT}"


@ways
@pytest.mark.parametrize("place", ["pod", "loopback", "own address"])
async def test_what_is_passed_on_comes_from_its_client(both: Both, version: int, place: str) -> None:
    loopback = {4: "127.0.0.1", 6: "::1"}[version]
    host = loopback if place == "loopback" else TARGET[version]
    side = both.client if place == "pod" else both.target
    async with stealing(both) as steal:
        await steal.take(PORT, lambda sock, client, address, port: steal.pass_on(sock, client, address))
        lines = await asyncio.gather(*(side.connect(host) for _ in range(40)))
        assert [await line.says() for line in lines] == [f"app {line.own}" for line in lines]
        assert await lines[0].asks("x" * 50_000) == "x" * 50_000
        lines[0].writer.write_eof()
        assert await lines[0].says() == ""
        for line in lines:
            line.close()
