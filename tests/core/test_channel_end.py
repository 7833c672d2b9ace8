"""How a channel ends: real sockets on loopback."""

from __future__ import annotations

import asyncio
import time

import pytest
from channel_ends import Ask, Both, Note, Stall, Wait, listening, soon

from pymirror.core import link, wire
from pymirror.core.errors import ChannelLost


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


async def test_a_part_that_is_too_large_is_not_taken_in(both: Both) -> None:
    both.layer._socket.send_multipart([bytes(wire.MAX_BLOB + 2000)])
    assert "the connection to the agent broke" in str(await soon(both.layer.wait_closed()))


async def test_a_message_that_is_too_large_is_not_looked_at(both: Both) -> None:
    both.layer._socket.send_multipart([bytes(wire.MAX_BLOB)] * 3)
    assert "larger than the wire allows" in str(await soon(both.agent.wait_closed()))
