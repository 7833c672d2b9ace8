"""The helpers feature authors test with, tried on a small feature and on broken ones."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from pymirror.core.errors import ChannelLost, PeerError
from pymirror.core.feature import AgentFeature, Launch, LayerFeature, NoConfig, handles
from pymirror.core.message import message
from pymirror.core.testing import FakeTarget, Transcript, conformance, pair


@frozen
class Config:
    prefix: str = "it is "


@message("test-name")
class AskName:
    pass


@message("test-name")
class Name:
    text: str


class Layer(LayerFeature):
    name = "test-name"
    Config = Config

    async def prepare(self, launch: Launch) -> None:
        launch.environ["NAME"] = (await self.peer.request(AskName())).text


class Agent(AgentFeature):
    name = "test-name"
    Config = Config
    closed = 0

    async def start(self, target: Any) -> None:
        self.target = target

    @handles(AskName)
    async def ask(self, _: AskName) -> Name:
        return Name(self.config.prefix + self.target.hostname().decode())

    async def aclose(self) -> None:
        self.closed += 1


async def test_both_halves_talk(tmp_path: Path) -> None:
    launch = Launch([], {}, "/nowhere")
    with FakeTarget(tmp_path, hostname="web-0") as target:
        async with pair(Layer, Agent, Config("this is "), target) as both:
            await both.layer.prepare(launch)
            assert both.link.round_trips == 2  # the greeting and the question
        assert launch.environ == {"NAME": "this is web-0"} and both.agent.closed == 1


async def test_a_failing_start_raises_its_errno() -> None:
    class Failing(Agent):
        async def start(self, target: Any) -> None:
            raise PermissionError(errno.EACCES, "no")

    with pytest.raises(PermissionError):
        async with pair(Layer, Failing):
            pass


async def test_a_cut_is_a_lost_channel() -> None:
    async with pair(Layer, Agent) as both:
        both.link.cut()
        with pytest.raises(ChannelLost, match="cut"):
            await both.layer.prepare(Launch([], {}, "/nowhere"))


async def test_a_stopped_layer_fills_the_agents_room_and_goes_on() -> None:
    heard: list[str] = []

    class Listening(Layer):
        @handles(Name)
        async def heard(self, name: Name) -> None:
            heard.append(name.text)

    async with pair(Listening, Agent) as both:
        both.link.stop()
        said = 0
        with pytest.raises(BlockingIOError):
            while said < 100_000:
                both.agent.peer.send(Name(str(said)))
                said += 1
        waiting = asyncio.ensure_future(both.agent.peer.drained())
        await asyncio.sleep(0)
        assert not waiting.done() and heard == []
        both.link.go_on()
        await asyncio.wait_for(waiting, 10)
        assert (await asyncio.wait_for(both.layer.peer.request(AskName()), 10)).text
    assert heard == [str(number) for number in range(said)] and said < 10_000


def test_the_target_tells_what_it_was_given(tmp_path: Path) -> None:
    with FakeTarget(tmp_path, {"A": "b"}, uid=7) as target:
        assert (target.environ(), target.hostname(), target.uid) == ({b"A": b"b"}, b"pod", 7)
        assert target.root >= 0
    assert target.root == -1
    target.close()


async def test_a_good_feature_conforms() -> None:
    await conformance(Layer, Agent, Config())


class OtherName(Agent):
    name = "test-other"


class OtherVersion(Agent):
    version = 2


class OtherConfig(Agent):
    Config = NoConfig


class ClosesOnce(Agent):
    async def aclose(self) -> None:
        assert self.closed == 0, "closed twice"
        self.closed += 1


class OddRights(Layer):
    @classmethod
    def rights(cls, config: Any) -> frozenset[str]:
        return frozenset({"ROOT"})


class Bug(Layer):
    async def prepare(self, launch: Launch) -> None:
        raise KeyError("a bug")


@pytest.mark.parametrize(
    ("layer", "agent", "words"),
    [
        (Layer, OtherName, "named 'test-name' and 'test-other'"),
        (Layer, OtherVersion, "different versions"),
        (Layer, OtherConfig, "different Config"),
        (Layer, ClosesOnce, "closed twice"),
        (OddRights, Agent, "not all Linux capabilities"),
        (Bug, Agent, "start, then close twice: KeyError"),
    ],
)
async def test_a_broken_feature_is_told_its_rule(layer: Any, agent: Any, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        await conformance(layer, agent, Config())


def test_a_transcript() -> None:
    talk = Transcript()
    number = talk.layer.request(AskName())
    (asked,) = talk.carry("layer")
    assert asked.id == number  # type: ignore[union-attr]
    talk.agent.fail(number, PeerError("no"), "test-name")
    ((side, answered),) = talk.exchange()
    assert side == "layer" and str(answered.error) == "no"  # type: ignore[union-attr]
    assert talk.lines == ["layer: request 1 test-name/AskName", "agent: error 1"]
    assert talk.carry("layer") == []


async def test_what_was_made_in_the_network_for_nobody_is_closed(tmp_path: Path) -> None:
    begun, go = threading.Event(), threading.Event()
    made: list[socket.socket] = []

    def work() -> socket.socket:
        begun.set()
        go.wait(10)
        made.append(socket.socket())
        return made[0]

    with FakeTarget(tmp_path) as target:
        waiting = asyncio.ensure_future(target.in_network(work))
        await asyncio.to_thread(begun.wait, 10)
        waiting.cancel()
        await asyncio.wait([waiting])
        go.set()
        target._network.shutdown(wait=True)
        assert made[0].fileno() == -1
