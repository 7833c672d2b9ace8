"""Versions are compared on both sides, halves are started once and closed in reverse."""

import asyncio
from contextlib import AsyncExitStack
from typing import ClassVar

import pytest
from attrs import evolve, frozen

from pymirror.core.errors import PeerError, PluginError
from pymirror.core.feature import AgentFeature
from pymirror.core.handshake import Desk, Goodbye, Hello, Welcome, check_versions, greet
from pymirror.core.windows import FIRST, TERMS, Terms


@frozen
class Config:
    word: str = "x"


class Half(AgentFeature):
    name = "half"
    Config = Config
    log_of_events: ClassVar[list] = []

    async def start(self, target):
        self.log_of_events.append(("start", self.config, target))

    async def aclose(self):
        self.log_of_events.append("close")


class FakeChannel:
    def __init__(self):
        self.served = {}

    def peer(self, feature):
        return f"peer of {feature}"

    def serve(self, feature, half):
        self.served[feature] = half

    def agree(self, terms):
        self.terms = terms


SMALL = Terms(to_layer=5 << 20, to_agent=3 << 20)
HELLO = Hello("1", {"half": 1}, {"half": b"\x81\xa4word\xa1y"}, SMALL)


@pytest.mark.parametrize(
    ("version", "features", "words"),
    [
        ("2", {"half": 1}, "agent is pymirror 2"),
        ("1", {}, "no half of the feature half"),
        ("1", {"half": 7}, "version 1 on this side, 7 in the agent"),
    ],
)
def test_a_mismatch_is_refused_by_name(version, features, words):
    with pytest.raises(PeerError, match=words) as caught:
        check_versions(HELLO, version, features)
    assert caught.value.hint


async def test_halves_start_with_the_layers_configuration_and_are_closed():
    Half.log_of_events.clear()
    channel = FakeChannel()
    async with AsyncExitStack() as stack:
        desk = Desk(channel, "1", lambda names: {"half": Half}, "target", stack, lambda: None)
        welcome = await desk.hello(HELLO)
        assert welcome.features == {"half": 1} and welcome.windows == channel.terms == SMALL
        assert isinstance(channel.served["half"], Half)
        with pytest.raises(PeerError, match="greeted already"):
            await desk.hello(HELLO)
    assert Half.log_of_events == [("start", Config("y"), "target"), "close"]


@pytest.mark.parametrize(
    ("windows", "words"),
    [
        (Terms(first=7, share=3), f"differently: first 7 here, {FIRST} there; share 3 here, 2 there"),
        (
            Terms(to_agent=1 << 50),
            "session.in_flight_to_agent: 1125899906842624 is more than half of the memory",
        ),
    ],
)
async def test_windows_that_the_agent_cannot_keep_to_are_refused(windows, words):
    channel = FakeChannel()
    async with AsyncExitStack() as stack:
        desk = Desk(channel, "1", lambda names: {"half": Half}, None, stack, lambda: None)
        with pytest.raises(PeerError, match=words) as caught:
            await desk.hello(evolve(HELLO, windows=windows))
    assert caught.value.hint and not channel.served


async def test_an_agent_that_counts_otherwise_is_refused_by_the_layer():
    class Other(FakeChannel):
        def peer(self, feature):
            return self

        async def request(self, message):
            return Welcome("1", {}, Terms(first=7))

    with pytest.raises(PeerError, match=f"first {FIRST} here, 7 there"):
        await greet(Other(), "1", [])


async def test_a_configuration_that_does_not_fit_is_refused():
    async with AsyncExitStack() as stack:
        desk = Desk(FakeChannel(), "1", lambda names: {"half": Half}, None, stack, lambda: None)
        with pytest.raises(PluginError, match="half: the agent cannot read"):
            await desk.hello(Hello("1", {"half": 1}, {"half": b"\x81\xa4word\x07"}, TERMS))


async def test_goodbye_is_passed_on():
    left = []
    async with AsyncExitStack() as stack:
        await Desk(FakeChannel(), "1", dict, None, stack, lambda: left.append(1)).goodbye(Goodbye())
    assert left == [1]


class Draining(Half):
    drains: ClassVar[list] = []

    async def drain(self):
        await self.drains.pop()


@pytest.fixture
async def draining():
    async with AsyncExitStack() as stack:
        desk = Desk(FakeChannel(), "1", lambda names: {"half": Draining}, "target", stack, lambda: None)
        await desk.hello(HELLO)
        yield desk


async def test_what_goes_on_without_the_layer_is_waited_for(draining):
    event = asyncio.Event()
    Draining.drains[:] = [event.wait()]
    waiting = asyncio.ensure_future(draining.drain(60))
    done, _ = await asyncio.wait([waiting], timeout=0.01)
    assert not done
    event.set()
    await asyncio.wait([waiting], timeout=10)
    assert waiting.done()


async def test_it_is_cancelled_after_its_time(draining):
    forever = asyncio.get_running_loop().create_future()
    Draining.drains[:] = [forever]
    await draining.drain(0.01)
    assert forever.cancelled()


async def test_a_half_that_fails_at_it_is_told_of(draining, caplog):
    broken = asyncio.get_running_loop().create_future()
    broken.set_exception(ValueError("of the half"))
    Draining.drains[:] = [broken]
    await draining.drain(60)
    assert "ValueError: of the half" in caplog.text
