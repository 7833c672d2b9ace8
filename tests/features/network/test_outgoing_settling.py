"""The end of a program that has sent more than the target takes at once."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hand_clock import settle as turns

from pymirror.core.testing import MemoryLink
from pymirror.features.network.carry import Join, join
from pymirror.features.network.outgoing import settling
from tests.features.network.test_carry import Half, Open, tcp


class Joined:
    """A connection whose other side reads when the test says so."""

    async def __aenter__(self) -> Joined:
        self.near, far = MemoryLink.pair()
        self.far_link, half = far, Half()
        far.serve("test-carry", half)
        stream = self.near.peer("test-carry").stream_now(Open())
        self.program, inner = tcp()
        self.join: Join = join(inner, stream, lambda: None)
        self.far = await half.stream
        return self

    async def __aexit__(self, *_: object) -> None:
        self.join.cancel()
        self.program.close()
        await self.near.aclose()
        await self.far_link.aclose()

    async def fill(self) -> int:
        sent = 0
        try:
            while True:
                await turns()
                sent += self.program.send(bytes(1 << 20))
        except BlockingIOError:
            return sent

    async def read(self) -> int:
        got = 0
        while data := await self.far.read(1 << 20):
            got += len(data)
        return got


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "AT_ONCE", 0.01)
    monkeypatch.setattr(settling, "QUIETLY", 0.01)


@pytest.fixture
def told() -> Iterator[asyncio.Event]:
    """Set with the first warning."""
    event = asyncio.Event()

    class Tells(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            event.set()

    handler = Tells(logging.WARNING)
    settling.log.addHandler(handler)
    yield event
    settling.log.removeHandler(handler)


async def asked(_: list[int]) -> None:
    return


async def test_what_the_target_is_slow_to_take_is_waited_for(
    told: asyncio.Event, caplog: pytest.LogCaptureFixture
) -> None:
    async with Joined() as one:
        sent = await one.fill()
        one.program.close()
        settled = asyncio.ensure_future(settling.settle({1: one.join}, asked, 60.0))
        await told.wait()
        assert not settled.done()
        assert await one.read() == sent
        await settled
        assert "are reset" not in caplog.text


async def test_what_it_does_not_take_in_time_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async with Joined() as one:
        await one.fill()
        one.program.close()
        await settling.settle({1: one.join}, asked, 0.02)
        assert "1 connections are reset: the target has not taken all" in caplog.text


async def test_a_connection_that_a_child_holds_is_not_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    async with Joined() as one:
        await settling.settle({1: one.join}, asked, 1000.0)
        assert not caplog.text


async def test_an_agent_that_has_not_given_it_all_is_waited_for(told: asyncio.Event) -> None:
    """The streams have ended, and the target's socket takes no more."""
    given = asyncio.Event()

    async def asking(numbers: list[int]) -> Any:
        assert numbers == [1]
        await given.wait()

    async with Joined() as one:
        one.program.shutdown(socket.SHUT_WR)
        await turns()
        settled = asyncio.ensure_future(settling.settle({1: one.join}, asking, 60.0))
        await told.wait()
        given.set()
        await settled
