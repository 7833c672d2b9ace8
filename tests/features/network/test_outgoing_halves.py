"""Both halves of `network.outgoing` without an engine: what is answered, and what is refused at the start."""

from __future__ import annotations

import asyncio
import errno
import logging
import select
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest
from attrs import evolve
from verdicts import tcp, verdict_of

from pymirror.core.call import Address, Call, Errno, OtherAddress, Untouched
from pymirror.core.errors import ConfigError
from pymirror.core.feature import Launch
from pymirror.core.structure import structure
from pymirror.core.testing import FakeTarget, conformance, pair
from pymirror.features.network.names import Names
from pymirror.features.network.outgoing.agent import Agent
from pymirror.features.network.outgoing.config import Config, Filter
from pymirror.features.network.outgoing.layer import Layer
from pymirror.features.network.outgoing.limits import Limit

T = TypeVar("T")


@asynccontextmanager
async def session(tmp_path: Any, config: Config, launch: Launch | None = None) -> AsyncIterator[Any]:
    with FakeTarget(tmp_path) as target:
        async with pair(Layer, Agent, config, target) as both:
            await both.layer.prepare(launch or Launch(["program"], {}, "/nowhere"))
            yield both


async def connected(verdict: Any) -> socket.socket:
    """As the pump does it."""
    assert isinstance(verdict, OtherAddress) and isinstance(verdict.relay, Address), verdict
    sock = socket.create_connection((verdict.relay.host, verdict.relay.port))
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_sendall(sock, verdict.introduction)
    return sock


async def test_a_connection_is_joined_to_its_stream(tmp_path: Any, served: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    async with session(tmp_path, Config()) as both:
        verdict = await verdict_of(both.layer.connect, tcp(served.getsockname()[1]))
        with await connected(verdict) as ours, (await loop.sock_accept(served))[0] as theirs:
            theirs.setblocking(False)
            assert verdict.name == Address(*theirs.getpeername())
            await loop.sock_sendall(ours, b"there")
            assert await loop.sock_recv(theirs, 100) == b"there"
            ours.shutdown(socket.SHUT_WR)
            assert await loop.sock_recv(theirs, 100) == b""
            await loop.sock_sendall(theirs, b"back")
            assert await loop.sock_recv(ours, 100) == b"back"


async def test_an_errno_of_the_target_is_the_verdict(tmp_path: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    async with session(tmp_path, Config()) as both:
        for call in (tcp(port), tcp(port, blocking=False, again=True)):
            assert await verdict_of(both.layer.connect, call) == Errno(
                "outgoing: no filter", code=errno.ECONNREFUSED
            )


def asked(sock: socket.socket) -> tuple[int, int]:
    """(SO_ERROR, what poll says then)."""
    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    return code, poll.poll(0)[0][1]


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)])
async def test_a_refusal_that_is_polled_for_is_the_sockets_to_tell(
    tmp_path: Any, host: str, family: int
) -> None:
    """As the kernel has it: at once, by poll, by SO_ERROR once, and by the next connect."""
    with socket.create_server((host, 0), family=family) as gone:
        place = Address(*gone.getsockname()[:2])
    call = evolve(tcp(place.port, blocking=False), address=place)
    async with session(tmp_path, Config()) as both:
        verdict = await verdict_of(both.layer.connect, call)
        assert isinstance(verdict, OtherAddress) and isinstance(verdict.relay, Address)
        assert (verdict.reason, verdict.introduction) == ("outgoing: no filter; refused", b"")
        assert both.layer._open == 0
        where = (verdict.relay.host, verdict.relay.port)
        with socket.socket(family) as first, socket.socket(family) as second:
            for sock in (first, second):
                sock.setblocking(False)
                assert sock.connect_ex(where) == errno.EINPROGRESS
            polled = select.poll()
            polled.register(first, select.POLLOUT)
            wanted = select.POLLOUT | select.POLLERR | select.POLLHUP
            assert polled.poll(0) == [(first.fileno(), wanted)]
            assert asked(first) == (errno.ECONNREFUSED, select.POLLOUT | select.POLLHUP)
            assert asked(first)[0] == 0
            assert second.connect_ex(where) == errno.ECONNREFUSED
            assert await verdict_of(both.layer.connect, call) == verdict  # the same place again


async def test_an_address_that_fails_is_not_taken_as_reached_any_more(tmp_path: Any) -> None:
    async with session(tmp_path, Config()) as both:
        with socket.create_server(("127.0.0.1", 0)) as server:
            call = tcp(server.getsockname()[1], blocking=False)
            (await connected(await verdict_of(both.layer.connect, call))).close()
        loop = asyncio.get_running_loop()
        with await connected(await verdict_of(both.layer.connect, call)) as early:  # it is told at once
            with pytest.raises(ConnectionResetError):
                await loop.sock_recv(early, 1)
        assert (await verdict_of(both.layer.connect, call)).reason == "outgoing: no filter; refused"


async def test_an_address_that_was_reached_is_answered_at_once(tmp_path: Any, served: socket.socket) -> None:
    """The second verdict comes although the agent has not answered: its port is not known yet."""
    async with session(tmp_path, Config(nonblocking_wait=60.0)) as both:
        first = await verdict_of(both.layer.connect, tcp(served.getsockname()[1], blocking=False))
        second = await verdict_of(both.layer.connect, tcp(served.getsockname()[1], blocking=False))
        assert first.name.port != 0
        assert second.name == Address("127.0.0.1", 0)


async def test_a_connect_that_was_given_up_goes_on_and_may_be_asked_about_again(
    tmp_path: Any, served: socket.socket
) -> None:
    """As the pump does it for a signal: the first answer is heard by nobody, and all are of one connection."""
    port, loop = served.getsockname()[1], asyncio.get_running_loop()
    async with session(tmp_path, Config(max_connections=1)) as both:
        first = asyncio.ensure_future(both.layer.connect(tcp(port, socket=5)))
        second = await verdict_of(both.layer.connect, tcp(port, socket=5, blocking=False, again=True))
        assert second.name is None  # not known yet
        with await connected(second), (await loop.sock_accept(served))[0] as theirs:
            third = await verdict_of(both.layer.connect, tcp(port, socket=5, again=True))
            assert third == await first
            assert (third.relay, third.introduction) == (second.relay, second.introduction)
            assert third.name == Address(*theirs.getpeername())
            with pytest.raises(BlockingIOError):
                served.accept()


async def test_connections_are_bounded_and_that_is_told_once(
    tmp_path: Any, served: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    async with session(tmp_path, Config(max_connections=1)) as both:
        with await connected(await verdict_of(both.layer.connect, tcp(served.getsockname()[1]))):
            for _ in range(2):
                refused = await verdict_of(both.layer.connect, tcp(served.getsockname()[1]))
                assert isinstance(refused, Errno) and refused.code == errno.EADDRNOTAVAIL
                assert "feature.network.outgoing.max_connections" in refused.reason
    assert caplog.text.count("max_connections") == 1


class Poor(FakeTarget):
    """An agent whose descriptors are used up once it has started."""

    _started = False

    async def in_network(self, work: Callable[[], T]) -> T:
        if self._started:
            raise OSError(errno.EMFILE, "none left")
        self._started = True
        return work()


async def test_an_agent_without_descriptors_says_whose_limit_it_is(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with Poor(tmp_path) as target:
        async with pair(Layer, Agent, Config(), target) as both:
            await both.layer.prepare(Launch(["program"], {}, "/nowhere"))
            call = Call("connect", transport="udp", address=Address("127.0.0.1", 9))  # of TCP it has some
            refused = await verdict_of(both.layer.connect, call)
    assert isinstance(refused, Errno) and refused.code == errno.EADDRNOTAVAIL
    assert (
        "the agent has as many connections as it may (max_connections, its own `ulimit -Hn`)" in caplog.text
    )


@pytest.mark.parametrize(
    ("descriptors", "most", "words"),
    [
        (10_000, 4096, "as many as feature.network.outgoing.max_connections allows"),
        (-1, 4096, "as many as feature.network.outgoing.max_connections allows"),
        (1024, 512, "512 connections are open, as many as `ulimit -Hn` allows here"),
    ],
)
def test_the_limit_is_what_there_are_descriptors_for(descriptors: int, most: int, words: str) -> None:
    limit = Limit(4096, logging.getLogger("pymirror.network.outgoing"))
    limit.fit(descriptors)
    assert limit.most == most and words in limit.refused()


def test_more_than_a_session_carries_is_no_limit() -> None:
    with pytest.raises(ConfigError, match=r"outgoing\.max_connections: must not be above 8000, got 9000"):
        structure(Config, {"max_connections": 9000}, "outgoing")


async def test_a_name_the_resolver_gave_out_decides(tmp_path: Any) -> None:
    launch = Launch(["program"], {}, "/nowhere")
    launch.shared(Names).learned("db.shop", ["127.0.0.1"])
    async with session(tmp_path, Config(filter=Filter(local=["db.shop"])), launch) as both:
        assert await verdict_of(both.layer.connect, tcp(9)) == Untouched("outgoing.filter local 'db.shop'")


@pytest.mark.parametrize(
    ("name", "host", "known", "where"),
    [
        ("localhost", "10.9.9.9", False, "127.0.0.1"),  # what this machine's files say
        ("localhost", "10.9.9.9", True, None),
        ("no-such-name.invalid", "10.9.9.9", False, None),
        ("localhost", "127.0.0.9", False, None),
    ],
)
async def test_what_stays_here_goes_to_what_its_name_is_here(
    tmp_path: Any, name: str, host: str, known: bool, where: str | None
) -> None:
    launch = Launch(["program"], {}, "/nowhere")
    launch.shared(Names).answered(name, [host], here=known)
    async with session(tmp_path, Config(filter=Filter(local=[":9"])), launch) as both:
        call = Call("connect", transport="tcp", address=Address(host, 9))
        found = await verdict_of(both.layer.connect, call)
        if where is None:
            assert found == Untouched("outgoing.filter local ':9'")
        else:
            reason = f"outgoing.filter local ':9'; {name} is {where} here"
            assert found == OtherAddress(reason, relay=Address(where, 9), here=True)


async def test_a_name_that_does_not_resolve_breaks_nothing_and_is_told_once(
    tmp_path: Any, served: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    port = served.getsockname()[1]
    entries = ["no-such-name.invalid", f"127.0.0.1:{port}"]
    async with session(tmp_path, Config(filter=Filter(remote=entries))) as both:
        for _ in range(2):
            found = await verdict_of(both.layer.connect, tcp(9))
            why = "no entry matches (no-such-name.invalid: no address is known)"
            assert found == Untouched(f"outgoing.filter remote: {why}")
            with await connected(await verdict_of(both.layer.connect, tcp(port))):
                pass
    assert caplog.text.count("no-such-name.invalid, of outgoing.filter, does not resolve") == 1


class Closed(FakeTarget):
    """A target whose network may not be entered."""

    async def in_network(self, work: Callable[[], T]) -> T:
        raise PermissionError(errno.EPERM, "the agent lacks SYS_ADMIN")


async def test_an_agent_without_the_right_says_so_before_the_program_starts(tmp_path: Any) -> None:
    with Closed(tmp_path) as target, pytest.raises(PermissionError, match="the agent lacks SYS_ADMIN"):
        async with pair(Layer, Agent, Config(), target):
            pass


async def test_it_keeps_the_rules_of_a_feature() -> None:
    await conformance(Layer, Agent, Config())
