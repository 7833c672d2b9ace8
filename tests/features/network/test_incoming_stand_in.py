"""What answers probes from memory: as a side of an exchange, whatever comes in whatever pieces."""

from __future__ import annotations

import asyncio

import grpc.aio
import h2.config
import h2.connection
import h2.events
import pytest
from grpc_there import SERVICE, grpc_server
from http2_peer import GET, POST
from http2_place import place
from incoming_scene import ByPath, Far, ended, exactly, got, pair, send

from pymirror.core.limit import timeout
from pymirror.core.probe import Probe
from pymirror.features.network.incoming.budget import BUDGET
from pymirror.features.network.incoming.exchange import Exchange
from pymirror.features.network.incoming.health import Probed
from pymirror.features.network.incoming.limits import Limits
from pymirror.features.network.incoming.pipe import Pipe
from pymirror.features.network.incoming.stand_in import (
    SERVING,
    WELL,
    WELL_AND_LAST,
    Http1,
    Http2,
    StandIn,
    stand_in,
)

ASKED = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
COUNTED = b"GET / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
OTHER = WELL.replace(b"200 OK", b"202 Accepted")
CLOSES = b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize(
    ("asked", "said", "over"),
    [
        (ASKED * 3, WELL * 3, False),
        (CHUNKED + COUNTED + ASKED, WELL * 3, False),
        (ASKED + CLOSES + ASKED, WELL + WELL_AND_LAST, True),
        (b"GET / HTTP/1.0\r\n\r\n", WELL_AND_LAST, True),
        (ASKED[:-1], b"", False),
        (b"nothing like it\r\n\r\n" + ASKED, b"", True),
    ],
)
def test_each_request_has_an_answer(asked: bytes, said: bytes, over: bool, size: int) -> None:
    speaks = Http1()
    assert b"".join(speaks.feed(asked[at : at + size]) for at in range(0, len(asked), size)) == said
    assert speaks.over is over


@pytest.mark.asyncio
async def test_its_answers_keep_their_place_and_its_end_is_the_clients() -> None:
    near, inner = pair()
    program, over = Far(), asyncio.Event()
    Exchange(
        Pipe(inner),
        stand_in(False),
        program.opener,
        ByPath(),
        Limits(),
        lambda words: None,
        over.set,
        rest=True,
    )
    taken = ASKED.replace(b"/ ", b"/p ")
    await send(near, taken + ASKED + taken)
    far = await program.next()
    await got(far, taken)
    await send(far, OTHER)
    assert await exactly(near, len(OTHER + WELL)) == OTHER + WELL
    await got(far, taken)
    await send(far, WELL)
    await got(near, WELL)
    await send(near, CLOSES)
    await got(near, WELL_AND_LAST)
    await ended(near)
    near.close()
    far.close()
    async with timeout(10):
        await over.wait()


@pytest.mark.asyncio
async def test_what_is_no_request_is_the_programs_if_so_said() -> None:
    near, inner = pair()
    program = Far()
    exchange = Exchange(
        Pipe(inner), stand_in(False), program.opener, ByPath(), Limits(), print, lambda: None, rest=True
    )
    await send(near, b"GET / HTTP/1.1\r\nno colon\r\n\r\n")
    far = await program.next()
    await got(far, b"GET / HTTP/1.1\r\nno colon\r\n\r\n")
    exchange.cancel()
    for sock in (near, far):
        sock.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("size", [1, 50, 1 << 16])
async def test_http2_is_answered_stream_by_stream(size: int) -> None:
    speaks = Http2()
    near = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding=None))
    near.initiate_connection()
    check = [*POST[:3], (":path", "/grpc.health.v1.Health/Check"), ("content-type", "application/grpc")]
    numbers = list(range(1, 1999, 2))
    for number in numbers:
        near.send_headers(number, check if number % 3 else GET)
        near.send_data(number, b"x" * 60)
        if number % 5:
            near.end_stream(number)
        else:
            near.send_headers(number, [("trailers", "yes")], end_stream=True)
    near.ping(b"12345678")
    asked, events = near.data_to_send(), []
    for at in range(0, len(asked), size):
        events += near.receive_data(speaks.feed(asked[at : at + size]))
    answered = [each.stream_id for each in events if isinstance(each, h2.events.StreamEnded)]
    assert sorted(answered) == numbers
    served = [each for each in events if isinstance(each, h2.events.DataReceived)]
    assert all(each.data == SERVING and each.stream_id % 3 for each in served) and len(served) == 666
    assert any(isinstance(each, h2.events.PingAckReceived) for each in events)
    speaks.close()
    assert BUDGET.held == 0


@pytest.mark.asyncio
async def test_who_breaks_a_rule_loses_the_connection() -> None:
    stream, came = StandIn(Http2()), asyncio.Event()
    stream.attach(came.set, lambda: None)
    stream.write_now(b"GET / HTTP/1.1\r\n\r\n" + b"x" * 100)
    async with timeout(10):
        await came.wait()
    with pytest.raises(BrokenPipeError):
        stream.read_now()


@pytest.mark.asyncio
async def test_a_client_of_grpcs_takes_it_for_a_server() -> None:
    """With the program's calls on the same connection."""
    filter = Probed([Probe("liveness", "grpc", 80, agent="kube-probe/")])
    options = [("grpc.primary_user_agent", "kube-probe/1.33")]
    with grpc_server(b"program") as (_, port):
        async with place(stand_in(True), port, filter=filter) as there:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{there.port}", options=options) as channel:
                check = channel.unary_unary("/grpc.health.v1.Health/Check")
                for _ in range(2):
                    assert await check(b"\x0a\1x") == b"\x08\1"
                    assert await channel.unary_unary(f"/{SERVICE}/Unary")(b"hello") == b"program:hello"
                watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
                assert await watch.read() == b"\x08\1"
                watch.cancel()
