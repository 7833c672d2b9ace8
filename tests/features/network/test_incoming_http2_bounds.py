"""What holds when a side does not read, or a client does what it should not: the others go on, memory is bounded."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress

import pytest
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    PingAckReceived,
    RemoteSettingsChanged,
    RequestReceived,
    ResponseReceived,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import StreamClosedError
from h2.settings import SettingCodes
from http2_peer import GET, POST, TAKE, Peer, Server, client, server
from http2_place import Place, place
from incoming_agent import until
from incoming_asking import Asks

from pymirror.features.network.incoming import http2_frames as frames
from pymirror.features.network.incoming.budget import BUDGET
from pymirror.features.network.incoming.http2_headers import KNOWN
from pymirror.features.network.incoming.http2_windows import MOST
from pymirror.features.network.incoming.limits import Limits

WHOLE = 3 << 20


@pytest.fixture(name="application")
async def application_fixture() -> AsyncIterator[Server]:
    async with server({SettingCodes.INITIAL_WINDOW_SIZE: 65535}) as application:
        yield application


@pytest.fixture(name="there")
async def there_fixture(application: Server) -> AsyncIterator[Place]:
    async with place(application.port, limits=Limits(head=0.3)) as there:
        yield there
    assert BUDGET.held == 0


async def pour(peer: Peer, stream: int, size: int, ends: bool = True) -> None:
    """So many bytes, as windows allow."""
    while size:
        room = min(peer.h2.local_flow_control_window(stream), peer.h2.max_outbound_frame_size, size)
        if not room:
            await peer.next(WindowUpdated)
            continue
        peer.h2.send_data(stream, b"x" * room, end_stream=ends and room == size)
        size -= room
        peer.flush()
        await peer.drain()


async def opened(near: Peer, far: Peer) -> tuple[int, int]:
    """A request without an end: (number at the client, at the application)."""
    number = near.h2.get_next_available_stream_id()
    near.h2.send_headers(number, POST)
    near.flush()
    return number, (await far.next(RequestReceived)).stream_id


async def test_large_bodies_both_ways(there: Place, application: Server) -> None:
    async with client(there.port) as near:
        far = await application.accepted()
        number, came = await opened(near, far)
        far.h2.send_headers(came, [(":status", "200")])
        far.flush()
        up, down = await asyncio.gather(
            asyncio.create_task(both(far, came, WHOLE)), asyncio.create_task(both(near, number, WHOLE))
        )
    assert (up, down) == (WHOLE, WHOLE)


async def both(peer: Peer, stream: int, size: int) -> int:
    """Send so many, and read meanwhile: how many came."""
    came = 0
    while True:
        room = min(peer.h2.local_flow_control_window(stream), peer.h2.max_outbound_frame_size, size)
        if room:
            peer.h2.send_data(stream, b"x" * room, end_stream=room == size)
            size -= room
            peer.flush()
            await peer.drain()
            continue
        event = await peer.next(object)  # type: ignore[type-abstract]
        came += len(getattr(event, "data", None) or b"")
        if type(event).__name__ == "StreamEnded":
            if not size:
                return came
            await pour(peer, stream, size)
            return came


async def test_streams_that_are_not_read_hold_up_no_others(there: Place, application: Server) -> None:
    async with client(there.port, {SettingCodes.INITIAL_WINDOW_SIZE: 0}) as near:
        far = await application.accepted()
        for _ in range(30):
            number = near.ask(GET)
            came = (await far.next(RequestReceived)).stream_id
            far.h2.send_headers(came, [(":status", "200")])
            far.h2.send_data(came, b"x" * 16000)
            far.h2.send_data(came, b"x" * 16000)
            far.flush()
        number = near.ask(GET)
        came = (await far.next(RequestReceived)).stream_id
        near.h2.increment_flow_control_window(100, number)
        near.flush()
        far.answer(came, b"y" * 100)
        assert await near.body(number) == b"y" * 100
        assert 30 * 32000 <= BUDGET.held <= 30 * 32000 + 4 * KNOWN < MOST


async def test_an_upload_that_is_not_read_holds_up_no_other(there: Place, application: Server) -> None:
    async with client(there.port) as near:
        far = await application.accepted()
        far.manual = True
        number, came = await opened(near, far)
        await pour(near, number, 100_000, False)
        near.h2.ping(b"12345678")
        near.flush()
        await near.next(PingAckReceived)
        while far.h2.remote_flow_control_window(came):
            await far.next(DataReceived)
        far.h2.increment_flow_control_window(1 << 20)
        far.flush()
        other = near.ask(POST, b"z" * 1000)
        came = (await far.next(RequestReceived)).stream_id
        assert await far.body(came) == b"z" * 1000
        far.answer(came, b"ok")
        assert await near.body(other) == b"ok"
        assert 0 < BUDGET.held <= 65535


async def test_a_program_that_does_not_read_holds_up_nobody_elses_upload(application: Server) -> None:
    """At a breakpoint, say. Its own uploads end, with words that say so, as soon as they take too much."""
    window = {SettingCodes.INITIAL_WINDOW_SIZE: 1 << 20}
    async with (
        server(window) as program,
        server(window) as application,
        place(application.port, program.port) as there,
        client(there.port) as near,
    ):
        far = await application.accepted()
        await near.next(RemoteSettingsChanged)
        taken = []
        for _ in range(4):
            number = near.h2.get_next_available_stream_id()
            near.h2.send_headers(number, [*POST, TAKE])
            near.flush()
            taken.append(number)
        deaf = await program.accepted()
        deaf.manual = True
        for number in taken:
            with suppress(StreamClosedError):
                await pour(near, number, 1 << 20)
        number, came = await opened(near, far)
        far.h2.increment_flow_control_window(1 << 20)
        far.flush()
        await asyncio.gather(pour(near, number, 500_000), far.body(came))
        assert BUDGET.held <= MOST
        assert "does not take what is sent" in there.said[0]


async def test_a_thousand_streams_and_not_one_more(there: Place, application: Server) -> None:
    async with client(there.port) as near:
        far = await application.accepted()
        await near.next(RemoteSettingsChanged)
        near.h2.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = 2000
        near.h2.remote_settings.acknowledge()
        numbers = [near.ask(GET) for _ in range(1001)]
        reset = await near.next(StreamReset)
        assert (reset.stream_id, reset.error_code) == (numbers[-1], ErrorCodes.REFUSED_STREAM)
        for _ in range(1000):
            far.answer((await far.next(RequestReceived)).stream_id)
        for number in numbers[:-1]:
            await near.next(ResponseReceived, number)


async def test_streams_wait_for_a_program_that_takes_few(application: Server) -> None:
    async with AsyncExitStack() as stack:
        program = await stack.enter_async_context(server({SettingCodes.MAX_CONCURRENT_STREAMS: 2}))
        there = await stack.enter_async_context(place(application.port, program.port))
        near = await stack.enter_async_context(client(there.port))
        numbers = [near.ask([*POST, TAKE], b"%d" % number) for number in range(50)]
        far = await program.accepted()
        for number in range(50):
            came = (await far.next(RequestReceived)).stream_id
            assert far.h2.open_inbound_streams <= 2
            far.answer(came, await far.body(came))
            assert await near.body(numbers[number]) == b"%d" % number


def block(number: int, payload: bytes = b"", flags: int = 0, kind: int = frames.HEADERS) -> bytes:
    return frames.frame(kind, flags, number, payload)


REQUEST = bytes.fromhex("828684") + b"\x01\x05there"
END = frames.END_HEADERS | frames.END_STREAM
FLOODS = {
    "resets": b"".join(
        block(n, REQUEST, END) + frames.rst_stream(n, frames.CANCEL) for n in range(1, 4400, 2)
    ),
    "continuations": block(1, REQUEST) + block(1, kind=frames.CONTINUATION) * 100,
    "long head": block(1, REQUEST) + block(1, b"\x00" * 16000, 0, frames.CONTINUATION) * 5,
    "indexed bomb": block(1, REQUEST + b"\x40\x01a\x7f\xa1\x1e" + b"v" * 4000, frames.END_HEADERS)
    + block(3, REQUEST + b"\xbe" * 10000, frames.END_HEADERS),
    "table": block(1, b"\x3f\xff\xff\xff\x7f", END),
    "broken table": block(1, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", END),
    "index 0": block(1, b"\x80", END),
    "frame": struct.pack(">BHBBI", 2, 0, frames.DATA, 0, 1),
    "padding": block(1, b"\xff" + REQUEST, END | frames.PADDED),
    "priority": block(1, b"", END | frames.PRIORITISED),
    "even": block(2, REQUEST, END),
    "no stream": block(0, REQUEST, END),
    "idle": frames.frame(frames.DATA, 0, 99, b"x"),
    "idle window": frames.window_update(99, 1),
    "idle reset": frames.rst_stream(99, 0),
    "settings": frames.frame(frames.SETTINGS, 0, 0, b"12345"),
    "window setting": frames.settings([(4, 1 << 31)]),
    "frame setting": frames.settings([(5, 1)]),
    "ack": frames.frame(frames.SETTINGS, frames.ACK, 0, b"123456"),
    "ping": frames.frame(frames.PING, 0, 0, b"1234"),
    "window": frames.window_update(0, frames.LARGEST_NUMBER),
    "no window": frames.window_update(0, 0),
    "interrupted": block(1, REQUEST) + frames.frame(frames.PING, 0, 0, b"12345678"),
    "continued": block(1, b"", 0, frames.CONTINUATION),
    "push": block(1, b"", 0, frames.PUSH_PROMISE),
    "http1": b"GET / HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("name", FLOODS)
async def test_a_client_that_breaks_the_rules_ends_alone(
    there: Place, application: Server, name: str
) -> None:
    async with client(there.port) as good, client(there.port) as bad:
        far = await application.accepted()
        bad.raw(FLOODS[name])
        ended = None
        try:
            while not isinstance(ended, ConnectionTerminated):
                ended = await bad.next(object)  # type: ignore[type-abstract]
        except (EOFError, ConnectionError):
            pass
        assert isinstance(ended, ConnectionTerminated) and ended.error_code
        other = await application.accepted()
        number = good.ask(GET)
        answered = asyncio.create_task(answers(far)), asyncio.create_task(answers(other))
        assert (await good.next(ResponseReceived)).stream_id == number
        for task in answered:
            task.cancel()
    assert len(there.said) == 1 and "took more than" not in there.said[0]


async def test_heads_that_wait_for_the_program_are_bounded(application: Server) -> None:
    """It allows one stream; of a client that opens more is read what there is room for."""
    async with (
        server({SettingCodes.MAX_CONCURRENT_STREAMS: 1}) as program,
        place(application.port, program.port) as there,
        client(there.port) as near,
    ):
        await near.next(RemoteSettingsChanged)
        big = (b"x-big", b"y" * 30_000)
        numbers = [near.ask([*GET, TAKE, big]) for _ in range(300)]
        far = await program.accepted()
        first = await far.next(RequestReceived)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert 4 << 20 < BUDGET.held < 5 << 20
        far.answer(first.stream_id)
        for _ in numbers[1:]:
            far.answer((await far.next(RequestReceived)).stream_id)
        for number in numbers:
            await near.body(number)
    assert BUDGET.held == 0


async def answers(peer: Peer) -> None:
    while True:
        peer.answer((await peer.next(RequestReceived)).stream_id)


async def test_pings_whose_answers_are_not_read(there: Place, application: Server) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", there.port)
    writer.write(frames.PREFACE + frames.settings([]))
    reader._transport.pause_reading()  # type: ignore[attr-defined]
    pings = frames.frame(frames.PING, 0, 0, b"12345678") * 10000
    while not there.said:
        writer.write(pings)
        try:
            await writer.drain()
        except ConnectionError:
            break
    await there.until_over()
    assert there.said == ["a client's HTTP/2 connection was ended: answers are not read"]
    writer.transport.abort()


async def heard(port: int, data: bytes) -> list[frames.Frame]:
    """What a client is told that sends that and no more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    found = frames.Cutter(1 << 20).feed(await reader.read())
    writer.close()
    return found


async def test_more_data_than_any_window(there: Place, application: Server) -> None:
    much = [block(1, REQUEST, frames.END_HEADERS), *[frames.frame(frames.DATA, 0, 1, b"x" * 16384)] * 400]
    much += [frames.goaway(0, 0), block(0)]  # which ends it
    found = await heard(there.port, frames.PREFACE + frames.settings([]) + b"".join(much))
    assert (frames.RST_STREAM, 0, 1, b"\0\0\0\3") in found
    assert frames.left(found[-1][3])[1] == frames.PROTOCOL_ERROR


async def test_a_request_with_an_old_number(there: Place, application: Server) -> None:
    sent = [block(5, REQUEST, END), block(3, REQUEST, END), block(0)]
    found = await heard(there.port, frames.PREFACE + frames.settings([]) + b"".join(sent))
    assert (frames.RST_STREAM, 0, 3, b"\0\0\0\5") in found


@pytest.mark.parametrize(
    "said", [b"", frames.PREFACE[:10], frames.PREFACE + frames.settings([]) + block(1, REQUEST)]
)
async def test_what_does_not_come_whole(there: Place, application: Server, said: bytes) -> None:
    found = await heard(there.port, said)
    assert found[-1][0] == frames.GOAWAY and frames.left(found[-1][3])[1] == frames.ENHANCE_YOUR_CALM
    await there.until_over()
    assert there.said == ["a client's HTTP/2 connection was ended: a head took more than 0.3 s"]


async def test_a_frame_that_never_ends(there: Place, application: Server) -> None:
    found = await heard(there.port, frames.PREFACE + frames.settings([]) + block(1, REQUEST, END)[:-1])
    assert frames.left(found[-1][3])[1] == frames.ENHANCE_YOUR_CALM
    await there.until_over()
    assert BUDGET.held == 0


async def test_data_may_take_its_time_and_counts(there: Place, application: Server) -> None:
    async with client(there.port) as near:
        far = await application.accepted()
        number, came = await opened(near, far)
        near.h2.send_data(number, b"x" * 16000, end_stream=True)
        data = near.h2.data_to_send()
        near.raw(data[:-1])
        await until(lambda: BUDGET.held > 16000)
        await asyncio.sleep(1)  # more than a head may take here
        near.raw(data[-1:])
        assert await far.body(came) == b"x" * 16000
        assert BUDGET.held < 16000


async def test_many_heads_one_after_the_other_are_not_one_that_is_slow(
    there: Place, application: Server
) -> None:
    async with client(there.port) as near:
        far = await application.accepted()
        held = b""
        for _ in range(20):
            near.h2.send_headers(near.h2.get_next_available_stream_id(), GET, end_stream=True)
            held += near.h2.data_to_send()
            near.raw(held[:-1])
            held = held[-1:]
            await asyncio.sleep(0.05)
        near.raw(held)
        for _ in range(20):
            far.answer((await far.next(RequestReceived)).stream_id)
        assert there.said == []


async def test_who_is_to_hold_less_knows_less_and_goes_on(there: Place, application: Server) -> None:
    async with client(there.port) as near:
        far = await application.accepted()
        for _ in range(3):
            number = near.ask(GET)
            far.answer((await far.next(RequestReceived)).stream_id)
            await near.body(number)
            assert BUDGET.held > 0
            (share,) = BUDGET._shares
            share.give_back()
            assert BUDGET.held == 0
        assert there.said == []


async def test_an_application_that_breaks_the_rules(there: Place, application: Server) -> None:
    async with client(there.port) as near:
        far = await application.accepted()
        near.ask(GET)
        await far.next(RequestReceived)
        far.raw(FLOODS["index 0"])
        assert (await near.next(ConnectionTerminated)).error_code == ErrorCodes.NO_ERROR
        assert (await far.next(ConnectionTerminated)).error_code == ErrorCodes.COMPRESSION_ERROR
    await there.until_over()


async def test_a_stream_that_waits_for_the_filter_holds_up_no_other(application: Server) -> None:
    """Its head is asked about, and then its body; others are decided meanwhile."""
    matcher = Asks()
    async with place(application.port, filter=matcher) as there, client(there.port) as near:
        far = await application.accepted()
        first, second = near.ask(POST, b"x" * 1000), near.ask(GET)
        await matcher.reached(2)
        matcher.asked[1].answer(False)
        far.answer((await far.next(RequestReceived)).stream_id, b"second")
        assert await near.body(second) == b"second"
        matcher.asked[0].answer(None)
        assert matcher.asked[2].body == b"x" * 1000
        matcher.asked[2].answer(False)
        came = (await far.next(RequestReceived)).stream_id
        assert await far.body(came) == b"x" * 1000
        far.answer(came, b"first")
        assert await near.body(first) == b"first"
    assert BUDGET.held == 0


async def test_new_sizes_of_windows_without_end(there: Place, application: Server) -> None:
    """Each walks all streams of the connection."""
    sizes = (frames.settings([(int(SettingCodes.INITIAL_WINDOW_SIZE), 1000 + at)]) for at in range(100))
    found = await heard(there.port, frames.PREFACE + frames.settings([]) + b"".join(sizes))
    assert found[-1][0] == frames.GOAWAY and frames.left(found[-1][3])[1] == frames.ENHANCE_YOUR_CALM
    await there.until_over()
    assert there.said == ["a client's HTTP/2 connection was ended: too many new sizes of windows"]


@pytest.mark.parametrize("how", ["refused early", "lost"])
async def test_of_an_upload_that_nobody_took_nothing_stays_counted(
    there: Place, application: Server, how: str
) -> None:
    """Its last bytes wait for the application's window when it answers, or goes."""
    async with client(there.port) as near:
        far = await application.accepted()
        far.manual = True
        number, came = await opened(near, far)
        await pour(near, number, 100_000, False)
        await until(lambda: BUDGET.held >= 100_000 - 65535)
        if how == "lost":
            far.close()
            with pytest.raises(EOFError):
                await near.next(StreamReset)
        else:
            far.answer(came, status="413")
            await near.next(ResponseReceived)
