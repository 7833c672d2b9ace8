"""The half of `pymirror dump`, with an agent that takes ports in words: what is counted, and who waits."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from attrs import define, evolve, field
from incoming_agent import CLIENT, Agent, until

from pymirror.core.dumping import Dumping, Order
from pymirror.core.errors import UserError
from pymirror.core.feature import Launch
from pymirror.core.testing import FakeTarget, conformance, pair
from pymirror.features.network.incoming import bpf, dump
from pymirror.features.network.incoming import messages as m
from pymirror.features.network.incoming.config import Config
from pymirror.features.network.incoming.dump import Dump
from pymirror.features.network.incoming.http_filter import HttpFilter
from pymirror.features.network.incoming.layer import Layer


@define(eq=False)
class Page:
    """Output that is full when the test says so."""

    said: bytes = b""
    full: bool = False
    freed: Callable[[], object] = lambda: None

    def write(self, data: bytes) -> None:
        self.said += data


@define
class It:
    layer: Any
    agent: Agent
    launch: Launch
    page: Page = field(factory=Page)
    enough: int = 0

    def words(self) -> str:
        return self.launch.shared(Dumping).words()

    def more(self) -> None:
        self.enough += 1


@asynccontextmanager
async def dumping(
    tmp_path: Any, order: Order, answer: m.Subscribed | None = None, **keys: Any
) -> AsyncIterator[It]:
    launch, config = Launch([], {}, ""), Config(ports=list(order.ports), **keys)
    with FakeTarget(tmp_path) as target:
        async with pair(Dump, Agent, config, target) as both:
            it = It(both.layer, both.agent, launch)
            asked = launch.shared(Dumping)
            asked.order, asked.out, asked.enough = order, it.page, it.more
            both.agent.answer = answer or m.Subscribed()
            await both.layer.prepare(launch)
            yield it


TEXT, HTTP = Order((80,)), Order((80,), "http", 2)


async def test_it_conforms() -> None:
    await conformance(Dump, Agent)


async def test_the_ports_are_asked_for_and_notes_are_told(tmp_path: Any) -> None:
    async with dumping(tmp_path, Order((80, 81)), m.Subscribed(note="nobody there")) as it:
        assert it.agent.said == ["subscribe 80", "subscribe 81"]
        assert it.launch.notes == [
            *(f"port {port} of the target: nobody there" for port in (80, 81)),
            "mirror of ports 80, 81",
        ]


async def test_a_port_that_may_not_be_had_ends_it(tmp_path: Any) -> None:
    with pytest.raises(UserError, match="port 80 of the target: the right NET_RAW is missing"):
        async with dumping(tmp_path, TEXT, m.Subscribed(errno.EPERM, "the right NET_RAW is missing")):
            pass


async def test_connections_are_printed_and_counted(tmp_path: Any) -> None:
    async with dumping(tmp_path, evolve(TEXT, most=2)) as it:
        one, other = it.agent.arrive(80), it.agent.arrive(80)
        await one.write(b"hello\n")
        await one.close_write()
        await until(lambda: b"connection 1: ended" in it.page.said)
        assert it.enough == 0
        await other.aclose()
        await until(lambda: it.enough)
        lines = it.page.said.decode().splitlines()
        assert f"--- connection 1: {CLIENT.host}:{CLIENT.port} to 10.9.9.9:80" in lines and "hello" in lines
        assert lines[-1] == "--- connection 2: broke off"
        assert it.words() == "2 connections, 6 bytes"


async def test_a_client_by_ipv6_is_in_brackets(tmp_path: Any) -> None:
    async with dumping(tmp_path, TEXT) as it:
        it.agent.peer.stream_now(m.Arrived(80, "fd00::5", 4000, "fd00::7", 80))
        await until(lambda: it.page.said)
        assert it.page.said == b"--- connection 1: [fd00::5]:4000 to [fd00::7]:80\n"


async def test_requests_are_counted_where_they_are_printed(tmp_path: Any) -> None:
    async with dumping(tmp_path, HTTP) as it:
        line = it.agent.arrive(80)
        await line.write(b"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n")
        await until(lambda: it.enough)
        assert [json.loads(each)["path"] for each in it.page.said.splitlines()] == ["/1", "/2"]
        assert it.words() == "1 connections, 2 requests, 38 bytes"


@pytest.mark.parametrize("form", ["http", "text"])
async def test_no_more_is_printed_than_was_asked_for(tmp_path: Any, form: str) -> None:
    """Of what came at once, and of what comes after."""
    async with dumping(tmp_path, Order((80,), form, 1)) as it:
        line, other = it.agent.arrive(80), it.agent.arrive(80)
        await line.write(b"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n")
        await line.close_write()
        await until(lambda: it.enough)
        said = it.page.said
        await other.write(b"GET /3 HTTP/1.1\r\n\r\n")
        late = it.agent.arrive(80)
        await until(lambda: late.broken is not None)
        assert it.page.said == said and it.enough == 1
        assert b"/1" in said and (b"/2" in said) == (form == "text") and b"/3" not in said


async def test_what_is_no_http_is_told_once(tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with dumping(tmp_path, HTTP) as it:
        for _ in range(2):
            await it.agent.arrive(80).write(b"\x16\x03\x01....")
        await until(lambda: "2 of them without HTTP" in it.words())
        assert [each.getMessage() for each in caplog.records] == [
            "connection 1 speaks no HTTP that is known: --format text shows it"
        ]
        assert it.page.said == b""


async def test_who_is_full_is_read_no_more_until_there_is_room(tmp_path: Any) -> None:
    """What is not read stays with the agent, which has its own bounds."""
    async with dumping(tmp_path, TEXT) as it:
        line = it.agent.arrive(80)
        await line.write(b"first\n")
        await until(lambda: b"first" in it.page.said)
        it.page.full = True
        await line.write(b"second\n")
        await asyncio.sleep(0.05)
        assert b"second" not in it.page.said
        it.page.full = False
        it.page.freed()
        await until(lambda: b"second" in it.page.said)


async def test_what_was_missed_is_said_at_the_end(tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with dumping(tmp_path, TEXT, max_connections=1) as it:
        for count in (2, 3):
            it.agent.peer.send(m.Missed(80, count, "too slow"))
        it.agent.arrive(80)
        await until(lambda: it.page.said)
        refused = it.agent.arrive(80)
        await until(lambda: refused.broken is not None)
        found = it.words().split("; ")
        assert found == [
            "1 connections, 0 bytes",
            "5 copies ended early: too slow",
            f"1 copies ended early: {dump.CROWDED}",
        ]
        assert [each.getMessage() for each in caplog.records] == [
            "copies end before their connections: too slow",
            f"copies end before their connections: {dump.CROWDED}",
        ]


async def test_packets_that_were_dropped_are_said_too(tmp_path: Any) -> None:
    async with dumping(tmp_path, TEXT) as it:
        it.agent.peer.send(m.Missed(0, 0, "7 packets were dropped"))
        await until(lambda: "7 packets" in it.words())
        assert it.words() == "0 connections, 0 bytes; 7 packets were dropped"


def test_what_it_takes() -> None:
    half, config = Layer.dumping(Config(mode="steal", ignore_ports=[80]), (80,))
    assert half is Dump and config == Config(mode="mirror", ports=[80])
    chosen = HttpFilter(path_filter="^/x")
    assert Layer.dumping(Config(mode="off", http_filter=chosen), (1,))[1].http_filter == chosen
    assert Layer.dumping(None, (1,))[1] == Config(ports=[1])
    assert Dump.rights(config) == Layer.rights(Config())
    with pytest.raises(UserError, match="cannot be mirrored at once"):
        Dump.check(Config(ports=list(range(1, bpf.MOST_PORTS + 2))))
