"""A session on one page: check, plan, act.

check  changes nothing anywhere; whatever can be refused is refused here. (A guard process waits already:
       it has to be forked before there are threads, and does nothing while this process lives.)
plan   every part says what it would do
act    done in order; each undo is registered at the line that makes it necessary

Core knows no runtime, engine or feature by name: they arrive as the protocols below.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Protocol

from attrs import define, frozen

from pymirror.core.call import Call, Verdict
from pymirror.core.capability import CAPABILITIES
from pymirror.core.channel import Channel, Keys
from pymirror.core.errors import ChannelLost, Overslept, PeerError, PluginError, PymirrorError
from pymirror.core.feature import INTERCEPTS, Guests, Launch, LayerFeature, Process, marked
from pymirror.core.handshake import NAME as HANDSHAKE
from pymirror.core.handshake import Goodbye, greet
from pymirror.core.limit import timeout
from pymirror.core.probe import Probe
from pymirror.core.windows import TERMS, Terms

log = logging.getLogger("pymirror.core.session")

Dispatch = Callable[[Call], Verdict | Awaitable[Verdict]]
"""A verdict at once where nobody has to wait for it."""

AHEAD = 1.0
"""Seconds a runtime gives up before the session does: it knows better what it waits for."""

ASKING = 3.0
"""Seconds a runtime may look for the reason of a lost connection, while the program waits for its end."""


@frozen
class Found:
    """A target as the runtime found it: `title` in words for the summary; `notes` are warnings. ports: of
    TCP, that it says it listens on. probes: of its ports. Both as far as the runtime knows."""

    title: str
    has_target: bool = True
    notes: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    detail: Any = None  # the runtime's own
    probes: tuple[Probe, ...] = ()


@frozen
class AgentOrder:
    """What an agent is started with. Nothing in it is secret.

    layer_key: the layer's CURVE public key, Z85 text. features: entry-point names in order.
    lease: seconds without a sign of life from the layer after which the agent ends. rights: the
    capabilities these features need of it (core/capability.py), sorted. within: seconds the runtime may
    take; the session itself ends a little later, so that the runtime's own words are heard. lasting: seconds
    that the agent may go on when the session has ended, as it does where it has begun something for others.
    """

    layer_key: str
    features: tuple[str, ...]
    lease: float = 30.0
    rights: tuple[str, ...] = ()
    within: float = 60.0
    lasting: float = 0.0


@frozen
class Endpoint:
    """Where a started agent is reached: a ZeroMQ address and the agent's public key (Z85 text)."""

    address: str
    agent_key: str


class Report(Protocol):
    """Words for the person at the terminal; on stderr only."""

    def step(self, text: str) -> None:
        """The next step of starting begins (the one before is done)."""

    def info(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...

    def ready(self, lines: Sequence[str]) -> None:
        """Starting is over: the summary of what is remote. The terminal is the program's now."""

    def trace(self, call: Call, verdict: Verdict) -> None: ...


class Runtime(Protocol):
    """Where targets live and how an agent gets beside one (entry point `pymirror.runtime`).

    Its class is made with (config, target, namespace, report) and has `Config` and, as static methods,
    `read_target(text)`, which refuses what it cannot read. For `pymirror ls` it may have
    `list_targets(config, namespace, kinds)`, a coroutine that returns [{"path": …, "available": …}].
    It may have `lost(found)`, a coroutine that says what became of the target or the agent once the
    connection is lost, "" where nothing did; it is given ASKING seconds. And `rights_hint`, words for
    what gives an agent the rights that it turned out to lack.
    """

    async def check(self, features: Sequence[str]) -> Found:
        """Find the target and see that an agent for `features` may be started. Changes nothing."""

    async def start(self, found: Found, order: AgentOrder, undo: AsyncExitStack) -> Endpoint:
        """Start an agent within `order.within`; every change's undo goes on the stack at once."""


class Running(Protocol):
    """The program, running under an engine."""

    pid: int

    async def wait(self) -> int:
        """The shell's exit status: the program's own, or 128 + the signal that ended it."""

    def end(self, message: str) -> None:
        """Say why on stderr, then TERM, and KILL after a grace, the program and its children."""


class Engine(Protocol):
    """How calls are caught and verdicts carried out (entry point `pymirror.engine`)."""

    @property
    def guests(self) -> Guests:
        """For `Launch`."""

    def check(self, calls: frozenset[str]) -> None:
        """SupportError naming the part this machine lacks. Changes nothing."""

    async def start(
        self, argv: Sequence[str], environ: Mapping[str, str], calls: frozenset[str], dispatch: Dispatch
    ) -> Running:
        """Start the program with `calls` caught. ProgramError if it cannot be started."""

    def learn(self, call: Call, verdict: Verdict | None) -> None:
        """Keep a verdict whose scope is not ONCE, so that the call is not asked again.

        None: always ask for this call, also below a tree that is known.
        """

    async def aclose(self) -> None: ...


@frozen
class Part:
    """One feature of the session: its layer half and its configuration."""

    half: type[LayerFeature]
    config: Any


class Dispatcher(Protocol):
    """Answers calls from the halves (layer/calls.py)."""

    @property
    def calls(self) -> frozenset[str]: ...

    def sound(self, call: str) -> bool: ...

    def __call__(self, call: Call) -> Verdict | Awaitable[Verdict]: ...


@frozen
class Plan:
    """A whole session, decided: what `check` looked at and `act` will do."""

    version: str
    launch: Launch
    parts: Sequence[Part]
    runtime: Runtime
    engine: Engine
    make_dispatcher: Callable[[Sequence[LayerFeature]], Dispatcher]
    report: Report
    keys: Keys
    make_folder: Callable[[AsyncExitStack], str]  # the session's private one; its undo goes on the stack
    heartbeat: float = 3.0
    lease: float = 30.0
    startup_timeout: float = 60.0
    windows: Terms = TERMS
    settle: Callable[[Found], None] = lambda found: None
    """What is decided once the target is known: the last word of `check`."""


@define
class Deadline:
    """When starting must be over, all in all. doing: what it is at, for the words when it is not."""

    at: float
    doing: str = ""

    @property
    def left(self) -> float:
        return max(0.0, self.at - asyncio.get_running_loop().time())


async def run(plan: Plan, undo: AsyncExitStack) -> int:
    """Check, then act; the program's exit status. What was changed is undone when `undo` closes."""
    deadline = Deadline(asyncio.get_running_loop().time() + plan.startup_timeout)
    starting = asyncio.ensure_future(ready(plan, deadline, undo))
    try:
        await asyncio.wait({starting}, timeout=deadline.left)
    finally:
        starting.cancel()  # nothing, if it is done
        await asyncio.gather(starting, return_exceptions=True)
    if starting.cancelled():
        raise PymirrorError(
            f"the session was not ready after {plan.startup_timeout:g} s: still {deadline.doing}",
            "raise agent.startup_timeout if the cluster is only slow; PYMIRROR_LOG=debug says more",
        )
    found, channel, halves = starting.result()
    return await carry(plan, found, channel, halves)


async def ready(
    plan: Plan, deadline: Deadline, undo: AsyncExitStack
) -> tuple[Found, Channel, list[LayerFeature]]:
    """All before the program."""
    deadline.doing = "looking at the target"
    found = await check(plan)
    return found, *await start(plan, found, deadline, undo)


async def check(plan: Plan) -> Found:
    """Whatever can be refused is refused here; nothing has changed anywhere when it raises."""
    plan.engine.check(frozenset(calls_of(plan.parts)))
    for part in plan.parts:
        part.half.check(part.config)
    rights_of(plan.parts)
    found = await plan.runtime.check([part.half.name for part in plan.parts])
    for note in found.notes:
        plan.report.warn(note)
    plan.settle(found)
    return found


def calls_of(parts: Sequence[Part]) -> set[str]:
    """Every call that some half of `parts` intercepts."""
    return {call for part in parts for _, (calls, _pure) in marked(part.half, INTERCEPTS) for call in calls}


def rights_of(parts: Sequence[Part]) -> tuple[str, ...]:
    """The capabilities that the agent halves of `parts` need. PluginError for a name that is none."""
    wanted: set[str] = set()
    for part in parts:
        rights = part.half.rights(part.config)
        if unknown := sorted(rights.difference(CAPABILITIES)):
            raise PluginError(
                "",
                f"feature {part.half.name}: {unknown[0]!r} is no Linux capability",
                "for example SYS_PTRACE",
            )
        wanted |= rights
    return tuple(sorted(wanted))


async def start(
    plan: Plan, found: Found, deadline: Deadline, undo: AsyncExitStack
) -> tuple[Channel, list[LayerFeature]]:
    """Agent, channel, halves, in this order."""

    def step(doing: str) -> None:
        deadline.doing = doing
        plan.report.step(doing)

    step(f"starting an agent for {found.title}")
    order = AgentOrder(
        layer_key=plan.keys.public,
        features=tuple(part.half.name for part in plan.parts),
        lease=plan.lease,
        rights=rights_of(plan.parts),
        within=deadline.left - min(AHEAD, deadline.left / 10),
        lasting=max((part.half.lasting(part.config) for part in plan.parts), default=0.0),
    )
    endpoint = await plan.runtime.start(found, order, undo)
    step("connecting")
    channel = await Channel.connect(
        endpoint.address, plan.keys, endpoint.agent_key, heartbeat=plan.heartbeat, lease=plan.lease
    )
    undo.push_async_callback(leave, channel)
    await meet(channel, plan)
    step("preparing the program's context")
    plan.launch.directory = plan.make_folder(undo)
    plan.launch.has_target, plan.launch.probes = found.has_target, found.probes
    plan.launch.notes.insert(0, f"target: {found.title}")
    halves: list[LayerFeature] = []
    for part in plan.parts:
        half = part.half(part.config, channel.peer(part.half.name))
        undo.push_async_callback(half.aclose)
        channel.serve(part.half.name, half)
        await prepare(half, plan.launch)
        halves.append(half)
    return channel, halves


async def meet(channel: Channel, plan: Plan) -> None:
    """The agent starts its halves. What one of them may not do is told with what would allow it."""
    try:
        parts = [(part.half, part.config) for part in plan.parts]
        await greet(channel, plan.version, parts, plan.windows)
    except OSError as error:
        hint = getattr(plan.runtime, "rights_hint", "") if isinstance(error, PermissionError) else ""
        raise PeerError(error.strerror or str(error), hint) from error


async def prepare(half: LayerFeature, launch: Launch) -> None:
    """What fails over there or here reaches the person at the terminal as words, not as a traceback."""
    try:
        await half.prepare(launch)
    except OSError as error:
        raise PeerError(f"feature {half.name}: {error.strerror or error}") from error


async def carry(plan: Plan, found: Found, channel: Channel, halves: Sequence[LayerFeature]) -> int:
    """Run the program to its end; a lost channel ends it, in words."""
    launch, dispatch = plan.launch, plan.make_dispatcher(halves)
    for call, verdict in launch.known:
        if dispatch.sound(call.name):
            plan.engine.learn(call, verdict)
    plan.report.ready(launch.notes)
    running = await plan.engine.start(launch.argv, launch.environ, dispatch.calls, dispatch)
    for half in halves:
        await half.started(Process(running.pid))
    ended = asyncio.ensure_future(running.wait())
    lost = asyncio.ensure_future(channel.wait_closed())
    await asyncio.wait({ended, lost}, return_when=asyncio.FIRST_COMPLETED)
    if not ended.done():
        why = await reason(plan.runtime, found, lost.result())
        words = f"the connection to the agent is lost: {why}"
        if ended.done():  # meanwhile, by itself
            plan.report.warn(words)
        running.end(f"pymirror: {words}: ending the program")
        await ended
        return PymirrorError.exit_status
    lost.cancel()
    return ended.result()


async def reason(runtime: Runtime, found: Found, lost: ChannelLost) -> str:
    """Why the channel is lost: what the runtime knows of it, else what the channel saw."""
    ask = getattr(runtime, "lost", None)
    if ask is None or isinstance(lost, Overslept):
        return lost.message
    try:
        async with timeout(ASKING):
            return await ask(found) or lost.message
    except (PymirrorError, asyncio.TimeoutError) as error:
        log.debug("what became of the agent is not known: %s", error)
        return lost.message


async def leave(channel: Channel) -> None:
    """Say goodbye, so that the agent need not wait for its lease, and close."""
    try:
        channel.peer(HANDSHAKE).send(Goodbye())
    except ChannelLost as gone:
        log.debug("no goodbye: %s", gone)
    await channel.aclose()
