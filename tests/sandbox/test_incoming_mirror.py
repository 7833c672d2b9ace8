"""Mirrored ports of an application in a pod's network: the program gets what it got, and it notices nothing."""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from functools import partial
from typing import Any, TypeVar

import pytest
import pytest_asyncio
from attrs import define, field

from pymirror.agent.network import THERE, Network
from pymirror.core.feature import AgentFeature, LayerFeature, Stream, Target, handles
from pymirror.core.limit import timeout
from pymirror.core.testing import FakeTarget, Pair, pair
from pymirror.features.network.carry import Join, end_by_reset, join
from pymirror.features.network.incoming import messages as m
from pymirror.features.network.incoming.capture import Capture
from pymirror.features.network.incoming.copy_http import passed
from pymirror.features.network.incoming.mirror import SLOW, UNSENT, Mirror
from pymirror.features.network.incoming.reassembly import GAP
from pymirror.runtimes.process.sandbox import Sandbox
from tests.sandbox.pod_network import PROGRAMS, ran

pytestmark = [pytest.mark.sandbox, pytest.mark.asyncio(loop_scope="module")]

T = TypeVar("T")
PORT, WITHIN = 8080, 60.0
EMPTY = hashlib.sha256().hexdigest()[:8]


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
        self._told = asyncio.Event()
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
        self._told.set()

    async def told(self) -> m.Missed:
        await self._told.wait()
        return self.missed[0]

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
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def asks(self, path: str, body: bytes = b"") -> None:
        """A request whose answer came."""
        head = f"POST {path} HTTP/1.1\r\nHost: it\r\nContent-Length: {len(body)}\r\n\r\n"
        self.writer.write(head.encode() + body)
        async with timeout(WITHIN):
            assert await self.reader.readuntil(b"yes")


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
    async def connected(self, host: str, *, inside: bool = False) -> AsyncIterator[Client]:
        """A client that this test is."""
        network = Network(self.pod if inside else self.client)
        sock = await network.run(lambda: socket.create_connection((host, PORT), WITHIN))
        network.close()
        client = Client(*await asyncio.open_connection(sock=sock))
        try:
            yield client
        finally:
            client.writer.close()
            with suppress(ConnectionError):
                await client.writer.wait_closed()

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
    """10,000 requests, over connections that stay and connections of one request."""
    seen = []
    for mirrored in (False, True):
        before, came = await place.counted(), Counter[str]()
        async with place.mirrored() if mirrored else nullcontext():
            for per_connection in (100, 100, 100, 100, 100, 100, 100, 100, 100, 1):
                assert await place.requests("10.99.0.2", 1000, 10, per_connection) == 1000
                served = await place.application.take(1000)
                assert not mirrored or await place.program.take(1000) == served
                came += served
        seen.append((came, await place.counted() - before))
    assert seen[0] == seen[1]


async def test_bodies_in_segments_of_any_size(place: Place) -> None:
    """Over veth and loopback they are up to 64 KiB."""
    async with place.mirrored() as both:
        for host, inside in (("10.99.0.2", False), ("fd99::2", False), ("::1", True)):
            async with place.connected(host, inside=inside) as client:
                await client.asks("/large", random.Random(7).randbytes(UNSENT))
        assert await place.program.take(3) == await place.application.take(3)
        assert both.layer.missed == []


@pytest.mark.parametrize("where", ["before", "behind"])
async def test_segments_that_are_lost_on_their_way(place: Place, where: str) -> None:
    """One in ten: before the copy is taken nobody gets it, behind that the application does not."""
    pid, hook = (place.client, "output") if where == "before" else (place.pod, "input")
    rules = f"add table inet lossy; add chain inet lossy lose {{ type filter hook {hook} priority 0; }}; "
    rules += f"add rule inet lossy lose tcp dport {PORT} tcp flags & syn == 0 numgen inc mod 10 0 drop"
    await place.inside(pid, "nft", rules)
    try:
        async with place.mirrored() as both:
            assert await place.requests("10.99.0.2", 100, 20, 10) == 100
            assert await place.program.take(100) == await place.application.take(100)
            assert both.layer.missed == []
    finally:
        await place.inside(pid, "nft", "delete table inet lossy")


async def test_an_older_connection_is_joined_at_its_next_request(place: Place) -> None:
    async with place.connected("10.99.0.2") as client:
        await client.asks("/before", b"GET /before HTTP/1.1\r\n\r\n")
        await place.application.take(1)
        async with place.mirrored() as both:
            for path in ("/one", "/two"):
                await client.asks(path, b"its body")
            assert await place.program.take(2) == await place.application.take(2)
            assert len(both.layer.arrived) == 1


async def test_a_gap_ends_the_copy_alone_and_is_told(place: Place) -> None:
    async with place.mirrored() as both, place.connected("10.99.0.2") as client:
        capture = both.agent.mirror._capture
        assert capture is not None
        await client.asks("/one")
        await place.program.take(1)
        capture.only(())
        await client.asks("/lost")
        capture.only({PORT})
        for path in ("/after", "/again"):
            await client.asks(path)
        assert list(await place.program.take(1)) == [f"POST /again {EMPTY}"]
        async with timeout(WITHIN):
            missed = await both.layer.told()
        assert (missed.port, missed.connections, missed.reason) == (PORT, 1, GAP)
        assert len(await place.application.take(4)) == 4


@pytest.mark.parametrize(("reset", "error"), [(False, "IncompleteReadError"), (True, "ConnectionResetError")])
async def test_ends_and_resets_arrive(place: Place, reset: bool, error: str) -> None:
    async with place.mirrored(), place.connected("10.99.0.2") as client:
        client.writer.write(b"POST /half HTTP/1.1\r\nContent-Length: 100\r\n\r\nhalf")
        half = Counter(["POST /half begins"])
        assert await place.application.take(1) == await place.program.take(1) == half
        end_by_reset(client.writer.get_extra_info("socket"), reset)
        client.writer.transport.abort()
        assert list(await place.application.take(1)) == list(await place.program.take(1)) == [error]


async def test_a_program_that_does_not_read_delays_nobody(place: Place) -> None:
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        async with place.mirrored() as both, place.connected("10.99.0.2") as client:
            both.layer.port = deaf.getsockname()[1]
            for _ in range(16):
                await client.asks("/large", bytes(UNSENT))
            async with timeout(WITHIN):
                missed = await both.layer.told()
            assert (missed.port, missed.reason) == (PORT, SLOW)
    await place.application.take(16)


async def test_a_filter_says_what_goes_on(place: Place) -> None:
    def chosen(port: int) -> Any:
        return partial(passed, lambda data: data if data.startswith(b"POST /in/7 ") else b"")

    async with place.mirrored(chosen) as both:
        assert await place.requests("10.99.0.2", 20, 4, 1) == 20
        [seven] = await place.program.take(1)
        assert seven.startswith("POST /in/7 ") and len(both.layer.arrived) == 1
        await place.application.take(20)


async def test_a_released_port_is_copied_no_more_but_for_what_was_begun(place: Place) -> None:
    async with place.mirrored() as both, place.connected("10.99.0.2") as client:
        await client.asks("/one")
        await place.program.take(1)
        both.agent.mirror.release(PORT)
        assert await place.requests("10.99.0.2", 20, 4, 1) == 20
        await client.asks("/two")
        assert list(await place.program.take(1)) == [f"POST /two {EMPTY}"] and len(both.layer.arrived) == 1
        await place.application.take(22)


async def test_what_the_pod_asks_of_others_is_not_its_own(place: Place) -> None:
    """A client in the pod, of the same port elsewhere, even from a port that is copied."""
    network, pod = Network(place.client), Network(place.pod)

    def connect() -> socket.socket:
        return socket.create_connection(("10.99.0.1", PORT), WITHIN, ("10.99.0.2", 7777))

    with await network.run(lambda: socket.create_server(("10.99.0.1", PORT))) as server:
        async with place.mirrored() as both, place.connected("10.99.0.2") as own:
            both.agent.mirror.take(7777)
            with await pod.run(connect) as client:
                client.sendall(b"POST /in HTTP/1.1\r\n\r\n")
                with server.accept()[0] as accepted:
                    assert accepted.recv(100)
            await own.asks("/own")
            assert list(await place.program.take(1)) == [f"POST /own {EMPTY}"]
            assert [each.address for each in both.layer.arrived] == ["10.99.0.2"]
    await place.application.take(1)
    network.close()
    pod.close()


async def test_the_right_that_is_missing_is_named(place: Place) -> None:
    network = Network(place.pod)
    with pytest.raises(PermissionError, match="NET_RAW"):
        await network.run(Capture)
    network.close()
