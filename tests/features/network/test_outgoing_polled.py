"""Connects that wait: for what the target says, and for names of the filter."""

from __future__ import annotations

import asyncio
import errno
import select
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from attrs import evolve
from hand_clock import settle
from verdicts import tcp, verdict_of

from pymirror.core.call import Address, OtherAddress
from pymirror.core.feature import Launch
from pymirror.core.testing import FakeTarget, pair
from pymirror.features.network import sockdiag
from pymirror.features.network.outgoing import messages as m
from pymirror.features.network.outgoing.agent import Agent
from pymirror.features.network.outgoing.borrow import cookie_of
from pymirror.features.network.outgoing.config import Config, Filter
from pymirror.features.network.outgoing.layer import Layer

T = TypeVar("T")

MPTCP_HERE = Path("/proc/sys/net/mptcp/enabled").exists()


class Slow(FakeTarget):
    """A target whose network is entered when the test says so."""

    def __init__(self, folder: Any) -> None:
        super().__init__(folder)
        self.entered = asyncio.Event()

    async def in_network(self, work: Callable[[], T]) -> T:
        await self.entered.wait()
        return await super().in_network(work)


@asynccontextmanager
async def slow(
    tmp_path: Any,
    place: Address,
    family: int = socket.AF_INET,
    protocol: int = 0,
    before: Callable[[Address], object] | None = None,
) -> AsyncIterator[tuple[Slow, Any, socket.socket]]:
    """(the target, both halves, the program's socket, which connects to the place and is not told yet)."""
    with Slow(tmp_path) as target:
        target.entered.set()
        async with pair(Layer, Agent, Config(nonblocking_wait=0.01), target) as both:
            await both.layer.prepare(Launch(["program"], {}, "/nowhere"))
            target.entered.clear()
            both.agent._stock.close()  # of what it has in stock it would connect at once
            with socket.socket(family, proto=protocol) as program:
                program.setblocking(False)
                call = tcp(place.port, blocking=False, socket=cookie_of(program))
                verdict = await verdict_of(both.layer.connect, evolve(call, address=place))
                assert isinstance(verdict, OtherAddress) and isinstance(verdict.relay, Address)
                assert verdict.introduction == b""
                if before is not None:
                    before(verdict.relay)
                mapped = family == socket.AF_INET6 and place.ip.version == 4
                code = program.connect_ex(("::ffff:" * mapped + verdict.relay.host, verdict.relay.port))
                assert code == errno.EINPROGRESS
                await asyncio.sleep(0)  # it has been seen
                yield target, both, program


async def outcome(program: socket.socket) -> int:
    """SO_ERROR, once the program's poll says that its connect has ended."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_writer(program, ended.set)
    try:
        await asyncio.wait_for(ended.wait(), 30)
    finally:
        loop.remove_writer(program)
    return program.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


@pytest.mark.parametrize(
    ("host", "family", "protocol"),
    [
        ("127.0.0.1", socket.AF_INET, 0),
        ("127.0.0.1", socket.AF_INET6, 0),
        ("::1", socket.AF_INET6, 0),
        ("127.0.0.1", socket.AF_INET, sockdiag.MPTCP),
    ],
)
async def test_a_connect_that_is_polled_for_ends_when_the_targets_does(
    tmp_path: Any, host: str, family: int, protocol: int
) -> None:
    if protocol and not MPTCP_HERE:
        pytest.skip("this kernel has no MPTCP")
    loop, version = asyncio.get_running_loop(), socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=version) as server:
        server.setblocking(False)
        place = Address(*server.getsockname()[:2])
        async with slow(tmp_path, place, family, protocol) as (target, _, program):
            assert select.select([], [program], [], 0.1)[1] == []
            target.entered.set()
            with (await loop.sock_accept(server))[0] as theirs:
                theirs.setblocking(False)
                assert await outcome(program) == 0
                await loop.sock_sendall(program, b"there")
                assert await loop.sock_recv(theirs, 100) == b"there"
                theirs.shutdown(socket.SHUT_WR)
                assert await loop.sock_recv(program, 100) == b""


async def test_a_connect_that_is_polled_for_fails_when_the_targets_does(tmp_path: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    async with slow(tmp_path, Address("127.0.0.1", port)) as (target, _, program):
        target.entered.set()
        assert await outcome(program) == errno.ECONNREFUSED


async def test_a_program_that_waits_no_more_is_waited_for_no_more(
    tmp_path: Any, served: socket.socket
) -> None:
    async with slow(tmp_path, Address(*served.getsockname())) as (_, both, program):
        [waits] = both.layer._rooms.waiting
        program.close()
        await asyncio.wait_for(waits, 30)
        assert both.layer._open == 0


@pytest.mark.parametrize("protocol", [0, sockdiag.MPTCP])
async def test_who_connects_before_the_program_is_not_taken_for_it(
    tmp_path: Any, served: socket.socket, protocol: int
) -> None:
    if protocol and not MPTCP_HERE:
        pytest.skip("this kernel has no MPTCP")
    loop = asyncio.get_running_loop()
    with socket.socket() as stranger:
        stranger.setblocking(False)

        def come(room: Address) -> None:
            assert stranger.connect_ex((room.host, room.port)) == errno.EINPROGRESS

        place = Address(*served.getsockname())
        async with slow(tmp_path, place, protocol=protocol, before=come) as (target, _, program):
            target.entered.set()
            with (await loop.sock_accept(served))[0] as theirs:
                theirs.setblocking(False)
                assert await outcome(program) == 0
                await loop.sock_sendall(program, b"there")
                assert await loop.sock_recv(theirs, 100) == b"there"
                with pytest.raises(OSError):
                    stranger.getpeername()


class Silent(FakeTarget):
    """A target whose network is never entered, after the start."""

    silent = False

    async def in_network(self, work: Callable[[], T]) -> T:
        if self.silent:
            await asyncio.Event().wait()
        return await super().in_network(work)


@asynccontextmanager
async def asking(tmp_path: Any, **config: Any) -> AsyncIterator[tuple[Any, asyncio.Event]]:
    """(the layer's half, whose filter has a name; when set, the name has no address). No dial has an answer."""
    with Silent(tmp_path) as target:
        async with pair(Layer, Agent, Config(filter=Filter(local=["slow.test"]), **config), target) as both:
            await both.layer.prepare(Launch(["program"], {}, "/nowhere"))
            both.agent._stock.close()
            target.silent = True
            answered = asyncio.Event()

            async def ask(name: str) -> frozenset[str]:
                await answered.wait()
                return frozenset({"192.0.2.1"})

            both.layer._lookups._lookup.ask = ask
            yield both.layer, answered


async def test_what_a_name_took_is_waited_for_no_second_time(tmp_path: Any) -> None:
    async with asking(tmp_path, nonblocking_wait=0.05) as (layer, answered):
        asked = asyncio.ensure_future(layer.connect(tcp(9, socket=3, blocking=False)))
        await asyncio.sleep(0.1)
        await settle()
        assert asked.done() and isinstance(asked.result(), OtherAddress)
        assert not answered.is_set()


async def test_a_connect_given_up_while_a_name_is_looked_up_is_one_dial(tmp_path: Any) -> None:
    """It waits on, unheard, and so does the question that took its place."""
    async with asking(tmp_path, nonblocking_wait=0.05) as (layer, answered):
        first = asyncio.ensure_future(layer.connect(tcp(9, socket=3)))
        await settle()
        second = await verdict_of(layer.connect, tcp(9, socket=3, blocking=False, again=True))
        answered.set()
        await settle()
        assert isinstance(second, OtherAddress) and not first.done()
        assert layer._open == 1
        [dial] = layer._dials.values()
        layer.dialed(m.Dialed(dial.number, 0, "10.0.0.1", 7))
        assert ((await first).relay, (await first).introduction) == (second.relay, second.introduction)
