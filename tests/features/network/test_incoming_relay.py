"""The relay in C: what it passes on by itself, what it gives back, and that nothing is lost or read otherwise."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import pytest_asyncio
from incoming_scene import ended, exactly, got, pair, reset, send

from pymirror.core.limit import timeout
from pymirror.features.network.incoming.http1 import Answers, Requests
from pymirror.features.network.incoming.needles import Kind, Needle
from pymirror.features.network.incoming.relay.native import Back, Relay

pytestmark = pytest.mark.asyncio
GET, HEAD = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n", b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /b?c=%20d HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
END = bytes(4)
"""Behind a message in the same bytes, and longer than a body: never plain, so that the pair comes back."""
NEEDLES = [
    Needle(Kind.HEADER, b"x-user: al"),
    Needle(Kind.PATH, b"/pay"),
    Needle(Kind.METHOD, b"delete"),
]


class Pair:
    def __init__(self, relay: Relay) -> None:
        self.client, inner = pair()
        outer, self.application = pair()
        self.back: asyncio.Future[Back | None] = asyncio.get_running_loop().create_future()
        self.number = relay.give(inner, outer, self.back.set_result)

    async def came_back(self) -> Back:
        async with timeout(10):
            back = await self.back
        assert back is not None
        return back

    async def over(self) -> bool:
        async with timeout(10):
            return await self.back is None

    async def close(self) -> None:
        sockets = [self.client, self.application]
        if self.back.done() and (back := await self.back) is not None:
            sockets += [back.client, back.application]
        for sock in sockets:
            sock.close()


@pytest_asyncio.fixture
async def relay() -> AsyncIterator[Relay]:
    made = Relay(NEEDLES)
    yield made
    made.close()


@pytest_asyncio.fixture
async def both(relay: Relay) -> AsyncIterator[Pair]:
    made = Pair(relay)
    yield made
    await made.close()


async def test_requests_and_answers_go_through_and_then_both_end(both: Pair) -> None:
    for request, answer in ((GET, OK), (POST, OK), (HEAD, OK[:-2]), (GET + GET, OK + OK)):
        await send(both.client, request)
        await got(both.application, request)
        await send(both.application, answer)
        await got(both.client, answer)
    both.client.shutdown(socket.SHUT_WR)
    await ended(both.application)
    both.application.close()
    await ended(both.client)
    assert await both.over()


async def test_what_holds_a_needle_comes_back_with_what_waits_for_an_answer(both: Pair) -> None:
    asked = b"GET / HTTP/1.1\r\nX-USER:Alice\r\n\r\n"
    await send(both.client, GET + HEAD + asked + GET)
    await got(both.application, GET + HEAD)
    back = await both.came_back()
    assert (back.served, back.asked, back.from_client) == (2, (b"GET", b"HEAD"), asked + GET)
    assert back.client.gettimeout() == back.application.gettimeout() == 0


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nA: 1\r\nx-User: xal\r\nX-user: aLy\r\n\r\n",
        b"GET /x?to=/PAY HTTP/1.1\r\n\r\n",
        b"DELETE / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"get / HTTP/1.1\r\n\r\n",
        b"TRACE / HTTP/1.1\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\n\r\n",
        b"GET http://x/ HTTP/1.1\r\n\r\n",
        b"GET /#a HTTP/1.1\r\n\r\n",
        b"GET /\xc3\xa4 HTTP/1.1\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1 \r\n\r\n",
        b"\r\nGET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\n\n",
        b"GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\rC: d\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
        b"GET / HTTP/1.1\r\n A: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nA : b\r\n\r\n",
        b"GET / HTTP/1.1\r\n: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nA\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: \0\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: a\tb\r\n\r\n",
        b"GET / HTTP/1.1\r\nA:  b\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: \xe9\r\n\r\n",
        b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nConnection: keep-alive, close\r\n\r\n",
        b"GET / HTTP/1.1\r\nProxy-Connection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
        b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1,1\r\n\r\na",
        b"POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\na",
        b"POST / HTTP/1.1\r\nContent-Length: \r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1 \r\n\r\na",
        b"POST / HTTP/1.1\r\nContent-Length: 18446744073709551617\r\n\r\na",
        b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc",
        b"GET / HTT",
        b"\x16\x03\x01",
    ],
)
async def test_what_is_not_plain_comes_back_untouched(both: Pair, request_: bytes) -> None:
    await send(both.client, request_)
    back = await both.came_back()
    assert (back.served, back.from_client) == (0, request_)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nto the end",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n",
        b"220 smtp.example ESMTP\r\n",
    ],
)
async def test_answers_that_are_not_plain_come_back(both: Pair, answer: bytes) -> None:
    await send(both.client, GET + HEAD)
    await got(both.application, GET + HEAD)
    await send(both.application, OK)
    await got(both.client, OK)
    await send(both.application, answer.replace(b"OK\r\n\r\n", b"OK\r\nTrailer: x\r\n\r\n"))
    if answer.startswith(b"HTTP/1.1 200 OK\r\n\r\n"):  # HEAD's has no body: what follows was not asked for
        await got(both.client, b"HTTP/1.1 200 OK\r\nTrailer: x\r\n\r\n")
        assert (await both.came_back()).from_application == b"to the end"
        return
    back = await both.came_back()
    assert (back.asked, back.from_application, back.left) == ((b"HEAD",), answer, 0)


@pytest.mark.parametrize("status", [b"204 No", b"304 Not Modified", b"200 ", b"599 \xc3\xa4\t"])
async def test_answers_without_a_body(both: Pair, status: bytes) -> None:
    length = b"Content-Length: 5\r\n" if status[:1] == b"3" else b""
    length = length or b"Content-Length: 0\r\n"
    for _ in range(2):
        answer = b"HTTP/1.1 %s\r\n%s\r\n" % (status, length)
        await send(both.client, GET)
        await got(both.application, GET)
        await send(both.application, answer)
        await got(both.client, answer)
    assert not both.back.done()


async def test_an_application_that_speaks_unasked_or_ends_is_not_read(both: Pair) -> None:
    await send(both.application, b"220 hello\r\n")
    back = await both.came_back()
    assert back.application.recv(99) == b"220 hello\r\n" and back.from_application == b""


async def test_in_the_middle_of_an_answer_it_says_how_much_is_left(both: Pair) -> None:
    await send(both.client, GET + GET)
    await got(both.application, GET + GET)
    begun = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"a" * 300
    await send(both.application, begun)
    await got(both.client, begun)
    both.client.shutdown(socket.SHUT_WR)
    back = await both.came_back()
    assert (back.left, back.asked, back.client.recv(9)) == (700, (b"GET", b"GET"), b"")


async def test_what_there_is_no_room_for_comes_back(both: Pair) -> None:
    size = 20 << 20
    await send(both.client, GET)
    await got(both.application, GET)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + random.Random(1).randbytes(size)
    sending = asyncio.ensure_future(send(both.application, answer))
    back = await both.came_back()
    rest = len(answer) - back.left
    assert await exactly(both.client, rest - len(back.to_client)) + back.to_client == answer[:rest]
    assert back.to_client and back.asked == (b"GET",)
    assert await exactly(back.application, back.left) == answer[rest:]
    await sending


async def test_pipelined_requests_beyond_the_limit_come_back(both: Pair) -> None:
    await send(both.client, GET * 120)
    back = await both.came_back()
    assert (back.served, len(back.asked), back.from_client) == (100, 100, GET * 20)


async def test_a_callback_that_fails_fails_alone(relay: Relay) -> None:
    loop = asyncio.get_running_loop()
    said: asyncio.Future[dict[str, object]] = loop.create_future()
    loop.set_exception_handler(lambda _, context: said.set_result(context))
    first, second = Pair(relay), Pair(relay)
    first.back.cancel()  # so that its callback fails
    for each in (first, second):
        each.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        each.client.close()
    assert await second.over()
    assert isinstance((await said)["exception"], asyncio.InvalidStateError)
    loop.set_exception_handler(None)
    for each in (first, second):
        each.application.close()


@pytest.mark.parametrize("by", ["client", "application", "us"])
async def test_a_reset_is_a_reset(relay: Relay, both: Pair, by: str) -> None:
    await send(both.client, GET)
    await got(both.application, GET)
    if by == "us":
        relay.cancel(both.number)
        assert await reset(both.client) and await reset(both.application)
        assert not both.back.done()
        return
    resets, other = both.client, both.application
    if by == "application":
        resets, other = other, resets
    resets.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    resets.close()
    assert await reset(other)
    assert await both.over()


async def test_pairs_come_and_go(relay: Relay) -> None:
    for _ in range(5):
        pairs = [Pair(relay) for _ in range(20)]
        for each in pairs:
            await send(each.client, GET)
        for each in pairs:
            await got(each.application, GET)
        for each in pairs[::2]:
            await send(each.client, END)
            assert (await each.came_back()).from_client == END
        for each in pairs[1::2]:
            relay.cancel(each.number)
        for each in pairs:
            await each.close()


METHODS = [*[b"GET"] * 9, b"POST", b"HEAD", b"PUT", b"OPTIONS", b"G ET", b"CONNECT", b"PRI", b""]
TARGETS = [
    *[b"/"] * 9,
    b"/a?b=c",
    b"*",
    b"/a b",
    b"/%0d",
    b"//x",
    b"/\x7f",
    b"/'(\"",
    b"/a;b",
    b"/{",
    b"",
    b"/pa",
]
VERSIONS = [*[b"HTTP/1.1"] * 16, b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.11", b"http/1.1"]
LINES = [
    *[b"Host: x", b"A: b"] * 8,
    *(b"Host: x", b"A: b", b"Content-Length: 3", b"Content-Length: 0", b"content-length:3", b"A:", b"A: "),
    *(
        b"Transfer-Encoding: chunked",
        b"Connection: keep-alive",
        b"Connection: close",
        b"Connection:Keep-Alive",
    ),
    *(
        b"Connection: x",
        b"Upgrade: y",
        b"A b: c",
        b"A\t: c",
        b" x",
        b"Content-Length: 03",
        b"Content-Length : 3",
    ),
    *(
        b"Content-Length: 3, 3",
        b"Keep-Alive: timeout=5",
        b"Expect: 100-continue",
        b"A: \xff",
        b"A: b\r",
        b"\0: a",
    ),
    *(
        b"Te: trailers",
        b"Trailer: z",
        b"Content-Length: -3",
        b"Content_Length: 3",
        b"A: b\x0b",
        b"Date: Mon, 1",
    ),
]
ENDS = [*[b"\r\n"] * 27, b"\n", b"\r", b"\r\n\r\n"]


def message(chance: random.Random, first: bytes) -> bytes:
    lines = [first, *chance.choices(LINES, k=chance.randint(0, 3))]
    head = b"".join(line + chance.choice(ENDS) for line in lines) + chance.choice(ENDS[:-1])
    return head + chance.choice([*[b""] * 4, *[b"abc"] * 4, b"3\r\nabc\r\n0\r\n\r\n", b"a"])


@pytest.mark.parametrize("seed", range(4))
async def test_it_cuts_requests_where_llhttp_does(relay: Relay, seed: int) -> None:
    chance, passed = random.Random(seed), 0
    for _ in range(400):
        data = b""
        for _ in range(chance.randint(1, 3)):
            first = b" ".join(chance.choice(each) for each in (METHODS, TARGETS, VERSIONS))
            data += message(chance, first)
        both = Pair(relay)
        data += END
        await send(both.client, data)
        back = await both.came_back()
        head = data[: len(data) - len(back.from_client)]
        assert head + back.from_client == data
        assert await exactly(both.application, len(head)) == head
        cutter = Requests()
        pieces = cutter.feed(head)
        heads = [piece.head for piece in pieces if piece.head is not None]
        assert not cutter.refused and cutter.between and len(heads) == back.served == len(back.asked)
        assert not any(each.closes or each.upgrades or each.continues for each in heads)
        assert [each.method == b"HEAD" for each in heads] == [each == b"HEAD" for each in back.asked]
        passed += back.served
        await both.close()
    assert passed > 10


STATUSES = [
    b"200 OK",
    b"200 OK",
    b"204 No",
    b"304 Not",
    b"404 ",
    b"500",
    b"101 Up",
    b"100 Go",
    b"99 x",
    b"2000 x",
]


@pytest.mark.parametrize("seed", range(4))
async def test_it_cuts_answers_where_llhttp_does(relay: Relay, seed: int) -> None:
    chance, passed = random.Random(seed), 0
    for _ in range(400):
        asked = [chance.random() < 0.2 for _ in range(chance.randint(1, 3))]
        both, requests = Pair(relay), b"".join(HEAD if each else GET for each in asked)
        await send(both.client, requests)
        await got(both.application, requests)
        data = b"".join(
            message(chance, b" ".join((chance.choice(VERSIONS), chance.choice(STATUSES)))) for _ in asked
        )
        await send(both.application, data)
        both.application.shutdown(socket.SHUT_WR)
        back = await both.came_back()
        rest = back.from_application
        with suppress(BlockingIOError):
            while more := back.application.recv(1 << 16):
                rest += more
        assert data.endswith(rest)
        head = data[: len(data) - len(rest)]
        assert await exactly(both.client, len(head)) == head
        cutter = Answers()
        for each in asked:
            cutter.ask(b"HEAD" if each else b"GET")
        cutter.feed(head)
        assert not cutter.refused and cutter.pending == len(back.asked)
        assert cutter._left == back.left and cutter.between == (not back.left)
        passed += len(asked) - len(back.asked)
        await both.close()
    assert passed > 10
