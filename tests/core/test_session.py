"""check, plan, act: order, undo, and what a failure leaves behind. Real channel, fake runtime and engine."""

import asyncio
import errno
from contextlib import AsyncExitStack

import pytest
from attrs import frozen

from pymirror.core.call import Call, Text
from pymirror.core.channel import Channel, Keys
from pymirror.core.errors import ChannelLost, ClusterError, Overslept, PeerError, PymirrorError, SupportError
from pymirror.core.feature import AgentFeature, Launch, LayerFeature, intercepts
from pymirror.core.handshake import NAME, Desk
from pymirror.core.probe import Probe
from pymirror.core.session import AHEAD, Endpoint, Found, Part, Plan, reason, run
from pymirror.layer.calls import Dispatch

events: list = []
PROBE = Probe("liveness", "tcp", 80)


@frozen
class Config:
    refuse: bool = False
    lacks: int = 0  # the errno of what the agent half may not do


class Layer(LayerFeature):
    name = "thing"
    Config = Config

    @classmethod
    def check(cls, config):
        events.append("half checked")
        if config == "lacking":
            raise SupportError("no thing here")

    @classmethod
    def rights(cls, config):
        return frozenset({"ROOT"}) if config == "no such right" else super().rights(config)

    async def prepare(self, launch):
        events.append("half prepared")
        assert (launch.directory, launch.probes) == ("/private", (PROBE,))
        if self.config.refuse:
            raise PermissionError(errno.EACCES, "not for you", "/secret")
        launch.environ["THING"] = "1"
        launch.known.append((Call("hostname"), Text("t", value=b"pod")))

    @intercepts("hostname")
    def hostname(self, call):
        return None

    async def aclose(self):
        events.append("half closed")


class Agent(AgentFeature):
    name = "thing"
    Config = Config

    async def start(self, target):
        if self.config.lacks:
            raise OSError(self.config.lacks, "the agent lacks SYS_THING")

    async def aclose(self):
        events.append("agent half closed")


class Report:
    def __getattr__(self, name):
        return lambda *args: events.append((name, *args)) if name == "ready" else None


class Runtime:
    """An agent in this process, over a real channel."""

    def __init__(self, refuse=None, await_goodbye=False):
        self.refuse, self.left, self.channel = refuse, asyncio.Event(), None
        self.await_goodbye = await_goodbye

    async def check(self, features):
        events.append("runtime checked")
        if self.refuse:
            raise self.refuse
        return Found("a target", probes=(PROBE,))

    async def start(self, found, order, undo):
        events.append("agent started")
        self.order = order
        keys = Keys.generate()
        self.channel = Channel.listen(keys, order.layer_key)
        halves = AsyncExitStack()
        undo.callback(events.append, "agent undone")
        undo.push_async_callback(self.channel.aclose)
        undo.push_async_callback(halves.aclose)
        if self.await_goodbye:
            undo.push_async_callback(asyncio.wait_for, self.left.wait(), 5)
        desk = Desk(self.channel, "1", lambda names: {"thing": Agent}, None, halves, self.left.set)
        self.channel.serve(NAME, desk)
        return Endpoint(f"tcp://127.0.0.1:{self.channel.port}", keys.public)


class Running:
    pid = 42

    def __init__(self, status):
        self.status = asyncio.get_running_loop().create_future()
        if status is not None:
            self.status.set_result(status)

    async def wait(self):
        return await asyncio.shield(self.status)

    def end(self, message):
        events.append(("ended", message))
        self.status.set_result(143)


class Engine:
    guests = None

    def __init__(self, status=7, lacking=None):
        self.status, self.lacking, self.learned, self.environ = status, lacking, [], None

    def check(self, calls):
        events.append(("engine checked", calls))
        if self.lacking:
            raise self.lacking

    def learn(self, call, verdict):
        self.learned.append(call.name)

    async def start(self, argv, environ, calls, dispatch):
        events.append("program started")
        self.environ, self.running = environ, Running(self.status)
        return self.running


@pytest.fixture(autouse=True)
def _fresh():
    events.clear()


NO_CONFIG = Config()


def make_folder(undo):
    events.append("folder made")
    undo.callback(events.append, "folder removed")
    return "/private"


def plan(runtime, engine, config=NO_CONFIG, version="1", **more):
    launch, parts, keys = Launch(["program"], {}, ""), [Part(Layer, config)], Keys.generate()
    return Plan(version, launch, parts, runtime, engine, Dispatch, Report(), keys, make_folder, **more)


async def test_the_whole_way_and_back():
    runtime, engine = Runtime(), Engine()
    async with AsyncExitStack() as undo:
        assert await run(plan(runtime, engine), undo) == 7
        assert engine.environ == {"THING": "1"} and engine.learned == ["hostname"]
    assert [e for e in events if isinstance(e, str)] == [
        "half checked",
        "runtime checked",
        "agent started",
        "folder made",
        "half prepared",
        "program started",
        "half closed",
        "folder removed",
        "agent half closed",
        "agent undone",
    ]
    assert ("engine checked", frozenset({"hostname"})) == events[0]
    assert runtime.order.rights == ("SYS_PTRACE",)  # what a half needs that says nothing


@pytest.mark.parametrize(
    ("runtime_error", "engine_error", "config"),
    [
        (ClusterError("no such pod"), None, Config()),
        (None, SupportError("no seccomp"), Config()),
        (None, None, "lacking"),
        (None, None, "no such right"),
    ],
)
async def test_what_is_refused_is_refused_before_anything_changed(runtime_error, engine_error, config):
    async with AsyncExitStack() as undo:
        with pytest.raises(PymirrorError):
            await run(plan(Runtime(runtime_error), Engine(lacking=engine_error), config), undo)
    assert not {"agent started", "folder made", "half prepared"} & {e for e in events if isinstance(e, str)}


async def test_an_agent_of_another_version_is_refused_and_undone():
    runtime = Runtime()
    other = plan(runtime, Engine(), version="2")
    async with AsyncExitStack() as undo:
        with pytest.raises(PymirrorError, match="pymirror 1"):
            await run(other, undo)
    assert events[-1] == "agent undone" and "program started" not in events


async def test_a_lost_channel_ends_the_program_in_words():
    runtime, engine = Runtime(), Engine(status=None)
    async with AsyncExitStack() as undo:
        task = asyncio.ensure_future(run(plan(runtime, engine), undo))
        while "program started" not in events:
            assert not task.done(), task.result()
            await asyncio.sleep(0)
        await runtime.channel.aclose()
        assert await asyncio.wait_for(task, 10) == PymirrorError.exit_status
    assert any(isinstance(e, tuple) and e[0] == "ended" and "lost" in e[1] for e in events)


@pytest.mark.parametrize(
    ("answer", "lost", "words"),
    [
        (lambda: "the target was deleted", ChannelLost("broke"), "the target was deleted"),
        (lambda: "", ChannelLost("broke"), "broke"),
        (lambda: fail(ClusterError("no answer")), ChannelLost("broke"), "broke"),
        (lambda: fail(asyncio.TimeoutError()), ChannelLost("broke"), "broke"),
        (lambda: "the agent ended", Overslept("stopped for 45 s"), "stopped for 45 s"),
    ],
)
async def test_the_runtime_is_asked_why_the_channel_is_lost(answer, lost, words):
    class Knows(Runtime):
        async def lost(self, found):
            assert found.title == "a target"
            return answer()

    assert await reason(Knows(), Found("a target"), lost) == words


def fail(error):
    raise error


async def test_a_runtime_that_knows_nothing_of_losses_is_not_asked():
    assert await reason(Runtime(), Found("a target"), ChannelLost("broke")) == "broke"


async def test_goodbye_reaches_the_agent():
    runtime = Runtime(await_goodbye=True)
    async with AsyncExitStack() as undo:
        await run(plan(runtime, Engine()), undo)
        assert not runtime.left.is_set()
    assert runtime.left.is_set()


class Slow(Runtime):
    """Hangs in check or in start; `gives up`: in start it ends by itself, as a runtime should."""

    def __init__(self, where):
        super().__init__()
        self.where = where

    async def check(self, features):
        if self.where == "check":
            await asyncio.Event().wait()
        return await super().check(features)

    async def start(self, found, order, undo):
        self.order = order
        undo.callback(events.append, "agent undone")
        if self.where == "gives up":
            raise ClusterError("last seen: ImagePullBackOff")
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("check", "not ready after 0.2 s: still looking at the target"),
        ("start", "not ready after 0.2 s: still starting an agent for a target"),
    ],
)
async def test_one_deadline_for_all_of_starting(where, words):
    async with AsyncExitStack() as undo:
        with pytest.raises(PymirrorError, match=words):
            await run(plan(Slow(where), Engine(), startup_timeout=0.2), undo)
    assert "program started" not in events and ("agent undone" in events) == (where == "start")


async def test_the_runtime_has_less_time_than_the_session_so_that_its_words_are_heard():
    runtime = Slow("gives up")
    async with AsyncExitStack() as undo:
        with pytest.raises(ClusterError, match="last seen: ImagePullBackOff"):
            await run(plan(runtime, Engine(), startup_timeout=30.0), undo)
    assert 0 < runtime.order.within <= 30.0 - AHEAD
    assert events[-1] == "agent undone"


async def test_an_interrupted_start_is_undone():
    async with AsyncExitStack() as undo:
        task = asyncio.ensure_future(run(plan(Slow("check"), Engine()), undo))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_what_a_half_met_over_there_is_said_in_words():
    async with AsyncExitStack() as undo:
        with pytest.raises(PeerError, match="feature thing: not for you"):
            await run(plan(Runtime(), Engine(), Config(refuse=True)), undo)


@pytest.mark.parametrize(
    ("code", "hint"), [(errno.EPERM, "run it as root"), (errno.EACCES, "run it as root"), (errno.EMFILE, "")]
)
async def test_what_the_agent_half_lacks_is_said_in_words_with_what_gives_it(code, hint):
    runtime = Runtime()
    runtime.rights_hint = "run it as root"
    async with AsyncExitStack() as undo:
        with pytest.raises(PeerError) as caught:
            await run(plan(runtime, Engine(), Config(lacks=code)), undo)
    assert (caught.value.message, caught.value.hint) == ("feature thing: the agent lacks SYS_THING", hint)
    assert "agent undone" in events and "folder made" not in events and "program started" not in events
