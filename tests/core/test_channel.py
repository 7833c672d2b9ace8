"""Real sockets on loopback: who gets in, what arrives, how it ends. Both ends share the loop."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest

from pymirror.core import link, mux, serving
from pymirror.core.channel import Channel, Keys
from pymirror.core.errors import ChannelLost, PeerError
from pymirror.core.feature import handles
from pymirror.core.message import message
from pymirror.core.streams import ChannelStream

T = TypeVar("T")
WITHIN = 20.0
MIB = 1 << 20


@message("test-channel")
class Ask:
    number: int


@message("test-channel")
class Data:
    data: bytes


@message("test-channel")
class Note:
    number: int


@message("test-channel")
class Wait:
    pass


@message("test-channel")
class Fail:
    how: str


@message("test-channel")
class Copy:
    """A stream whose bytes come back."""


@message("test-channel")
class Stall:
    """A stream nobody reads."""


class Half:
    def __init__(self) -> None:
        self.notes: list[int] = []
        self.noted = asyncio.Event()
        self.waiting, self.cancelled = asyncio.Event(), asyncio.Event()
        self.stalled: ChannelStream | None = None
        self.has_stalled = asyncio.Event()

    @handles(Ask)
    async def ask(self, ask: Ask) -> Ask:
        return Ask(ask.number + 1)

    @handles(Data)
    async def data(self, data: Data) -> Data:
        return data

    @handles(Note)
    async def note(self, note: Note) -> None:
        if note.number % 10 == 0:
            await asyncio.sleep(0)  # a slow handler: the next may not overtake it
        self.notes.append(note.number)
        self.noted.set()

    @handles(Wait)
    async def wait(self, _: Wait) -> Ask:
        self.waiting.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.cancelled.set()
        raise AssertionError

    @handles(Fail)
    async def fail(self, fail: Fail) -> Any:
        if fail.how == "errno":
            raise FileNotFoundError(errno.ENOENT, "gone", "/secret")
        if fail.how == "words":
            raise PeerError("not today", "try tomorrow")
        if fail.how == "large":
            return Data(bytes(17 * MIB))
        if fail.how == "no message":
            return 7
        raise KeyError("secret")

    @handles(Copy)
    async def copy(self, _: Copy, stream: ChannelStream) -> None:
        while data := await stream.read(300_000):
            await stream.write(data)
        await stream.close_write()

    @handles(Stall)
    async def stall(self, _: Stall, stream: ChannelStream) -> None:
        self.stalled = stream
        self.has_stalled.set()


async def soon(work: Awaitable[T]) -> T:
    return await asyncio.wait_for(work, WITHIN)


class Both:
    """A listening agent, its half, and a connected layer."""

    def __init__(self, agent: Channel, half: Half, agent_keys: Keys, layer_keys: Keys) -> None:
        self.agent, self.half, self.agent_keys, self.layer_keys = agent, half, agent_keys, layer_keys
        self.layer: Channel

    async def connect(self, keys: Keys | None = None, agent_key: str = "", **more: float) -> Channel:
        address = f"tcp://127.0.0.1:{self.agent.port}"
        return await soon(
            Channel.connect(address, keys or self.layer_keys, agent_key or self.agent_keys.public, **more)
        )


@asynccontextmanager
async def listening(**more: float) -> AsyncIterator[Both]:
    agent_keys, layer_keys, half = Keys.generate(), Keys.generate(), Half()
    agent = Channel.listen(agent_keys, layer_keys.public, **more)
    agent.serve("test-channel", half)
    try:
        yield Both(agent, half, agent_keys, layer_keys)
    finally:
        await soon(agent.aclose())


@pytest.fixture
async def both() -> AsyncIterator[Both]:
    async with listening() as made:
        made.layer = await made.connect()
        yield made
        await soon(made.layer.aclose())


# Who gets in ------------------------------------------------------------------------------------


def test_a_secret_does_not_show() -> None:
    keys = Keys.generate()
    assert keys.public in repr(keys) and keys.secret not in repr(keys)


async def test_another_key_gets_nothing_and_the_right_one_still_enters() -> None:
    async with listening() as both:
        with pytest.raises(PeerError, match="refused this session's key"):
            await both.connect(Keys.generate())
        assert both.agent.counters["refused"] >= 1 and not both.agent.counters["admitted"]
        layer = await both.connect()
        assert (await soon(layer.peer("test-channel").request(Ask(1)))).number == 2
        await layer.aclose()


async def test_an_agent_with_another_key_is_not_talked_to() -> None:
    async with listening() as both:
        with pytest.raises(PeerError, match=r"did not answer .* within 0.5 s"):
            await both.connect(agent_key=Keys.generate().public, within=0.5)


async def test_nobody_there_is_an_error_in_bounded_time() -> None:
    async with listening() as both:
        port = both.agent.port
    with pytest.raises(PeerError, match=f"did not answer at tcp://127.0.0.1:{port} within 0.3 s"):
        await Channel.connect(f"tcp://127.0.0.1:{port}", Keys.generate(), Keys.generate().public, within=0.3)


@pytest.mark.parametrize("address", ["nonsense", "tcp://127.0.0.1:no"])
async def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(PeerError, match="cannot be used"):
        await Channel.connect(address, Keys.generate(), Keys.generate().public)


async def test_a_taken_port() -> None:
    async with listening() as both:
        with pytest.raises(PeerError, match=f"127.0.0.1:{both.agent.port} cannot be listened on"):
            Channel.listen(Keys.generate(), Keys.generate().public, port=both.agent.port)


async def test_a_second_layer_with_the_key_is_refused_in_words(both: Both) -> None:
    with pytest.raises(PeerError, match="serves another connection already"):
        await both.connect()
    assert both.agent.counters["second layers"] >= 1
    assert (await soon(both.layer.peer("test-channel").request(Ask(1)))).number == 2


# Requests and events ----------------------------------------------------------------------------


async def test_many_requests_at_once(both: Both) -> None:
    peer = both.layer.peer("test-channel")
    answers = await soon(asyncio.gather(*(peer.request(Ask(n)) for n in range(3000))))
    assert [answer.number for answer in answers] == list(range(1, 3001))
    assert both.layer.round_trips == both.layer.counters["requests Ask"] == 3000
    assert both.layer.counters["messages"] < 300  # most left together


async def test_more_requests_than_may_be_open_wait(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mux, "MAX_OPEN", 4)
    peer = both.layer.peer("test-channel")
    answers = await soon(asyncio.gather(*(peer.request(Ask(n)) for n in range(50))))
    assert [answer.number for answer in answers] == list(range(1, 51))


async def test_bulk_comes_whole(both: Both) -> None:
    peer = both.layer.peer("test-channel")
    blobs = [bytes([n]) * size for n, size in enumerate((0, 511, 512, 65535, 131072, 3 * MIB, 16 * MIB))]
    answers = await soon(asyncio.gather(*(peer.request(Data(blob)) for blob in blobs)))
    assert [answer.data for answer in answers] == blobs


async def test_answers_that_are_not_taken_hold_further_requests(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mux, "MUCH", MIB)
    peer = both.layer.peer("test-channel")
    answers = await soon(asyncio.gather(*(peer.request(Data(bytes(MIB))) for _ in range(60))))
    assert [len(answer.data) for answer in answers] == [MIB] * 60


@pytest.mark.parametrize(
    ("how", "kind", "words"),
    [
        ("errno", FileNotFoundError, "gone"),
        ("words", PeerError, "not today"),
        ("large", PeerError, "ValueError"),
        ("no message", PeerError, "TypeError"),
        ("bug", PeerError, "test-channel failed over there: KeyError"),
    ],
)
async def test_errors_cross(
    both: Both, how: str, kind: type[Exception], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(kind, match=words) as caught:
        await soon(both.layer.peer("test-channel").request(Fail(how)))
    assert "secret" not in str(caught.value)
    assert len(caplog.records) == (how in ("large", "no message", "bug"))  # a bug is logged, once


async def test_a_message_without_a_handler(both: Both) -> None:
    with pytest.raises(PeerError, match="no half of test-channel here handles Ask"):
        await soon(both.agent.peer("test-channel").request(Ask(1)))
    with pytest.raises(TypeError, match="not a message of other"):
        both.layer.peer("other").send(Ask(1))


async def test_events_keep_their_order(both: Both) -> None:
    peer = both.layer.peer("test-channel")
    for number in range(200):
        peer.send(Note(number))
    await soon(peer.request(Ask(0)))
    while len(both.half.notes) < 200:
        both.half.noted.clear()
        await soon(both.half.noted.wait())
    assert both.half.notes == list(range(200))


async def test_more_than_the_sockets_hold_arrives(both: Both) -> None:
    """Far above the high water mark, in one turn of the loop: what ZeroMQ refuses is sent later."""
    peer = both.layer.peer("test-channel")
    answers = [asyncio.ensure_future(peer.request(Data(bytes(MIB)))) for _ in range(64)]
    await soon(asyncio.gather(*answers))
    assert both.layer.mux.queued == 0


async def test_a_flood_of_events_ends_the_connection(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "MAX_EVENTS", 5)
    for number in range(20):
        both.layer.peer("test-channel").send(Note(number))
    reason = await soon(both.agent.wait_closed())
    assert "more than 5 events of test-channel" in str(reason)


async def test_a_cancelled_request_cancels_its_handler(both: Both) -> None:
    request = asyncio.ensure_future(both.layer.peer("test-channel").request(Wait()))
    await soon(both.half.waiting.wait())
    request.cancel()
    await soon(both.half.cancelled.wait())
    await soon(both.layer.peer("test-channel").request(Ask(1)))
    assert not both.layer.mux._late and not both.agent.mux._asked


async def test_requests_cancelled_at_once_leave_nothing(both: Both) -> None:
    peer = both.layer.peer("test-channel")
    requests = [asyncio.ensure_future(peer.request(Wait())) for _ in range(20)]
    await asyncio.sleep(0)
    for request in requests:
        request.cancel()
    await soon(peer.request(Ask(1)))
    await soon(peer.request(Ask(1)))
    assert not both.layer.mux._late and not both.agent.mux._asked


async def test_a_request_with_a_limit(both: Both) -> None:
    with pytest.raises(asyncio.TimeoutError):
        await both.layer.peer("test-channel").request(Wait(), timeout=0.05)
    await soon(both.half.cancelled.wait())


# Streams ----------------------------------------------------------------------------------------


async def test_64_mib_there_and_back_beside_a_stalled_stream(both: Both) -> None:
    peer = both.layer.peer("test-channel")
    stalled = await peer.stream(Stall())
    stuck = asyncio.ensure_future(stalled.write(bytes(4 * MIB)))
    stream = await peer.stream(Copy())
    sent, received, pattern = hashlib.sha256(), hashlib.sha256(), bytes(range(251)) * 4178

    async def write() -> None:
        for _ in range(64):
            sent.update(pattern)
            await stream.write(pattern)
        await stream.close_write()

    async def read() -> int:
        size = 0
        while data := await stream.read(1 << 17):
            received.update(data)
            size += len(data)
        return size

    _, size = await soon(asyncio.gather(write(), read()))
    assert size == 64 * len(pattern) and sent.digest() == received.digest()
    assert both.half.stalled is not None and not stuck.done()
    assert sum(map(len, both.half.stalled._received)) <= mux.WINDOW
    assert stream.id not in both.layer.streams and stream.id not in both.agent.streams
    await stalled.aclose()
    with pytest.raises(BrokenPipeError):
        await soon(stuck)


async def test_single_bytes_cost_no_object_each(both: Both) -> None:
    stream = await both.layer.peer("test-channel").stream(Stall())
    for _ in range(3000):
        await stream.write(b"x")
    await soon(both.layer.peer("test-channel").request(Ask(1)))
    await soon(both.layer.peer("test-channel").request(Data(bytes(mux.BULK_FROM))))
    other = both.half.stalled
    assert other is not None and len(other._received) < 10
    read = [await soon(other.read(7)) for _ in range(10)]
    assert b"".join(read).startswith(b"x")


async def test_small_requests_pass_bulk(both: Both) -> None:
    peer = both.layer.peer("test-channel")
    stream = await peer.stream(Stall())
    writing = asyncio.ensure_future(stream.write(bytes(8 * MIB)))
    assert (await soon(peer.request(Ask(1)))).number == 2
    assert not writing.done()
    await stream.aclose()
    with pytest.raises(BrokenPipeError):
        await soon(writing)


async def test_a_reset_wakes_both_halves_of_the_other_side(both: Both) -> None:
    peer = both.layer.peer("test-channel")
    stream = await peer.stream(Stall())
    await soon(both.half.has_stalled.wait())
    assert both.half.stalled is not None
    reading = asyncio.ensure_future(stream.read())
    await both.half.stalled.aclose()
    with pytest.raises(ConnectionResetError):
        await soon(reading)
    with pytest.raises(ConnectionResetError):
        await stream.write(b"x")
    await stream.aclose()
    await stream.aclose()


async def test_a_stream_without_a_handler_fails_in_words(both: Both) -> None:
    stream = await both.agent.peer("test-channel").stream(Copy())
    with pytest.raises(PeerError, match="no half of test-channel here handles Copy"):
        await soon(stream.read())


# Ends -------------------------------------------------------------------------------------------


async def test_silence_ends_it_after_the_lease() -> None:
    async with listening() as both:
        layer = await both.connect(heartbeat=0.02, lease=0.2)
        waiting = asyncio.ensure_future(layer.peer("test-channel").request(Wait()))
        await soon(both.half.waiting.wait())
        both.agent._unwatch()  # as a process that was stopped: not a word
        reason = await soon(layer.wait_closed())
        assert "nothing heard from the other side" in str(reason)
        with pytest.raises(ChannelLost):
            await soon(waiting)
        with pytest.raises(ChannelLost):
            layer.peer("test-channel").send(Note(1))
        await soon(layer.aclose())


async def test_a_broken_connection_is_noticed_at_once(both: Both) -> None:
    waiting = asyncio.ensure_future(both.layer.peer("test-channel").request(Wait()))
    await soon(both.half.waiting.wait())
    both.agent._lose(ChannelLost("killed"))
    both.agent._close()  # as a killed process: not a word
    assert "the connection to the agent broke" in str(await soon(both.layer.wait_closed()))
    with pytest.raises(ChannelLost):
        await soon(waiting)


async def test_nobody_comes_within_the_lease() -> None:
    async with listening(heartbeat=0.02, lease=0.1) as both:
        assert "nothing heard" in str(await soon(both.agent.wait_closed()))


async def test_heartbeats_keep_an_idle_connection() -> None:
    async with listening(heartbeat=0.02, lease=0.3) as both:
        layer = await both.connect(heartbeat=0.02, lease=0.3)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(layer.wait_closed(), 0.7)
        assert (await soon(layer.peer("test-channel").request(Ask(1)))).number == 2
        await layer.aclose()


async def test_what_was_sent_before_the_end_arrives(both: Both) -> None:
    peer = both.layer.peer("test-channel")
    for number in range(100):
        peer.send(Note(number))
    await soon(both.layer.aclose())
    while len(both.half.notes) < 100:
        both.half.noted.clear()
        await soon(both.half.noted.wait())


async def test_the_end_fails_what_waits_and_may_be_repeated(both: Both) -> None:
    peer = both.layer.peer("test-channel")
    request = asyncio.ensure_future(peer.request(Wait()))
    stream = await peer.stream(Stall())
    reading = asyncio.ensure_future(stream.read())
    await soon(both.half.waiting.wait())
    began = time.monotonic()
    await asyncio.gather(both.layer.aclose(), both.layer.aclose())
    await both.layer.aclose()
    assert time.monotonic() - began < 1.5
    for work in (request, reading):
        with pytest.raises(ChannelLost, match="closed on this side"):
            await soon(work)
    with pytest.raises(ChannelLost):
        await peer.request(Ask(1))


async def test_the_end_does_not_wait_for_a_peer_that_is_gone(both: Both) -> None:
    await both.agent.aclose()
    began = time.monotonic()
    both.layer.peer("test-channel").send(Note(1))
    await soon(both.layer.aclose())
    assert time.monotonic() - began < link.FAREWELL + link.UNWIND + 0.5


async def test_a_cancelled_end_still_gives_everything_back(both: Both) -> None:
    await both.agent.aclose()
    both.layer.peer("test-channel").send(Note(1))
    closing = asyncio.ensure_future(both.layer.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(closing)
    assert both.layer._context.closed


async def test_a_peer_that_breaks_the_protocol_is_left(both: Both) -> None:
    both.layer._socket.send_multipart([b"nonsense"])
    assert "broke the protocol" in str(await soon(both.agent.wait_closed()))
