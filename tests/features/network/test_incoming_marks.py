"""`agent.inject_headers`: final heads of answers get one header, and no other byte is another."""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack

import pytest
from h2.events import InformationalResponseReceived, RequestReceived, ResponseReceived, TrailersReceived
from http2_peer import GET, TAKE, client, server
from http2_place import place
from incoming_scene import Scene, ended, exactly, send

from pymirror.features.network.incoming.http1 import Answers
from pymirror.features.network.incoming.marks import marked

PASSED, TAKEN = b"Pymirror-Agent: passed-through\r\n", b"Pymirror-Agent: forwarded-to-client\r\n"
OK, TWO = b"HTTP/1.1 200 OK\r\n", b"Content-Length: 2\r\n"
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
CHUNKS = b"\r\n2\r\nab\r\n0\r\nT: u\r\n\r\n"
LIKE = OK + TWO + b"\r\n"
INNER = b"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"  # a body that looks like an answer

ANSWERS = [  # to which method, and what comes before and after the header
    (b"GET", OK + TWO, b"\r\nab"),
    (b"GET", OK + b"A: b\r\n", b"\r\nto the end" + INNER),
    (b"GET", EARLY + OK + TWO, b"\r\nab"),
    (b"POST", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\n" + TWO, b"\r\nab"),
    (b"HEAD", OK + TWO, b"\r\n"),
    (b"GET", b"HTTP/1.1 204 No Content\r\n", b"\r\n"),
    (b"GET", b"HTTP/1.0 304 Not Modified\r\n", b"\r\n"),
    (b"GET", OK + b"Transfer-Encoding: chunked\r\n", CHUNKS),
    (b"GET", b"\r\n\r\n" + OK + TWO, b"\r\nab"),
    (b"GET", OK + b"Content-Length: %d\r\n" % len(INNER), b"\r\n" + INNER),
]


@pytest.mark.parametrize("size", [1, 3, 1 << 16])
@pytest.mark.parametrize(("method", "before", "after"), ANSWERS)
def test_one_header_more_however_it_comes(method: bytes, before: bytes, after: bytes, size: int) -> None:
    for taken, line in ((False, PASSED), (True, TAKEN)):
        answers, data, out = Answers(), before + after, b""
        answers.ask(method)
        for at in range(0, len(data), size):
            part = data[at : at + size]
            pieces = None if answers.one(part) else answers.feed(part)
            out += marked(part, pieces, taken)
        assert out == before + line + after


def test_what_is_no_http_stays_as_it_is() -> None:
    for data in (b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\nno colon\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"):
        answers = Answers()
        answers.ask(b"GET")
        pieces = None if answers.one(data) else answers.feed(data)
        assert marked(data, pieces, True) == data


@pytest.mark.asyncio
async def test_each_side_says_whose_its_answers_are() -> None:
    scene = Scene(marks=True)
    await send(scene.client, b"GET /a HTTP/1.1\r\n\r\n")
    application = await scene.application.next()
    await send(application, EARLY + OK)
    assert await exactly(scene.client, len(EARLY)) == EARLY  # and half a head is held back
    await send(application, TWO + b"\r\nab")
    wanted = OK + TWO + PASSED + b"\r\nab"
    assert await exactly(scene.client, len(wanted)) == wanted
    await send(scene.client, b"GET /p HTTP/1.1\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
    program = await scene.program.next()
    switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
    await send(program, switch + LIKE)
    assert await exactly(scene.client, len(switch + LIKE)) == switch + LIKE
    await send(program, LIKE)
    assert await exactly(scene.client, len(LIKE)) == LIKE
    scene.close()


@pytest.mark.asyncio
async def test_half_a_head_reaches_the_client_at_the_end() -> None:
    scene = Scene(marks=True)
    await send(scene.client, b"GET /p HTTP/1.1\r\n\r\n")
    program = await scene.program.next()
    await send(program, OK)
    program.shutdown(socket.SHUT_WR)
    assert await exactly(scene.client, len(OK)) == OK
    await ended(scene.client)
    scene.close()


@pytest.mark.asyncio
async def test_http2_has_it_in_the_answers_head_alone() -> None:
    async with AsyncExitStack() as stack:
        application = await stack.enter_async_context(server())
        program = await stack.enter_async_context(server())
        around = await stack.enter_async_context(place(application.port, program.port, marks=True))
        near = await stack.enter_async_context(client(around.port))
        for servers, headers, value in (
            (application, GET, b"passed-through"),
            (program, [*GET, TAKE], b"forwarded-to-client"),
        ):
            near.ask(headers)
            far = await servers.accepted()
            for _ in range(2):  # the second one's block is known
                asked = (await far.next(RequestReceived)).stream_id
                far.h2.send_headers(asked, [(":status", "103")])
                far.h2.send_headers(asked, [(":status", "200"), ("x-own", "1")])
                far.h2.send_data(asked, b"body")
                far.h2.send_headers(asked, [("grpc-status", "0")], end_stream=True)
                far.flush()
                interim = await near.next(InformationalResponseReceived)
                assert list(interim.headers) == [(b":status", b"103")]
                assert list((await near.next(ResponseReceived)).headers) == [
                    (b":status", b"200"),
                    (b"x-own", b"1"),
                    (b"pymirror-agent", value),
                ]
                assert list((await near.next(TrailersReceived)).headers) == [(b"grpc-status", b"0")]
                near.ask(headers)
