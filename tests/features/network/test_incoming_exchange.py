"""One client's HTTP/1 connection: whose each request is, in which order answers leave, how it ends."""

from __future__ import annotations

import asyncio
import random
import socket
import struct

import pytest
from incoming_scene import ByPath, Far, Made, Scene, ended, exactly, got, ok, quiet, reset, send

from pymirror.core.limit import timeout
from pymirror.features.network.incoming.http1 import Requests
from pymirror.features.network.incoming.limits import CONTINUE, Limits

pytestmark = pytest.mark.asyncio

A, A2 = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /a2 HTTP/1.1\r\nHost: x\r\n\r\n"
P, P2 = b"GET /p HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /p2 HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"PUT /p HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: u\r\n\r\n"


async def over(scene: Scene) -> None:
    async with timeout(10):
        await scene.over.wait()
    scene.client.close()


async def test_each_request_is_decided_alone_and_nothing_is_changed(made: Made) -> None:
    scene = made()
    await send(scene.client, A)
    application = await scene.application.next()
    await got(application, A)
    await send(application, ok(b"from a"))
    await got(scene.client, ok(b"from a"))
    await send(scene.client, CHUNKED)
    program = await scene.program.next()
    await got(program, CHUNKED)
    await send(program, ok(b"from p"))
    await got(scene.client, ok(b"from p"))
    await send(scene.client, A2)
    await got(application, A2)
    await send(application, ok(b"again"))
    await got(scene.client, ok(b"again"))
    scene.client.shutdown(socket.SHUT_WR)
    await ended(application)
    await ended(program)
    application.close()
    program.close()
    await ended(scene.client)
    await over(scene)
    assert (scene.application.asked, scene.program.asked, scene.told) == (1, 1, [])


async def test_a_pipelined_request_for_the_other_waits_for_the_answers_before_it(made: Made) -> None:
    scene = made(first=A + A2 + P + A)
    application = await scene.application.next()
    await got(application, A + A2)
    assert scene.program.asked == 0
    await send(application, ok(b"1"))
    await got(scene.client, ok(b"1"))
    assert scene.program.asked == 0
    await send(application, ok(b"2"))
    program = await scene.program.next()
    await got(program, P)
    await quiet(application)
    await send(program, ok(b"3"))
    await got(application, A)
    await send(application, ok(b"4"))
    await got(scene.client, ok(b"2") + ok(b"3") + ok(b"4"))


async def test_more_pipelined_than_the_limit_wait_in_the_socket(made: Made) -> None:
    scene = made(limits=Limits(pipelined=3), first=A * 10)
    application = await scene.application.next()
    await got(application, A * 3)
    await quiet(application)
    await send(application, ok())
    await got(application, A)
    await quiet(application)
    await send(application, ok() * 3)
    await got(application, A * 3)


@pytest.mark.parametrize("path", [b"/a", b"/p"])
async def test_the_end_of_what_the_client_says_is_passed_on_and_the_answer_still_comes(
    made: Made, path: bytes
) -> None:
    scene = made()
    request = b"POST %s HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc" % path
    await send(scene.client, request)
    scene.client.shutdown(socket.SHUT_WR)
    side = await (scene.application if path == b"/a" else scene.program).next()
    await got(side, request)
    await ended(side)
    await send(side, ok(b"late"))
    side.close()
    await got(scene.client, ok(b"late"))
    await ended(scene.client)
    await over(scene)


async def test_a_client_that_says_nothing_ends_as_it_came(made: Made) -> None:
    scene = made()
    scene.client.shutdown(socket.SHUT_WR)
    await ended(scene.client)
    await over(scene)
    assert (scene.application.asked, scene.program.asked) == (0, 0)


async def test_half_a_head_is_the_applications(made: Made) -> None:
    scene = made(first=A[:9])
    scene.client.shutdown(socket.SHUT_WR)
    application = await scene.application.next()
    await got(application, A[:9])
    await ended(application)
    application.close()
    await ended(scene.client)
    await over(scene)


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (b"HEAD /a HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"),
        (A, b"HTTP/1.1 204 No Content\r\n\r\n"),
        (A, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n"),
        (A, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: y\r\n\r\n"),
        (A, b"HTTP/1.1 103 Early Hints\r\n\r\n" + ok(b"x")),
    ],
)
async def test_where_an_answer_ends(made: Made, request_: bytes, answer: bytes) -> None:
    scene = made(first=request_ + P)
    application = await scene.application.next()
    await got(application, request_)
    for at in range(len(answer) - 1):
        await send(application, answer[at : at + 1])
        await got(scene.client, answer[at : at + 1])
    assert scene.program.asked == 0
    await send(application, answer[-1:])
    await got(await scene.program.next(), P)


@pytest.mark.parametrize("path", [b"/a", b"/p"])
async def test_100_continue_is_the_sides_own(made: Made, path: bytes) -> None:
    scene = made()
    head = b"PUT %s HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n" % path
    await send(scene.client, head)
    side = await (scene.application if path == b"/a" else scene.program).next()
    await got(side, head)
    await quiet(scene.client)
    await send(side, CONTINUE)
    await got(scene.client, CONTINUE)
    await send(scene.client, b"abc" + A)
    await got(side, b"abc")
    await send(side, ok(b"done"))
    await got(scene.client, ok(b"done"))


@pytest.mark.parametrize("path", [b"/a", b"/p"])
async def test_an_answer_up_to_the_connections_end(made: Made, path: bytes) -> None:
    scene = made(first=b"GET %s HTTP/1.0\r\n\r\n" % path)
    side = await (scene.application if path == b"/a" else scene.program).next()
    await got(side, b"GET %s HTTP/1.0\r\n\r\n" % path)
    await send(side, b"HTTP/1.0 200 OK\r\n\r\nsome")
    await send(side, b" more")
    side.close()
    await got(scene.client, b"HTTP/1.0 200 OK\r\n\r\nsome more")
    await ended(scene.client)
    scene.client.close()
    await over(scene)


@pytest.mark.parametrize("path", [b"/a", b"/p"])
async def test_an_upgrade_is_bytes_both_ways(made: Made, path: bytes) -> None:
    scene = made()
    request = b"GET %s HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" % path
    await send(scene.client, request)
    side = await (scene.application if path == b"/a" else scene.program).next()
    await got(side, request)
    await send(scene.client, b"\x81\x01early" + P)
    await quiet(side)
    switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    await send(side, switch + b"\x81\x02hi")
    await got(scene.client, switch + b"\x81\x02hi")
    await got(side, b"\x81\x01early" + P)
    await send(scene.client, b"\x00" * 5)
    await got(side, b"\x00" * 5)
    side.shutdown(socket.SHUT_WR)
    await ended(scene.client)
    await send(scene.client, b"still")
    await got(side, b"still")
    scene.client.close()
    await ended(side)
    await over(scene)
    assert scene.application.asked + scene.program.asked == 1


async def test_an_upgrade_that_is_not_made_leaves_http(made: Made) -> None:
    upgrade = b"GET /p HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    scene = made(first=upgrade + A)
    program = await scene.program.next()
    await got(program, upgrade)
    assert scene.application.asked == 0
    await send(program, ok(b"no"))
    await got(await scene.application.next(), A)


async def test_connect_is_bytes_after_a_yes(made: Made) -> None:
    scene = made(first=b"CONNECT a:1 HTTP/1.1\r\n\r\n")
    application = await scene.application.next()
    await exactly(application, 24)
    await send(application, b"HTTP/1.1 200 Yes\r\n\r\n\x00")
    await got(scene.client, b"HTTP/1.1 200 Yes\r\n\r\n\x00")
    await send(scene.client, P)
    await got(application, P)


@pytest.mark.parametrize("garbage", [b"\x00\x01\x02", b"GET / HTTP/1.1\nX: y\n\n" + P, b"SSH-2.0-x\r\n"])
async def test_what_is_no_http_is_the_applications_after_the_answers_before_it(
    made: Made, garbage: bytes
) -> None:
    scene = made(first=P + garbage)
    program = await scene.program.next()
    await got(program, P)
    assert scene.application.asked == 0
    await send(program, ok())
    application = await scene.application.next()
    await got(application, garbage)
    await send(scene.client, P)
    await got(application, P)
    await send(application, b"\xff")
    await got(scene.client, ok() + b"\xff")


async def test_the_rest_of_a_message_that_breaks_is_for_who_has_its_beginning(made: Made) -> None:
    broken = b"PUT /p HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + A
    scene = made(first=broken)
    await got(await scene.program.next(), broken)
    assert scene.application.asked == 0


async def test_after_a_last_request_the_rest_is_its_sides(made: Made) -> None:
    last = b"GET /p HTTP/1.1\r\nConnection: close\r\n\r\n"
    scene = made(first=last + A)
    program = await scene.program.next()
    await got(program, last + A)
    await send(program, ok(b"bye"))
    program.close()
    await got(scene.client, ok(b"bye"))
    assert scene.application.asked == 0


async def test_an_idle_application_that_closes_does_not_end_a_client_of_the_program(made: Made) -> None:
    scene = made(first=A)
    application = await scene.application.next()
    await got(application, A)
    await send(application, ok(b"1"))
    await got(scene.client, ok(b"1"))
    await send(scene.client, P)
    program = await scene.program.next()
    await got(program, P)
    application.close()
    await quiet(scene.client)
    await send(program, ok(b"2"))
    await got(scene.client, ok(b"2"))
    await send(scene.client, A2)
    again = await scene.application.next()
    await got(again, A2)
    await send(again, ok(b"3"))
    await got(scene.client, ok(b"3"))
    program.close()
    again.close()
    await ended(scene.client)
    scene.client.close()
    await over(scene)


async def test_an_application_that_closes_ends_the_client_that_knows_it_alone(made: Made) -> None:
    scene = made(first=A)
    application = await scene.application.next()
    await got(application, A)
    await send(application, ok(b"1") + b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
    application.close()
    await got(scene.client, ok(b"1") + b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
    await ended(scene.client)
    scene.client.close()
    await over(scene)


async def test_an_idle_program_that_dies_ends_the_client_without_reset(made: Made) -> None:
    scene = made(first=P)
    program = await scene.program.next()
    await got(program, P)
    await send(program, ok(b"1"))
    await got(scene.client, ok(b"1"))
    program.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    program.close()
    await ended(scene.client)
    scene.client.close()
    await over(scene)
    assert scene.told == []


async def test_a_program_that_closed_is_asked_anew(made: Made) -> None:
    scene = made(first=A)
    application = await scene.application.next()
    await got(application, A)
    await send(application, ok())
    await send(scene.client, P)
    program = await scene.program.next()
    await send(program, ok())
    await got(scene.client, ok() + ok())
    program.close()
    await send(scene.client, A)
    await got(application, A)
    await send(application, ok())
    await got(scene.client, ok())
    await send(scene.client, P2)
    await got(await scene.program.next(), P2)


@pytest.mark.parametrize("how", ["end", "reset", "refusal"])
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
async def test_a_program_that_is_gone_before_its_answer_is_502(made: Made, how: str, method: bytes) -> None:
    scene = made()
    scene.program.refuses = how == "refusal"
    await send(scene.client, b"%s /p HTTP/1.1\r\n\r\n" % method)
    if how != "refusal":
        program = await scene.program.next()
        await exactly(program, 5)
        if how == "reset":
            program.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        program.close()
    answer = await exactly(scene.client, 1 << 20)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 502 ") and b"Connection: close" in head
    assert (b"pymirror" in body) == (method == b"GET")
    await send(scene.client, b"more")
    scene.client.close()
    await over(scene)
    assert len(scene.told) == 1


@pytest.mark.parametrize("path", [b"/a", b"/p"])
async def test_a_side_that_breaks_in_its_answer_resets_the_client(made: Made, path: bytes) -> None:
    scene = made(first=b"GET %s HTTP/1.1\r\n\r\n" % path)
    side = await (scene.application if path == b"/a" else scene.program).next()
    await exactly(side, 10)
    await send(side, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")
    await exactly(scene.client, 30)
    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    side.close()
    assert await reset(scene.client)
    await over(scene)


async def test_an_application_that_cannot_be_reached_resets_the_client(made: Made) -> None:
    scene = made()
    scene.application.refuses = True
    await send(scene.client, A)
    assert await reset(scene.client)
    await over(scene)


@pytest.mark.parametrize("first", [b"", A], ids=["from the start", "later"])
async def test_a_client_that_resets_while_it_is_not_read_ends_all(made: Made, first: bytes) -> None:
    """The application takes nothing, so the client is not read: what it sent is unread when it resets."""
    scene = made(first=first)
    begins = b"GET /a2" if first else b"POST /"
    await send(scene.client, begins + b" HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n")
    silent = 0
    while silent < 50:
        try:
            scene.client.send(bytes(1 << 20))
            silent = 0
        except BlockingIOError:
            silent += 1
        await asyncio.sleep(0)
    application = await scene.application.next()
    scene.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    scene.client.close()
    await over(scene)
    assert await reset(application)


async def test_a_client_that_resets_resets_both(made: Made) -> None:
    scene = made(first=A)
    application = await scene.application.next()
    await send(application, ok())
    await send(scene.client, P)
    program = await scene.program.next()
    await got(program, P)
    scene.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await got(scene.client, ok())
    scene.client.close()
    assert await reset(application) and await reset(program)
    await over(scene)


async def test_a_connection_that_is_given_later_gets_all(made: Made) -> None:
    scene = made()
    scene.application.later = True
    await send(scene.client, A + A2 + P)
    await quiet(scene.client)
    scene.application.give(scene.application.waiting[0])
    application = await scene.application.next()
    await got(application, A + A2)
    await send(application, ok() + ok())
    await got(await scene.program.next(), P)


async def test_a_connection_that_is_given_too_late_is_closed(made: Made) -> None:
    scene = made()
    scene.application.later = True
    await send(scene.client, A)
    await quiet(scene.client)
    scene.exchange.cancel()
    scene.application.give(scene.application.waiting[0])
    assert await reset(await scene.application.next())


async def test_slow_heads_go_on_as_bytes(made: Made) -> None:
    scene = made(limits=Limits(head=0.05), first=P[:9])
    application = await scene.application.next()
    await got(application, P[:9])
    await send(scene.client, P[9:])
    await got(application, P[9:])
    assert len(scene.told) == 1 and scene.program.asked == 0


# The filter looks at the body --------------------------------------------------------------------


@pytest.mark.parametrize("taken", [True, False])
async def test_a_body_decides(made: Made, taken: bool) -> None:
    scene = made(ByPath(needs_body=True))
    body = b"3\r\n%s\r\n0\r\n\r\n" % (b"xpx" if taken else b"xax")
    head = b"POST /body HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    for part in (head, body[:5], body[5:] + A):
        assert (scene.application.asked, scene.program.asked) == (0, 0)
        await send(scene.client, part)
        await quiet(scene.client)
    side = await (scene.program if taken else scene.application).next()
    await got(side, head + body)
    await send(side, ok())
    await got(scene.client, ok())


@pytest.mark.parametrize(
    ("limits", "body", "words"),
    [
        (Limits(body=10), b"p" * 11, "longer than 10 bytes"),
        (Limits(body_within=0.05), b"p", "more than 0.05 s"),
    ],
)
async def test_a_body_beyond_the_limits_does_not_match(
    made: Made, limits: Limits, body: bytes, words: str
) -> None:
    scene = made(ByPath(needs_body=True), limits)
    head = b"POST /body HTTP/1.1\r\nContent-Length: 12\r\n\r\n"
    await send(scene.client, head + body)
    application = await scene.application.next()
    await got(application, head + body)
    await send(scene.client, b"q" * (12 - len(body)) + A)
    await got(application, b"q" * (12 - len(body)) + A)
    assert [words in each for each in scene.told] == [True]


async def test_a_body_that_ends_too_soon_does_not_match(made: Made) -> None:
    scene = made(ByPath(needs_body=True), first=b"POST /body HTTP/1.1\r\nContent-Length: 12\r\n\r\np")
    scene.client.shutdown(socket.SHUT_WR)
    application = await scene.application.next()
    await got(application, b"POST /body HTTP/1.1\r\nContent-Length: 12\r\n\r\np")
    await ended(application)


async def test_who_waits_for_100_continue_is_told_so_that_the_body_comes(made: Made) -> None:
    head = b"POST /body HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"
    scene = made(ByPath(needs_body=True), Limits(body_within=60), first=A + head)
    application = await scene.application.next()
    await got(application, A)
    await quiet(scene.client)
    await send(application, ok())
    await got(scene.client, ok() + CONTINUE)
    await send(scene.client, b"p")
    await got(await scene.program.next(), head + b"p")


# Back-pressure -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [b"/a", b"/p"])
async def test_a_body_of_many_megabytes_goes_through_and_is_never_held(made: Made, path: bytes) -> None:
    scene, loop = made(), asyncio.get_running_loop()
    data = bytes(range(256)) * (64 << 10)  # 16 MiB
    head = b"POST %s HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (path, len(data))
    sending = asyncio.ensure_future(loop.sock_sendall(scene.client, head + data))
    side = await (scene.application if path == b"/a" else scene.program).next()
    await quiet(scene.client, 500)
    assert not sending.done()
    await got(side, head + data)
    await sending
    answer = asyncio.ensure_future(loop.sock_sendall(side, ok(data)))
    await quiet(side, 500)
    assert not answer.done()
    await got(scene.client, ok(data))
    await answer


async def test_pipelined_requests_for_who_does_not_read_stop_the_client(made: Made) -> None:
    scene, loop = made(limits=Limits(pipelined=10**6)), asyncio.get_running_loop()
    sending = asyncio.ensure_future(loop.sock_sendall(scene.client, A * 500_000))
    application = await scene.application.next()
    await quiet(scene.client, 500)
    assert not sending.done()
    await got(application, A * 500_000)
    await sending


# Any mix of requests, in any pieces --------------------------------------------------------------


async def answering(far: Far, name: bytes, chance: random.Random) -> None:
    """Answers each request with its body, in pieces."""
    loop = asyncio.get_running_loop()
    while True:
        sock, cutter, body = await far.next(), Requests(content=True), b""
        while data := await loop.sock_recv(sock, chance.randrange(1, 400)):
            out = b""
            for piece in cutter.feed(data):
                body += piece.content
                if piece.ends:
                    out += ok(name + body)
                    body = b""
            while out:
                size = chance.randrange(1, 100)
                await loop.sock_sendall(sock, out[:size])
                out = out[size:]
        sock.close()


@pytest.mark.parametrize("seed", range(12))
async def test_answers_leave_in_the_order_of_the_requests(made: Made, seed: int) -> None:
    chance, loop = random.Random(seed), asyncio.get_running_loop()
    scene = made(ByPath(needs_body=True), Limits(body_within=60, pipelined=chance.choice([1, 3, 100])))
    sides = [
        asyncio.ensure_future(answering(far, name, chance))
        for far, name in ((scene.application, b"a"), (scene.program, b"p"))
    ]
    requests, wanted = b"", b""
    for number in range(60):
        path, name = chance.choice([(b"/a", b"a"), (b"/p", b"p"), (b"/body", b"")])
        body = b"%d%s" % (number, chance.choice([b"x", b"p"]) * chance.randrange(300))
        form = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        if chance.random() < 0.5:
            form = b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        requests += b"POST %s HTTP/1.1\r\n%s" % (path, form)
        wanted += ok((name or (b"p" if b"p" in body else b"a")) + body)

    async def sends() -> None:
        at = 0
        while at < len(requests):
            size = chance.randrange(1, 2000)
            await loop.sock_sendall(scene.client, requests[at : at + size])
            at += size
            await asyncio.sleep(0)
        scene.client.shutdown(socket.SHUT_WR)

    sending = asyncio.ensure_future(sends())
    await got(scene.client, wanted)
    await ended(scene.client)
    await sending
    await over(scene)
    for side in sides:
        side.cancel()
    await asyncio.gather(*sides, return_exceptions=True)
