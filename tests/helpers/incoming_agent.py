"""An agent half that takes ports in words alone, and clients that it says have come."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from pymirror.core.call import Address, Call
from pymirror.core.feature import AgentFeature, Launch, Process, Stream, handles
from pymirror.core.limit import timeout
from pymirror.core.testing import FakeGuests, FakeTarget, pair
from pymirror.features.network.incoming import messages as m
from pymirror.features.network.incoming.config import Config
from pymirror.features.network.incoming.layer import Layer

CLIENT, SPOKEN = Address("10.1.2.3", 40000), Address("10.9.9.9", 80)
LIMIT = 20


class Agent(AgentFeature):
    """answer: to each Subscribe; held: they wait for it. said: what was asked of it, in order."""

    name = m.NAME
    Config = Config

    async def start(self, target: Any) -> None:
        self.answer = m.Subscribed()
        self.held: asyncio.Event | None = None
        self.said: list[str] = []

    @handles(m.Begin)
    def begin(self, asked: m.Begin) -> m.Begun:
        assert asked.whose
        self.probes = asked.probes
        return m.Begun()

    @handles(m.Subscribe)
    async def subscribe(self, asked: m.Subscribe) -> m.Subscribed:
        self.said.append(f"subscribe {asked.port}")
        if self.held is not None:
            await self.held.wait()
        return self.answer

    @handles(m.Release)
    async def release(self, asked: m.Release) -> m.Release:
        if self.held is not None:
            await self.held.wait()
        self.said.append(f"release {asked.port}")
        return asked

    def arrive(self, port: int, client: Address = CLIENT, spoken: Address = SPOKEN) -> Stream:
        return self.peer.stream_now(m.Arrived(port, client.host, client.port, spoken.host, spoken.port))


class Session:
    def __init__(self, both: Any, guests: FakeGuests, launch: Launch) -> None:
        self.layer: Layer = both.layer
        self.agent: Agent = both.agent
        self.link = both.link
        self.guests, self.launch = guests, launch


@asynccontextmanager
async def session(tmp_path: Any, config: Config, pid: int = 0, **more: Any) -> AsyncIterator[Session]:
    """pid: the program, once it has started."""
    guests = FakeGuests()
    launch = Launch(["program"], {}, "/nowhere", guests=guests, **more)
    with FakeTarget(tmp_path) as target:
        async with pair(Layer, Agent, config, target) as both:
            await both.layer.prepare(launch)
            if pid:
                await both.layer.started(Process(pid))
            yield Session(both, guests, launch)


@contextmanager
def listening(host: str = "127.0.0.1", backlog: int = 16) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family, backlog=backlog) as server:
        server.setblocking(False)
        yield server


def place(server: socket.socket) -> Address:
    return Address(*server.getsockname()[:2])


def cookie(sock: socket.socket) -> int:
    return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, 57, 8), "little")


def listen(server: socket.socket, asked: int, **more: Any) -> Call:
    """The program's, of a socket that is bound where `server` is."""
    real = place(server)
    address = Address(real.host, asked)
    known = {"bound": real, "socket": cookie(server), **more}
    return Call("listen", transport="tcp", address=address, **known)


async def accepted(server: socket.socket) -> socket.socket:
    async with timeout(LIMIT):
        sock, _ = await asyncio.get_running_loop().sock_accept(server)
    sock.setblocking(False)
    return sock


async def until(true: Callable[[], object]) -> None:
    async with timeout(LIMIT):
        while not true():  # noqa: ASYNC110 -- what it waits for tells nobody
            await asyncio.sleep(0.01)
