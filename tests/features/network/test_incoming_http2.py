"""One client's HTTP/2 connection: what reaches the others, and how each one's end is the others'."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from attrs import define
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    InformationalResponseReceived,
    RemoteSettingsChanged,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.settings import SettingCodes
from hpack import NeverIndexedHeaderTuple
from http2_peer import GET, POST, TAKE, Peer, Server, client, server
from http2_place import Filter, Place, place

from pymirror.features.network.incoming.budget import BUDGET
from pymirror.features.network.incoming.limits import Limits


@define
class There:
    """place and the three peers. application: its connection; program: the listening one."""

    place: Place
    client: Peer
    application: Peer
    applications: Server
    programs: Server

    async def taken(self, headers: list[Any], body: bytes | None = None) -> tuple[int, Peer, RequestReceived]:
        """A request that is the program's: (the client's stream, the program, what it got)."""
        number = self.client.ask([*headers, TAKE], body)
        program = await self.programs.accepted()
        return number, program, await program.next(RequestReceived)


async def made(stack: AsyncExitStack, settings: dict[int, int] | None = None, **more: Any) -> There:
    application = await stack.enter_async_context(server(settings))
    program = await stack.enter_async_context(server(more.pop("program", None)))
    around = await stack.enter_async_context(place(application.port, program.port, **more))
    near = await stack.enter_async_context(client(around.port))
    return There(around, near, await application.accepted(), application, program)


@pytest.fixture(name="stack")
async def stack_fixture() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack
    assert BUDGET.held == 0


async def test_heads_stay_as_they_are(stack: AsyncExitStack) -> None:
    there = await made(stack)
    odd = [
        *((name.encode(), value.encode()) for name, value in GET),
        NeverIndexedHeaderTuple(b"authorization", b"secret"),
        (b"x-Odd Name", b"  \xff "),
        (b"cookie", b"a=1"),
        (b"cookie", b"b=2"),
        NeverIndexedHeaderTuple(b"x-twice", b"1"),
    ]
    for _ in range(3):
        number = there.client.ask(odd)
        came = await there.application.next(RequestReceived)
        assert [tuple(each) for each in came.headers] == [tuple(each) for each in odd]
        marked = [each for each in came.headers if isinstance(each, NeverIndexedHeaderTuple)]
        assert [tuple(each) for each in marked] == [(b"authorization", b"secret"), (b"x-twice", b"1")]
        there.application.answer(came.stream_id)
        assert (await there.client.next(ResponseReceived)).stream_id == number
    asked = there.place.filter.asked[0]
    assert asked[:2] == (b"GET", b"/") and asked[2][0] == (b"host", b"there")
    assert asked[2][-1] == (b"cookie", b"a=1; b=2")


async def test_interim_heads_data_and_trailers_in_their_order(stack: AsyncExitStack) -> None:
    there = await made(stack)
    number = there.client.h2.get_next_available_stream_id()
    there.client.h2.send_headers(number, POST)
    there.client.h2.send_data(number, b"one", pad_length=20)
    there.client.h2.send_data(number, b"two")
    there.client.h2.send_headers(number, [("x-up", "last")], end_stream=True)
    there.client.flush()
    far = (await there.application.next(RequestReceived)).stream_id
    assert await there.application.body(far) == b"onetwo"
    speaks = there.application.h2
    speaks.send_headers(far, [(":status", "103"), ("link", "x")])
    speaks.send_headers(far, [(":status", "200")])
    speaks.send_data(far, b"answer", pad_length=9)
    speaks.send_headers(far, [("grpc-status", "0")], end_stream=True)
    there.application.flush()
    interim = await there.client.next(InformationalResponseReceived)
    assert list(interim.headers) == [(b":status", b"103"), (b"link", b"x")]
    assert list((await there.client.next(ResponseReceived)).headers) == [(b":status", b"200")]
    assert (await there.client.next(DataReceived)).data == b"answer"
    assert list((await there.client.next(TrailersReceived)).headers) == [(b"grpc-status", b"0")]
    assert (await there.client.next(StreamEnded)).stream_id == number


async def test_the_client_is_asked_what_the_application_asks(stack: AsyncExitStack) -> None:
    asked = {
        SettingCodes.MAX_CONCURRENT_STREAMS: 7,
        SettingCodes.INITIAL_WINDOW_SIZE: 100_000,
        SettingCodes.MAX_FRAME_SIZE: 20_000,
        SettingCodes.HEADER_TABLE_SIZE: 1024,
        SettingCodes.ENABLE_CONNECT_PROTOCOL: 1,
    }
    there = await made(stack, asked)
    changed = await there.client.next(RemoteSettingsChanged)
    found = {code: each.new_value for code, each in changed.changed_settings.items()}
    assert found == {**asked, SettingCodes.MAX_HEADER_LIST_SIZE: 65536}


async def test_what_the_application_asks_is_bounded(stack: AsyncExitStack) -> None:
    there = await made(
        stack, {SettingCodes.INITIAL_WINDOW_SIZE: 1 << 30, SettingCodes.MAX_FRAME_SIZE: (1 << 24) - 1}
    )
    changed = (await there.client.next(RemoteSettingsChanged)).changed_settings
    assert changed[SettingCodes.INITIAL_WINDOW_SIZE].new_value == 1 << 20
    assert changed[SettingCodes.MAX_FRAME_SIZE].new_value == 32 << 10
    assert changed[SettingCodes.MAX_CONCURRENT_STREAMS].new_value == 1000
    assert SettingCodes.ENABLE_CONNECT_PROTOCOL not in changed


@pytest.mark.parametrize("code", [ErrorCodes.CANCEL, ErrorCodes.INTERNAL_ERROR, 0x1234])
async def test_a_reset_keeps_its_code(stack: AsyncExitStack, code: int) -> None:
    there = await made(stack)
    for near, far in ((there.client, there.application), (there.application, there.client)):
        number = there.client.ask(POST, None)
        came = (await there.application.next(RequestReceived)).stream_id
        there.application.h2.send_headers(came, [(":status", "200")])
        there.application.flush()
        await there.client.next(ResponseReceived)
        near.h2.reset_stream(number if near is there.client else came, code)
        near.flush()
        assert (await far.next(StreamReset)).error_code == code


async def test_an_answer_before_the_request_is_whole(stack: AsyncExitStack) -> None:
    there = await made(stack)
    number = there.client.h2.get_next_available_stream_id()
    there.client.h2.send_headers(number, POST)
    there.client.flush()
    came = (await there.application.next(RequestReceived)).stream_id
    there.application.answer(came, b"enough")
    there.application.h2.reset_stream(came, ErrorCodes.NO_ERROR)
    there.application.flush()
    assert (await there.client.next(DataReceived)).data == b"enough"
    assert (await there.client.next(StreamReset)).error_code == ErrorCodes.NO_ERROR


async def test_websocket_over_http2(stack: AsyncExitStack) -> None:
    connect = {SettingCodes.ENABLE_CONNECT_PROTOCOL: 1}
    there = await made(stack, connect, program=connect)
    head = [(":method", "CONNECT"), (":protocol", "websocket"), *GET[1:], TAKE]
    number = there.client.h2.get_next_available_stream_id()
    there.client.h2.send_headers(number, head)
    there.client.flush()
    program = await there.programs.accepted()
    came = await program.next(RequestReceived)
    assert (b":protocol", b"websocket") in [tuple(each) for each in came.headers]
    program.h2.send_headers(came.stream_id, [(":status", "200")])
    program.flush()
    await there.client.next(ResponseReceived)
    for near, far, stream in ((there.client, program, number), (program, there.client, came.stream_id)):
        near.h2.send_data(stream, b"ping")
        near.flush()
        assert (await far.next(DataReceived)).data == b"ping"


async def test_a_program_that_knows_no_extended_connect(stack: AsyncExitStack) -> None:
    there = await made(stack, {SettingCodes.ENABLE_CONNECT_PROTOCOL: 1})
    number = there.client.h2.get_next_available_stream_id()
    there.client.h2.send_headers(number, [(":method", "CONNECT"), (":protocol", "websocket"), *GET[1:], TAKE])
    there.client.flush()
    assert (b":status", b"502") in list((await there.client.next(ResponseReceived)).headers)
    assert b"extended CONNECT" in (await there.client.next(DataReceived)).data


async def test_a_program_that_is_not_there(stack: AsyncExitStack) -> None:
    application = await stack.enter_async_context(server())
    around = await stack.enter_async_context(place(application.port, 1))
    near = await stack.enter_async_context(client(around.port))
    far = await application.accepted()
    number = near.ask([*GET, TAKE])
    assert (b":status", b"502") in list((await near.next(ResponseReceived)).headers)
    assert (await near.body(number)).startswith(
        b"pymirror: the local program took this request, and it cannot"
    )
    near.ask([(":method", "HEAD"), *GET[1:], TAKE])
    assert (await near.next(ResponseReceived)).stream_ended is not None
    near.ask(GET)
    far.answer((await far.next(RequestReceived)).stream_id)
    await near.next(ResponseReceived)
    assert len(around.said) == 2


async def test_a_program_that_speaks_no_http2(stack: AsyncExitStack) -> None:
    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    listener = await asyncio.start_server(answers, "127.0.0.1", 0)
    application = await stack.enter_async_context(server())
    around = await stack.enter_async_context(place(application.port, listener.sockets[0].getsockname()[1]))
    near = await stack.enter_async_context(client(around.port))
    number = near.ask([*GET, TAKE])
    await near.next(ResponseReceived)
    assert b"it does not speak HTTP/2" in await near.body(number)
    listener.close()


async def test_a_program_that_ends_and_comes_back(stack: AsyncExitStack) -> None:
    there = await made(stack)
    number, program, came = await there.taken(GET)
    program.h2.send_headers(came.stream_id, [(":status", "200")])
    program.flush()
    await there.client.next(ResponseReceived)
    program.close()
    assert (await there.client.next(StreamReset)).error_code == ErrorCodes.INTERNAL_ERROR
    number, program, came = await there.taken(GET)
    program.close()
    await there.client.next(ResponseReceived)
    assert b"pymirror: the local program took this request, and it" in await there.client.body(number)
    number, program, came = await there.taken(GET)
    program.answer(came.stream_id, b"again")
    assert await there.client.body(number) == b"again"


async def test_a_program_that_goes_away_gets_no_new_streams(stack: AsyncExitStack) -> None:
    there = await made(stack)
    _, program, came = await there.taken(GET)
    program.h2.close_connection(last_stream_id=came.stream_id)
    program.raw(program.h2.data_to_send())
    second, other, later = await there.taken(GET)
    other.answer(later.stream_id, b"second")
    assert await there.client.body(second) == b"second"
    assert there.client.h2.open_outbound_streams == 1


async def test_an_application_that_goes_away_says_so_to_the_client(stack: AsyncExitStack) -> None:
    there = await made(stack)
    first, second = there.client.ask(GET), there.client.ask([*GET, TAKE])
    program = await there.programs.accepted()
    later = (await program.next(RequestReceived)).stream_id
    came = (await there.application.next(RequestReceived)).stream_id
    there.application.answer(came, b"last")
    there.application.h2.close_connection(last_stream_id=came)
    there.application.flush()
    ended = await there.client.next(ConnectionTerminated)
    assert (ended.last_stream_id, ended.error_code) == (3, ErrorCodes.NO_ERROR)
    program.answer(later, b"after that")
    bodies = b"".join([each.data for each in there.client.events if isinstance(each, DataReceived)])
    while b"after that" not in bodies:
        bodies += (await there.client.next(DataReceived)).data
    assert sorted((first, second)) == [1, 3]
    with pytest.raises(EOFError):
        await there.client.next(ResponseReceived, 99)


@pytest.mark.parametrize("busy", [False, True])
async def test_an_application_that_ends_its_connection_ends_the_clients(
    stack: AsyncExitStack, busy: bool
) -> None:
    there = await made(stack)
    number, program, came = await there.taken(GET)
    there.client.ask(GET)
    if not busy:
        program.answer(came.stream_id, b"done")
        assert await there.client.body(number) == b"done"
    await there.application.next(RequestReceived)
    there.application.close()
    assert (await there.client.next(ConnectionTerminated)).last_stream_id == 3
    if busy:
        assert (await there.client.next(StreamReset)).stream_id == 3
        program.raw(b"")
        program.close()
    with pytest.raises(EOFError):
        await there.client.next(RemoteSettingsChanged, 99)


async def test_without_the_application_the_program_still_gets_its_own(stack: AsyncExitStack) -> None:
    program = await stack.enter_async_context(server())
    around = await stack.enter_async_context(place(1, program.port))
    near = await stack.enter_async_context(client(around.port))
    refused, taken = near.ask(GET), near.ask([*GET, TAKE])
    assert (await near.next(StreamReset)).error_code == ErrorCodes.REFUSED_STREAM
    far = await program.accepted()
    far.answer((await far.next(RequestReceived)).stream_id, b"here")
    assert await near.body(taken) == b"here"
    assert refused == 1 and "cannot be reached" in around.said[0]


async def test_a_push_is_refused(stack: AsyncExitStack) -> None:
    there = await made(stack)
    there.client.ask(GET)
    came = (await there.application.next(RequestReceived)).stream_id
    there.application.raw(
        bytes.fromhex("000005 05 04") + came.to_bytes(4, "big") + bytes.fromhex("0000000288")
    )
    assert (await there.application.next(ConnectionTerminated)).error_code == ErrorCodes.PROTOCOL_ERROR


async def test_a_body_that_does_not_come_is_no_match(stack: AsyncExitStack) -> None:
    there = await made(stack, filter=Filter(b"mine"), limits=Limits(body_within=0.05))
    number = there.client.h2.get_next_available_stream_id()
    there.client.h2.send_headers(number, POST)
    there.client.h2.send_data(number, b"mi")
    there.client.flush()
    came = (await there.application.next(RequestReceived)).stream_id
    there.client.h2.send_data(number, b"ne")
    there.client.h2.send_headers(number, [("x-last", "1")], end_stream=True)
    there.client.flush()
    assert await there.application.body(came) == b"mine"
    assert there.place.said == ["no match: its body took more than 0.05 s"]


async def test_a_client_that_waits_for_100_continue_is_told(stack: AsyncExitStack) -> None:
    there = await made(stack, filter=Filter(b"mine"), limits=Limits(body_within=20))
    number = there.client.h2.get_next_available_stream_id()
    there.client.h2.send_headers(number, [*POST, ("expect", "100-continue")])
    there.client.flush()
    interim = await there.client.next(InformationalResponseReceived)
    assert list(interim.headers) == [(b":status", b"100")]
    there.client.h2.send_data(number, b"mine", end_stream=True)
    there.client.flush()
    program = await there.programs.accepted()
    came = (await program.next(RequestReceived)).stream_id
    assert await program.body(came) == b"mine"
    program.answer(came, b"yes")
    assert await there.client.body(number) == b"yes"


async def test_a_body_larger_than_the_window_is_held_and_decides(stack: AsyncExitStack) -> None:
    there = await made(stack, filter=Filter(b"mine"), limits=Limits(body=400_000, body_within=20))
    number = there.client.h2.get_next_available_stream_id()
    there.client.h2.send_headers(number, POST)
    body = b"x" * 300_000 + b"mine"
    await send(there.client, number, body)
    program = await there.programs.accepted()
    assert await program.body((await program.next(RequestReceived)).stream_id) == body


async def send(peer: Peer, stream: int, body: bytes) -> None:
    """As windows allow."""
    while body:
        room = min(peer.h2.local_flow_control_window(stream), peer.h2.max_outbound_frame_size)
        if not room:
            await peer.next(WindowUpdated)
            continue
        peer.h2.send_data(stream, body[:room])
        peer.flush()
        await peer.drain()
        body = body[room:]
    peer.h2.end_stream(stream)
    peer.flush()
