"""Mirrored ports of an application in a pod's network: the program gets what it got, and it notices nothing."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import Any, TypeVar

import pytest
import pytest_asyncio
from attrs import define, field

from pymirror.agent.network import THERE, Network
from pymirror.core.feature import AgentFeature, LayerFeature, Stream, Target, handles
from pymirror.core.limit import timeout
from pymirror.core.testing import FakeTarget, Pair, pair
from pymirror.features.network.carry import Join, join
from pymirror.features.network.incoming import messages as m
from pymirror.features.network.incoming.mirror import Mirror
from pymirror.runtimes.process.sandbox import Sandbox
from tests.sandbox.pod_network import PROGRAMS, ran

pytestmark = [pytest.mark.sandbox, pytest.mark.asyncio(loop_scope="module")]

T = TypeVar("T")
PORT, WITHIN = 8080, 60.0


class There(FakeTarget):
    """The pod's network, by threads as the agent has them."""

    def __init__(self, root: str, pid: int) -> None:
        super().__init__(root)
        self._there = Network(pid, THERE)

    async def in_network(self, work: Callable[[], T]) -> T:
        return await self._there.run(work)

    def close(self) -> None:
        self._there.close()
        super().close()


class Agent(AgentFeature):
    name = m.NAME
    chosen: Any = staticmethod(lambda port: None)

    async def start(self, target: Target) -> None:
        self.mirror = Mirror(self.peer, target, self.log, self.chosen)
        await self.mirror.start()

    async def aclose(self) -> None:
        await self.mirror.aclose()


class Layer(LayerFeature):
    """Its door: a connection to the program for each that arrives."""

    name = m.NAME
    port = 0

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.arrived: list[m.Arrived] = []
        self.missed: list[m.Missed] = []
        self._joins: set[Join] = set()

    @handles(m.Arrived)
    async def arrives(self, arrived: m.Arrived, stream: Stream) -> None:
        self.arrived.append(arrived)
        sock = socket.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        self._joins.add(join(sock, stream, lambda: None))

    @handles(m.Missed)
    async def misses(self, missed: m.Missed) -> None:
        self.missed.append(missed)

    async def aclose(self) -> None:
        for each in self._joins:
            each.cancel()


@define
class Server:
    """A program with a line for each thing it saw."""

    made: asyncio.subprocess.Process
    lines: list[str] = field(factory=list)
    more: asyncio.Event = field(factory=asyncio.Event)

    @classmethod
    @asynccontextmanager
    async def start(cls, *command: object) -> AsyncIterator[Server]:
        pipe = asyncio.subprocess.PIPE
        made = await asyncio.create_subprocess_exec(*map(str, command), stdin=pipe, stdout=pipe)
        assert made.stdin is not None and made.stdout is not None
        server = cls(made)
        try:
            assert await made.stdout.readline() == b"up\n"
            reading = asyncio.ensure_future(server._read(made.stdout))
            yield server
        finally:
            made.stdin.close()
            await made.wait()
            await reading

    async def _read(self, out: asyncio.StreamReader) -> None:
        while line := await out.readline():
            self.lines.append(line.decode().strip())
            self.more.set()

    async def take(self, count: int) -> Counter[str]:
        """What it saw since, without who it was, once it saw as much."""
        async with timeout(WITHIN):
            while len(self.lines) < count:
                self.more.clear()
                await self.more.wait()
        taken, self.lines = self.lines, []
        return Counter(line.split(" ", 2)[2] for line in taken)


@define
class Place:
    """A pod with an application, a client's network beside it, and the program on this side."""

    pod: int
    client: int
    application: Server
    program: Server
    program_port: int

    async def inside(self, pid: int, *command: object) -> str:
        told = await ran("nsenter", "-t", pid, "-n", *command)
        assert told.status == 0, told
        return told.out

    async def requests(self, host: str, *words: object, inside: bool = False) -> int:
        pid = self.pod if inside else self.client
        script = PROGRAMS / "mirror_client.py"
        return int(await self.inside(pid, sys.executable, script, host, PORT, *words))

    async def counted(self) -> Counter[str]:
        """How often the pod's network did what a mirror must not make it do."""
        told = await self.inside(self.pod, "cat", "/proc/net/snmp")
        names, values = (line.split()[1:] for line in told.splitlines() if line.startswith("Tcp:"))
        every = dict(zip(names, map(int, values), strict=True))
        return Counter(
            {name: every[name] for name in ("ActiveOpens", "PassiveOpens", "EstabResets", "OutRsts")}
        )

    @asynccontextmanager
    async def mirrored(self, chosen: Any = None) -> AsyncIterator[Pair[Layer, Agent]]:
        """Both halves, the port taken."""
        agent = type("Chosen", (Agent,), {"chosen": staticmethod(chosen)}) if chosen else Agent
        with There("/", self.pod) as target:
            async with pair(Layer, agent, target=target) as both:
                both.layer.port = self.program_port
                both.agent.mirror.take(PORT)
                yield both


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place() -> AsyncIterator[Place]:
    script = PROGRAMS / "mirror_app.py"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with Sandbox.start() as pod, Sandbox.start() as client:
        await wire(pod.pid, client.pid)
        command = ("nsenter", "-t", pod.pid, "-n", sys.executable, script, PORT)
        async with (
            Server.start(*command) as application,
            Server.start(sys.executable, script, port) as program,
        ):
            yield Place(pod.pid, client.pid, application, program, port)


async def wire(pod: int, client: int) -> None:
    link = f"ip link add eth0 type veth peer name eth0 netns {client}".split()
    assert (await ran("nsenter", "-t", pod, "-n", *link)).status == 0
    for pid, number in ((client, 1), (pod, 2)):
        for words in (
            f"addr add 10.99.0.{number}/24 dev eth0",
            f"-6 addr add fd99::{number}/64 dev eth0 nodad",
            "link set eth0 up",
        ):
            assert (await ran("nsenter", "-t", pid, "-n", "ip", *words.split())).status == 0


@pytest.mark.parametrize("host", ["10.99.0.2", "fd99::2"])
@pytest.mark.parametrize("per_connection", [1, 50])
async def test_the_program_gets_what_the_application_gets(
    place: Place, host: str, per_connection: int
) -> None:
    async with place.mirrored() as both:
        assert await place.requests(host, 300, 5, per_connection) == 300
        assert await place.program.take(300) == await place.application.take(300)
        assert len(both.layer.arrived) == len({each.client_port for each in both.layer.arrived})
        first = both.layer.arrived[0]
        assert (first.client, first.address, first.port) == (host[:-1] + "1", host, PORT)
        assert both.layer.missed == []


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "10.99.0.2", "fd99::2"])
async def test_from_inside_the_pod_too_each_byte_once(place: Place, host: str) -> None:
    async with place.mirrored() as both:
        assert await place.requests(host, 100, 5, 10, inside=True) == 100
        assert await place.program.take(100) == await place.application.take(100)
        assert both.layer.missed == []


async def test_the_application_sees_the_same_with_and_without(place: Place) -> None:
    """10,000 requests over connections that stay and connections of one request."""
    seen = []
    for mirrored in (False, True):
        before = await place.counted()
        async with place.mirrored() if mirrored else nullcontext():
            for count, per_connection in ((9000, 100), (1000, 1)):
                assert await place.requests("10.99.0.2", count, 10, per_connection) == count
            came = await place.application.take(10_000)
            if mirrored:
                assert await place.program.take(10_000) == came
        seen.append((came, await place.counted() - before))
    assert seen[0] == seen[1]
