"""How a channel ends: real sockets on loopback."""

from __future__ import annotations

import asyncio

import pytest
from channel_ends import Ask, Both, Note, Stall, Wait, listening, soon
from hand_clock import HandClock

from pymirror.core import wire
from pymirror.core.errors import ChannelLost


async def test_silence_ends_it() -> None:
    clock = HandClock()
    async with listening() as both:
        layer = await both.connect(clock=clock)
        waiting = asyncio.ensure_future(layer.peer("test-channel").request(Wait()))
        await soon(both.half.waiting.wait())
        both.agent._unwatch()  # as a process that was stopped: not a word
        closed = asyncio.ensure_future(layer.wait_closed())
        while not closed.done():
            await clock.go_on(1.0)
        assert "nothing heard from the other side" in str(closed.result())
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
    clock = HandClock()
    async with listening(clock=clock) as both:
        closed = asyncio.ensure_future(both.agent.wait_closed())
        await clock.go_on(40.0)
        assert "nothing heard" in str(await soon(closed))


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
    await soon(asyncio.gather(both.layer.aclose(), both.layer.aclose()))
    await soon(both.layer.aclose())
    for work in (request, reading):
        with pytest.raises(ChannelLost, match="closed on this side"):
            await soon(work)
    with pytest.raises(ChannelLost):
        await peer.request(Ask(1))


async def test_the_end_does_not_wait_for_a_peer_that_is_gone() -> None:
    async with listening() as both:
        layer = await both.connect(clock=HandClock())  # which nobody moves
        await both.agent.aclose()
        layer.peer("test-channel").send(Note(1))
        await soon(layer.aclose())


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


async def test_a_part_that_is_too_large_is_not_taken_in(both: Both) -> None:
    both.layer._socket.send_multipart([bytes(wire.MAX_BLOB + 2000)])
    assert "the connection to the agent broke" in str(await soon(both.layer.wait_closed()))


async def test_a_message_that_is_too_large_is_not_looked_at(both: Both) -> None:
    both.layer._socket.send_multipart([bytes(wire.MAX_BLOB)] * 3)
    assert "larger than the wire allows" in str(await soon(both.agent.wait_closed()))
