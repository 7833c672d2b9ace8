"""Who gets into a channel: real sockets on loopback."""

from __future__ import annotations

import pytest
from channel_ends import Ask, Both, listening, soon

from pymirror.core.channel import Channel, Keys
from pymirror.core.errors import PeerError


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
