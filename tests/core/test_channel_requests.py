"""Requests and events over real sockets on loopback."""

from __future__ import annotations

import asyncio
import errno

import pytest
from channel_ends import MIB, Ask, Both, Data, Fail, Note, Remark, Wait, soon

from pymirror.core import link, mux, room, serving, wire
from pymirror.core.errors import ChannelLost, PeerError


async def test_many_requests_at_once(both: Both) -> None:
    peer = both.layer.peer("test-channel")
    answers = await soon(asyncio.gather(*(peer.request(Ask(n)) for n in range(3000))))
    assert [answer.number for answer in answers] == list(range(1, 3001))
    assert both.layer.round_trips == both.layer.counters["requests Ask"] == 3000
    assert both.layer.counters["messages"] < 300  # most left together


async def test_more_requests_than_may_be_open_wait(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_OPEN", 4)
    peer = both.layer.peer("test-channel")
    answers = await soon(asyncio.gather(*(peer.request(Ask(n)) for n in range(50))))
    assert [answer.number for answer in answers] == list(range(1, 51))


async def test_bulk_comes_whole(both: Both) -> None:
    peer = both.layer.peer("test-channel")
    blobs = [bytes([n]) * size for n, size in enumerate((0, 511, 512, 65535, 131072, 3 * MIB, wire.MAX_BLOB))]
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


async def test_a_plain_handler_of_events_waits_for_a_slow_one_before_it(both: Both) -> None:
    peer = both.layer.peer("test-channel")
    for message in (Remark(1), Note(10), Remark(2)):
        peer.send(message)
    while len(both.half.notes) < 3:
        both.half.noted.clear()
        await soon(both.half.noted.wait())
    assert both.half.notes == [1, 10, 2]


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
    assert not both.layer.mux._requests._late and not both.agent.mux._asked


async def test_requests_cancelled_at_once_leave_nothing(both: Both) -> None:
    peer = both.layer.peer("test-channel")
    requests = [asyncio.ensure_future(peer.request(Wait())) for _ in range(20)]
    await asyncio.sleep(0)
    for request in requests:
        request.cancel()
    await soon(peer.request(Ask(1)))
    await soon(peer.request(Ask(1)))
    assert not both.layer.mux._requests._late and not both.agent.mux._asked


async def test_a_request_with_a_limit(both: Both) -> None:
    with pytest.raises(TimeoutError):
        await both.layer.peer("test-channel").request(Wait(), timeout=0.05)
    await soon(both.half.cancelled.wait())


async def test_the_limit_of_a_request_covers_the_wait_for_its_turn(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MAX_OPEN", 1)
    peer = both.layer.peer("test-channel")
    hanging = asyncio.ensure_future(peer.request(Wait(), timeout=None))
    await soon(both.half.waiting.wait())
    with pytest.raises(TimeoutError) as late:
        await soon(peer.request(Ask(1), timeout=0.05))
    assert late.value.errno == errno.ETIMEDOUT and both.layer.counters["requests Ask"] == 0
    hanging.cancel()


async def test_a_request_without_a_word_about_time_has_a_limit(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link.LinkPeer.request, "__defaults__", (0.05,))
    with pytest.raises(TimeoutError, match="did not answer Wait"):
        await soon(both.layer.peer("test-channel").request(Wait()))
    await soon(both.half.cancelled.wait())


async def test_events_nobody_takes_are_refused_until_there_is_room(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MAX_EVENTS", 8)
    peer = both.layer.peer("test-channel")
    await soon(peer.drained())  # nothing waits: at once
    for number in range(8):
        peer.send(Note(number))
    with pytest.raises(BlockingIOError):
        peer.send(Note(8))
    await soon(peer.drained())
    peer.send(Note(8))
    while len(both.half.notes) < 9:
        both.half.noted.clear()
        await soon(both.half.noted.wait())
    assert both.half.notes == list(range(9))


async def test_who_waits_for_room_hears_that_the_channel_is_gone(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MAX_EVENTS", 2)
    peer = both.layer.peer("test-channel")
    peer.send(Note(1))
    peer.send(Note(2))
    waiting = asyncio.ensure_future(peer.drained())
    await asyncio.sleep(0)
    both.layer._lose(ChannelLost("cut"))
    with pytest.raises(ChannelLost, match="cut"):
        await soon(waiting)
    with pytest.raises(ChannelLost):
        await peer.drained()
