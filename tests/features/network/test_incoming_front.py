"""A client's connection to a filtered port, between the relay and Python, with sockets of the test's."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from incoming_agent import until
from incoming_scene import ByPath, ended, got, pair, quiet, reset, send

from pymirror.core.limit import timeout
from pymirror.features.network.incoming import front as module
from pymirror.features.network.incoming.budget import BUDGET
from pymirror.features.network.incoming.front import Filtered, Front
from pymirror.features.network.incoming.limits import Limits
from pymirror.features.network.incoming.needles import Kind, Needle
from pymirror.features.network.incoming.passed import Passed
from pymirror.features.network.incoming.pipe import Pipe
from pymirror.features.network.incoming.relay.native import Relay
from pymirror.features.network.incoming.ruleset import Place

pytestmark = pytest.mark.asyncio
A, P = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /p HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"


class Passage:
    there = False

    def __init__(self, done: Callable[[], object]) -> None:
        self.done = done

    def now(self) -> None:
        self.done()

    def cancel(self) -> None:
        self.done = lambda: None


class Around:
    """What a front knows of stealing and of the layer: one application, one program."""

    def __init__(self) -> None:
        self.to_application: set[Any] = set()
        self.passing = self
        self.inner, self.application = pair()
        self.program: socket.socket | None = None
        self.sockets = [self.inner, self.application]
        self.taken = True
        self.idle, self.asked = asyncio.Event(), asyncio.Event()
        self.later: Callable[[], object] | None = None
        self.waits = False

    def connect(self, client: Place, address: Place, done: Callable[..., object]) -> Passage:
        passage = Passage(lambda: done(self.inner, 0))
        self.later = passage.now
        if not self.waits:
            asyncio.get_running_loop().call_soon(self.later)
        return passage

    def over(self, where: set[Any], each: Any) -> None:
        where.discard(each)
        self.idle.set()

    def takes(self, port: int) -> bool:
        return self.taken

    def put_through(self, sock: socket.socket, there: socket.socket, first: bytes) -> None:
        passed = Passed(sock, there, first, lambda: self.over(self.to_application, passed))
        self.to_application.add(passed)

    def stream_now(self, message: Any) -> Pipe:
        inner, self.program = pair()
        self.sockets.append(self.program)
        self.asked.set()
        return Pipe(inner)

    async def ends(self) -> None:
        async with timeout(10):
            await self.idle.wait()
        assert not self.to_application


@pytest_asyncio.fixture(params=[True, False], ids=["relay", "python"])
async def relay(request: pytest.FixtureRequest) -> AsyncIterator[Relay | None]:
    made = Relay([Needle(Kind.PATH, b"/p")]) if request.param else None
    yield made
    if made is not None:
        made.close()


@pytest_asyncio.fixture
async def around(relay: Relay | None) -> AsyncIterator[Around]:
    made = Around()
    yield made
    for each in list(made.to_application):
        each.cancel()
    for sock in made.sockets:
        sock.close()


def front(around: Any, relay: Relay | None) -> socket.socket:
    client, inner = pair()
    around.sockets.append(client)
    filtered = Filtered(ByPath(), Limits(), 0.2, lambda words: None, relay=relay)
    Front(inner, Place("10.0.0.1", 5), Place("10.0.0.2", 80), 80, around, around, filtered)
    return client


ODD = {
    "a method": b"FROB / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a path": "GET /\u00e4 HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    "a head": b"GET / HTTP/1.1\r\nX: %s\r\n\r\n" % (b"x" * 70_000),
    "two lengths": b"POST / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
    "a bare LF": b"GET / HTTP/1.1\nHost: x\n\n",
}


@pytest.mark.parametrize("name", ODD)
async def test_what_is_no_plain_http_is_told_and_what_follows_is_the_applications(
    around: Around, relay: Relay | None, name: str
) -> None:
    told = list[tuple[int, str]]()
    client, inner = pair()
    around.sockets.append(client)

    def astray(port: int, why: str) -> None:
        told.append((port, why))

    filtered = Filtered(ByPath(), Limits(), 20.0, lambda words: None, astray, relay=relay)
    Front(inner, Place("10.0.0.1", 5), Place("10.0.0.2", 80), 80, around, around, filtered)
    await asks(client, A, around.application)
    assert told == []
    await asks(client, ODD[name], around.application)
    await asks(client, b"GET /p HTTP/1.1\r\nHost: x\r\n\r\n", around.application)
    ((port, why),) = told
    assert port == 80 and why
    assert around.program is None


async def asks(client: socket.socket, request: bytes, side: socket.socket | None, answer: bytes = OK) -> None:
    await send(client, request)
    assert side is not None
    await got(side, request)
    await send(side, answer)
    await got(client, answer)


async def program(around: Around) -> socket.socket:
    async with timeout(10):
        await around.asked.wait()
    assert around.program is not None
    return around.program


async def test_requests_go_either_way_each_by_itself(around: Around, relay: Relay | None) -> None:
    client = front(around, relay)
    for _ in range(3):
        for answer in (OK, CHUNKED, OK):
            await asks(client, A, around.application, answer)
        await send(client, P)
        await got(await program(around), P)
        await asks_rest(client, around)
        await quiet(around.application)
    client.shutdown(socket.SHUT_WR)
    await ended(around.application)
    around.application.close()
    (await program(around)).close()
    await ended(client)
    await around.ends()


async def asks_rest(client: socket.socket, around: Around) -> None:
    await send(await program(around), OK)
    await got(client, OK)


async def test_between_two_answers_the_next_is_the_programs(around: Around, relay: Relay | None) -> None:
    client = front(around, relay)
    await asks(client, A, around.application)
    await send(client, A + A + P + A)
    await got(around.application, A + A)
    await send(around.application, OK + CHUNKED[:52])
    await got(client, OK + CHUNKED[:52])
    assert around.program is None
    await send(around.application, CHUNKED[52:])
    await got(client, CHUNKED[52:])
    await got(await program(around), P)
    await quiet(around.application)
    await asks_rest(client, around)
    await got(around.application, A)
    await send(around.application, OK)
    await got(client, OK)


async def test_in_the_middle_of_an_answer_the_client_ends(around: Around, relay: Relay | None) -> None:
    client = front(around, relay)
    await send(client, A + A)
    await got(around.application, A + A)
    await send(around.application, OK[:-1])
    await got(client, OK[:-1])
    client.shutdown(socket.SHUT_WR)
    await ended(around.application)
    await send(around.application, OK[-1:] + OK)
    await got(client, OK[-1:] + OK)
    around.application.close()
    await ended(client)
    await around.ends()


async def test_it_comes_back_to_the_relay(
    around: Around, relay: Relay | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 1)
    given = []
    if relay is not None:
        give = relay.give
        monkeypatch.setattr(relay, "give", lambda *words: given.append(give(*words)) or given[-1])
    client = front(around, relay)
    for _ in range(4):
        await asks(client, A, around.application, CHUNKED)
        await asks(client, A, around.application)
        await asks(client, A, around.application)
    assert len(given) == (5 if relay else 0)


@pytest.mark.parametrize("data", [b"\0\1\2", b"GE", b"EHLO x\r\n", b"GET / HTTP/1.1\n\n", b"\x16\x03\x01\0"])
async def test_what_is_no_http_is_the_applications(around: Around, relay: Relay | None, data: bytes) -> None:
    client = front(around, relay)
    await asks(client, data, around.application, b"some answer")
    await asks(client, P, around.application, b"another")
    client.close()
    await ended(around.application)


async def test_an_application_that_speaks_first_is_passed_on(around: Around, relay: Relay | None) -> None:
    client = front(around, relay)
    await send(around.application, b"220 hello\r\n")
    await got(client, b"220 hello\r\n")
    await asks(client, P, around.application, b"250 x\r\n")


async def test_an_idle_application_that_ends_ends_the_client(around: Around, relay: Relay | None) -> None:
    client = front(around, relay)
    await asks(client, A, around.application)
    around.application.close()
    await ended(client)
    client.close()
    await around.ends()


async def test_all_is_the_applications_when_the_port_is_not_taken(
    around: Around, relay: Relay | None
) -> None:
    around.taken = False
    client = front(around, relay)
    for request in (A, P, A):
        await asks(client, request, around.application)


async def test_a_slow_application_keeps_no_request_from_the_program(
    around: Around, relay: Relay | None
) -> None:
    around.waits = True
    client = front(around, relay)
    await send(client, P)
    await got(await program(around), P)
    await asks_rest(client, around)
    await send(client, A)
    assert around.later is not None
    around.later()
    await got(around.application, A)


@pytest.mark.parametrize("relay", [False], indirect=True)
async def test_first_bytes_count_until_it_is_known_whose_they_are(
    around: Around, relay: Relay | None
) -> None:
    """Who is to hold less goes to the application, and is reset if that is not there either."""
    around.waits = True
    client, other = front(around, relay), front(around, relay)
    await send(client, b"GE")
    await until(lambda: BUDGET.held == 2)
    (share,) = BUDGET._shares
    await send(other, b"EHLO x")
    await until(lambda: BUDGET.held == 8)
    share.give_back()  # to the application, which is not there yet
    assert BUDGET.held == 8
    share.give_back()
    assert await reset(client) and BUDGET.held == 6
    assert around.later is not None
    around.later()
    await got(around.application, b"EHLO x")
    assert BUDGET.held == 0


@pytest.mark.parametrize("when", ["before", "idle", "asked"])
async def test_ended_by_us_it_is_a_reset(around: Around, relay: Relay | None, when: str) -> None:
    client = front(around, relay)
    if when != "before":
        await asks(client, A, around.application)
    if when == "asked":
        await send(client, A)
        await got(around.application, A)
    (each,) = around.to_application
    each.cancel()
    assert await reset(client)
    if when != "before":
        assert await reset(around.application)
    await around.ends()
