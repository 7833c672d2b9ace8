"""A session that mirrors a port which other sessions steal: it gets each connection once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from pymirror.core.feature import Stream, handles
from pymirror.core.limit import timeout
from pymirror.features.network.incoming import messages as m
from pymirror.features.network.incoming.config import Config
from tests.sandbox.steal_agent import Layer, Session, session
from tests.sandbox.steal_network import PORT, TARGET, WITHIN, Both, cabled
from tests.sandbox.steal_web import developer

pytestmark = pytest.mark.sandbox
ways = pytest.mark.parametrize("version", [4, 6])


@pytest.fixture
async def both() -> AsyncIterator[Both]:
    async with cabled() as made:
        yield made


class Copies(Layer):
    """What came, by client."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.came: list[tuple[str, bytearray]] = []
        self.missed: list[str] = []
        self.more = asyncio.Event()

    @handles(m.Missed)
    def misses(self, missed: m.Missed) -> None:
        self.missed.append(missed.reason)

    @handles(m.Arrived)
    async def arrived(self, arrived: m.Arrived, stream: Stream) -> None:
        data = bytearray()
        self.came.append((f"{arrived.client} {arrived.client_port}", data))
        while piece := await stream.read():
            data += piece
            self.more.set()

    async def has(self, words: bytes) -> None:
        async with timeout(WITHIN):
            while not any(words in data for _, data in self.came):
                self.more.clear()
                await self.more.wait()


@asynccontextmanager
async def mirror(both: Both) -> AsyncIterator[tuple[Session, Copies]]:
    async with session(both, whose="mia@box", layer=Copies, config=Config(mode="mirror")) as made:
        assert isinstance(made.layer, Copies)
        yield made, made.layer


@ways
@pytest.mark.parametrize("paths", [[""], ["^/a"], ["^/a", "^/b"]], ids=["whole", "filtered", "by two"])
@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
async def test_each_connection_comes_once(both: Both, version: int, paths: list[str], first: bool) -> None:
    async with AsyncExitStack() as stack:
        if first:
            made, copies = await stack.enter_async_context(mirror(both))
            await made.take(PORT)
        for n, path in enumerate(paths):
            dev = await stack.enter_async_context(developer(both, f"dev{n}", path))
            await dev.take(PORT)
        if not first:
            made, copies = await stack.enter_async_context(mirror(both))
            await made.take(PORT)
        lines = []
        for path in ("/a", "/b", "/x", "/a", "/last"):
            line = await both.client.connect(TARGET[version])
            line.writer.write(f"GET {path} HTTP/1.1\r\nHost: it\r\n\r\n".encode())
            assert await line.says()
            lines.append((line.own, f"GET {path} HTTP/1.1\r\nHost: it\r\n\r\n".encode()))
        await copies.has(b"/last")
        assert [(client, bytes(data)) for client, data in copies.came] == lines
        assert copies.missed == []


@ways
async def test_a_connection_that_was_copied_before_is_not_mixed_with_what_is_passed_on(
    both: Both, version: int
) -> None:
    async with mirror(both) as (made, copies), developer(both, "ann", "^/a") as ann:
        await made.take(PORT)
        older = await both.client.connect(TARGET[version])
        assert await older.says() == f"app {older.own}"
        await ann.take(PORT)
        for n in range(20):
            line = await both.client.connect(TARGET[version])
            assert await line.says() == f"app {line.own}"
            line.writer.write(b"no HTTP %d" % n)
            line.writer.write_eof()
            while await line.says():
                pass
            await older.asks(f"still {n}")
        await copies.has(b"still 19")
        assert len(copies.came) == 21 and copies.missed == []


@ways
async def test_from_inside_the_pod_nothing_comes_of_a_port_that_is_stolen(both: Both, version: int) -> None:
    """Such a packet goes to the stealing agent's own port, and what that passes on is not copied."""
    async with mirror(both) as (made, copies), developer(both, "ann", "^/a") as ann:
        await made.take(PORT)
        await ann.take(PORT)
        inside = await both.target.connect(TARGET[version])
        assert await inside.says() == f"app {inside.own}"
        assert await inside.asks("\x01 inside") == "\x01 inside"
        line = await both.client.connect(TARGET[version])
        assert await line.says() == f"app {line.own}"
        assert await line.asks("\x01 outside") == "\x01 outside"
        await copies.has(b"outside")
        assert [client for client, _ in copies.came] == [line.own] and copies.missed == []
