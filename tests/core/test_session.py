"""check, plan, act: order, undo, and what a failure leaves behind. Real channel, fake runtime and engine."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from pymirror.core.call import Call, Text
from pymirror.core.channel import Channel, Keys
from pymirror.core.errors import ClusterError, PymirrorError, SupportError
from pymirror.core.feature import AgentFeature, Launch, LayerFeature, NoConfig, intercepts
from pymirror.core.handshake import NAME, Desk
from pymirror.core.session import Endpoint, Found, Part, Plan, run
from pymirror.layer.calls import Dispatch

events: list = []


class Layer(LayerFeature):
    name = "thing"

    @classmethod
    def check(cls, config):
        events.append("half checked")
        if config == "lacking":
            raise SupportError("no thing here")

    async def prepare(self, launch):
        events.append("half prepared")
        launch.environ["THING"] = "1"
        launch.known.append((Call("hostname"), Text("t", value=b"pod")))

    @intercepts("hostname")
    def hostname(self, call):
        return None

    async def aclose(self):
        events.append("half closed")


class Agent(AgentFeature):
    name = "thing"

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
        return Found("a target")

    async def start(self, found, order, undo):
        events.append("agent started")
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


NO_CONFIG = NoConfig()


def plan(runtime, engine, config=NO_CONFIG, **more):
    launch = Launch(["program"], {}, "/nowhere")
    return Plan(
        "1", launch, [Part(Layer, config)], runtime, engine, Dispatch, Report(), Keys.generate(), **more
    )


async def test_the_whole_way_and_back():
    runtime, engine = Runtime(), Engine()
    async with AsyncExitStack() as undo:
        assert await run(plan(runtime, engine), undo) == 7
        assert engine.environ == {"THING": "1"} and engine.learned == ["hostname"]
    assert [e for e in events if isinstance(e, str)] == [
        "half checked",
        "runtime checked",
        "agent started",
        "half prepared",
        "program started",
        "half closed",
        "agent half closed",
        "agent undone",
    ]
    assert ("engine checked", frozenset({"hostname"})) == events[0]


@pytest.mark.parametrize(
    ("runtime_error", "engine_error", "config"),
    [
        (ClusterError("no such pod"), None, NoConfig()),
        (None, SupportError("no seccomp"), NoConfig()),
        (None, None, "lacking"),
    ],
)
async def test_what_is_refused_is_refused_before_anything_changed(runtime_error, engine_error, config):
    async with AsyncExitStack() as undo:
        with pytest.raises(PymirrorError):
            await run(plan(Runtime(runtime_error), Engine(lacking=engine_error), config), undo)
    assert "agent started" not in events and "half prepared" not in events


async def test_an_agent_of_another_version_is_refused_and_undone():
    runtime = Runtime()
    other = Plan(
        "2",
        Launch(["p"], {}, "/"),
        [Part(Layer, NoConfig())],
        runtime,
        Engine(),
        Dispatch,
        Report(),
        Keys.generate(),
    )
    async with AsyncExitStack() as undo:
        with pytest.raises(PymirrorError, match="pymirror 1"):
            await run(other, undo)
    assert events[-1] == "agent undone" and "program started" not in events


async def test_a_lost_channel_ends_the_program_in_words():
    runtime, engine = Runtime(), Engine(status=None)
    async with AsyncExitStack() as undo:
        task = asyncio.ensure_future(run(plan(runtime, engine, heartbeat=0.05, lease=0.3), undo))
        while "program started" not in events:
            assert not task.done(), task.result()
            await asyncio.sleep(0)
        await runtime.channel.aclose()
        assert await asyncio.wait_for(task, 10) == PymirrorError.exit_status
    assert any(isinstance(e, tuple) and e[0] == "ended" and "lost" in e[1] for e in events)


async def test_goodbye_reaches_the_agent():
    runtime = Runtime(await_goodbye=True)
    async with AsyncExitStack() as undo:
        await run(plan(runtime, Engine()), undo)
        assert not runtime.left.is_set()
    assert runtime.left.is_set()
