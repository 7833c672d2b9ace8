"""For authors of features: both halves in one process, no cluster, no network, no sleep. Public.

`pair` greets and starts the two halves as a session does, over the real codec and mux; what carries
the messages is memory. `conformance` tries what every pair of halves must bear. `Transcript` shows
what two muxes say to each other, frame by frame.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Generic, TypeVar

from attrs import define, field, frozen

from pymirror.core import wire
from pymirror.core.arrivals import Event
from pymirror.core.call import Address
from pymirror.core.capability import CAPABILITIES
from pymirror.core.errors import PeerError, PymirrorError
from pymirror.core.feature import AgentFeature, Launch, LayerFeature, Process, Target
from pymirror.core.handshake import NAME, Desk, greet
from pymirror.core.limit import timeout
from pymirror.core.link import CLOCK, Clock, Link
from pymirror.core.message import message
from pymirror.core.mux import Mux

L = TypeVar("L", bound=LayerFeature)
A = TypeVar("A", bound=AgentFeature)
T = TypeVar("T")

VERSION = "testing"
WITHIN = 10.0
"""Seconds after which `conformance` calls a step hung."""


class FakeTarget:
    """A target made of a folder and a few values. `with` it, or call `close`: it holds a descriptor."""

    def __init__(
        self,
        root: str | os.PathLike[str],
        environ: Mapping[str, str] | None = None,
        hostname: str = "pod",
        *,
        pid: int = 1,
        uid: int = 0,
        gid: int = 0,
    ) -> None:
        self.pid, self.uid, self.gid = pid, uid, gid
        self.root = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._environ = {os.fsencode(k): os.fsencode(v) for k, v in (environ or {}).items()}
        self._hostname = os.fsencode(hostname)
        self._network = ThreadPoolExecutor(16, thread_name_prefix="network")

    def environ(self) -> dict[bytes, bytes]:
        return dict(self._environ)

    def hostname(self) -> bytes:
        return self._hostname

    async def in_network(self, work: Callable[[], T]) -> T:
        future = self._network.submit(work)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            future.add_done_callback(_close_result)
            raise

    def close(self) -> None:
        self._network.shutdown(wait=False)
        if self.root >= 0:
            os.close(self.root)
            self.root = -1

    def __enter__(self) -> FakeTarget:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@frozen
class FakeGuests:
    """For `Launch(…, guests=…)`: remembers the guests, as door → (client, address it spoke to)."""

    known: dict[Address, tuple[Address, Address]] = field(factory=dict)

    def add(self, door: Address, client: Address, address: Address) -> None:
        self.known[door] = client, address

    def remove(self, door: Address) -> None:
        self.known.pop(door, None)


def _close_result(future: Future[Any]) -> None:
    """What was made for somebody who was cancelled, a socket say, is nobody's."""
    if not future.cancelled() and future.exception() is None and hasattr(future.result(), "close"):
        future.result().close()


class MemoryLink(Link):
    """One end of a connection inside this process; `cut` loses it as a broken network would."""

    other: MemoryLink
    _kept: list[list[bytes]] | None = None

    @classmethod
    def pair(
        cls, heartbeat: float = 3.0, lease: float = 30.0, clock: Clock = CLOCK
    ) -> tuple[MemoryLink, MemoryLink]:
        """The layer's end and the agent's."""
        ends = cls(True, heartbeat, lease, clock), cls(False, heartbeat, lease, clock)
        ends[0].other, ends[1].other = ends[1], ends[0]
        for end in ends:
            end._start()
        return ends

    def _transmit(self, parts: list[Any]) -> bool:
        if self._kept is not None:
            return False
        self._loop.call_soon(self.other._receive, [bytes(part) for part in parts])
        return True

    def _receive(self, parts: list[bytes]) -> None:
        if self._kept is not None:
            self._kept.append(parts)
        elif not self._lost.done():
            self._arrived(parts)

    def _close(self) -> None:
        pass

    def stop(self) -> None:
        """This end is silent, as a process that was stopped (Ctrl-Z): the other's `send` fills up."""
        self._kept = self._kept or []

    def go_on(self) -> None:
        """What came while this end was stopped arrives now, and what it had to say leaves."""
        kept, self._kept = self._kept or [], None
        for parts in kept:
            self._receive(parts)
        self._flush()

    def cut(self) -> None:
        """Both ends see the connection gone."""
        for end in (self, self.other):
            end._gone("the connection was cut")


@frozen
class Pair(Generic[L, A]):
    """Two started halves. link: the layer's end, with `round_trips`, `cut()`, `stop()` and `go_on()`."""

    layer: L
    agent: A
    link: MemoryLink


@asynccontextmanager
async def pair(
    layer_half: type[L], agent_half: type[A], config: Any = None, target: Target | None = None
) -> AsyncIterator[Pair[L, A]]:
    """Both halves, greeted, the agent half started; closed in reverse order at the end.

    `config` reaches the agent half through the codec. Without a `target`, an empty one. The layer
    half's `prepare` and `started` are the test's to call. What start raises arrives here as it would
    in a session: OSError with its errno, PymirrorError, PeerError for anything else.
    """
    config = layer_half.Config() if config is None else config
    made: list[A] = []

    class Watched(agent_half):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

    async with AsyncExitStack() as stack:
        if target is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            target = stack.enter_context(FakeTarget(folder))
        near, far = MemoryLink.pair()
        stack.push_async_callback(far.aclose)
        desk = Desk(far, VERSION, lambda _: {layer_half.name: Watched}, target, stack, lambda: None)
        far.serve(NAME, desk)
        stack.push_async_callback(near.aclose)
        await greet(near, VERSION, [(layer_half, config)])
        layer = layer_half(config, near.peer(layer_half.name))
        stack.push_async_callback(layer.aclose)
        near.serve(layer_half.name, layer)
        yield Pair(layer, made[0], near)


async def conformance(
    layer_half: type[LayerFeature], agent_half: type[AgentFeature], config: Any = None
) -> None:
    """AssertionError naming the first rule that the halves break.

    Tried: the two agree about themselves; start and close; close again; a message no half knows; the
    connection lost under them; the other half in another version.
    """
    name = layer_half.name
    assert name and name == agent_half.name, f"the halves are named {name!r} and {agent_half.name!r}"
    assert layer_half.version == agent_half.version, f"{name}: the halves are of different versions"
    assert layer_half.Config is agent_half.Config, f"{name}: the halves have different Config classes"
    rights = layer_half.rights(layer_half.Config() if config is None else config)
    assert rights <= set(CAPABILITIES), f"{name}: {sorted(rights)} are not all Linux capabilities"
    for rule in (_starts_and_closes, _survives_an_unknown_message, _bears_a_lost_peer, _refuses_a_version):
        words = f"{name}: {(rule.__doc__ or '').partition(':')[0]}"
        try:
            async with timeout(WITHIN):
                await rule(layer_half, agent_half, config)
        except asyncio.TimeoutError:
            raise AssertionError(f"{words}: it hung") from None
        except AssertionError:
            raise
        except Exception as error:
            raise AssertionError(f"{words}: {type(error).__name__}: {error}") from error


async def _prepared(both: Pair[Any, Any]) -> None:
    """An empty target may be refused, but only in words or with an errno."""
    with tempfile.TemporaryDirectory() as directory:
        try:
            await both.layer.prepare(Launch(["true"], {}, directory))
            await both.layer.started(Process(os.getpid()))
        except (OSError, PymirrorError):
            return


async def _starts_and_closes(layer: type[Any], agent: type[Any], config: Any) -> None:
    """start, then close twice: aclose must bear a second call."""
    async with pair(layer, agent, config) as both:
        await _prepared(both)
        await both.layer.aclose()
        await both.agent.aclose()


async def _survives_an_unknown_message(layer: type[Any], agent: type[Any], config: Any) -> None:
    """a message no half handles: it is refused and the session goes on."""
    stranger = message(layer.name)(type("ConformanceStranger", (), {"__module__": __name__}))
    async with pair(layer, agent, config) as both:
        for peer in (both.layer.peer, both.agent.peer):
            try:
                await peer.request(stranger())
            except PeerError:
                continue
            raise AssertionError(f"{layer.name}: a message that no method is marked for was answered")
        await _prepared(both)


async def _bears_a_lost_peer(layer: type[Any], agent: type[Any], config: Any) -> None:
    """the connection lost: prepare fails in words, both halves still close."""
    async with pair(layer, agent, config) as both:
        both.link.cut()
        await _prepared(both)


async def _refuses_a_version(layer: type[Any], agent: type[Any], config: Any) -> None:
    """another version of the agent half: the greeting refuses it."""
    other = type(agent.__name__, (agent,), {"version": agent.version + 1})
    try:
        async with pair(layer, other, config):
            raise AssertionError(f"{layer.name}: two versions of the halves started together")
    except PeerError:
        return


KINDS = {
    getattr(wire, kind): kind.lower()
    for kind in "REQUEST REPLY ERROR EVENT CANCEL OPEN DATA CREDIT END RESET PING PONG REFUSED".split()
}


@define
class Transcript:
    """Two muxes and what they said. `lines`: `layer: request 1 clock/AskZone`, in order."""

    layer: Mux = field(factory=lambda: Mux(initiator=True))
    agent: Mux = field(factory=lambda: Mux(initiator=False))
    lines: list[str] = field(factory=list)

    def carry(self, side: str) -> Sequence[Event]:
        """Carry one message of `side` ("layer", "agent") over; what the other makes of it."""
        sender, receiver = (self.layer, self.agent) if side == "layer" else (self.agent, self.layer)
        parts = [bytes(part) for part in sender.take()]
        if not parts:
            return []
        for frame, _, _ in wire.unpack(parts):
            words = [f"{side}:", KINDS[frame.kind], str(frame.id), frame.tag]
            size = [f"{frame.size} bytes"] if frame.kind == wire.DATA else []
            self.lines.append(" ".join(word for word in words + size if word))
        return receiver.receive(parts)

    def exchange(self) -> list[tuple[str, Event]]:
        """Carry until nothing is left to say: (the side it arrived at, what)."""
        arrived: list[tuple[str, Event]] = []
        while self.layer.pending or self.agent.pending:
            arrived += [("agent", event) for event in self.carry("layer")]
            arrived += [("layer", event) for event in self.carry("agent")]
        return arrived
