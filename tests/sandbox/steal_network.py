"""A target, a client beside it, each with a network of its own and a cable between them; an application.

The target's network looks at the source of each packet (rp_filter), as the strictest of nodes do.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from attrs import define, field

from pymirror.agent.network import THERE, Network
from tests.sandbox.pod_network import ran

T = TypeVar("T")
TARGET, CLIENT = {4: "10.9.0.2", 6: "fd09::2"}, {4: "10.9.0.1", 6: "fd09::1"}
PORT = 8080
WITHIN = 20.0


@define
class Side:
    """One of the two. pid: a process in its network. Is a `core.feature.Target` as far as stealing goes."""

    pid: int
    network: Network
    lines: list[Line] = field(factory=list)

    async def in_network(self, work: Callable[[], T]) -> T:
        return await self.network.run(work)

    async def nft(self, *commands: str) -> None:
        """Rules of somebody else's in its network."""
        await done(*(inside(self.pid, "nft", command) for command in commands))

    async def rules(self) -> str:
        return (await ran(*inside(self.pid, "nft", "list", "ruleset"))).out

    async def connect(self, host: str, port: int = PORT, source: int = 0) -> Line:
        sock = await self.in_network(partial(_connected, host, port, source))
        sock.setblocking(False)
        self.lines.append(Line(*await asyncio.open_connection(sock=sock)))
        return self.lines[-1]

    async def listen(self, host: str, port: int = PORT) -> socket.socket:
        return await self.in_network(partial(_listening, host, port))


@define
class Line:
    """A client's connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def says(self) -> str:
        """The next line; empty at the end."""
        return (await asyncio.wait_for(self.reader.readline(), WITHIN)).decode().strip()

    async def asks(self, words: str) -> str:
        self.writer.write(f"{words}\n".encode())
        return await self.says()

    @property
    def own(self) -> str:
        """As a server should see it."""
        return " ".join(map(str, self.writer.get_extra_info("sockname")[:2]))

    def close(self) -> None:
        self.writer.transport.abort()


@define
class Both:
    target: Side
    client: Side
    seen: list[str] = field(factory=list)
    """The application's clients, `HOST PORT`."""
    undo: AsyncExitStack = field(factory=AsyncExitStack)

    async def serve(self, host: str, port: int = PORT) -> None:
        """An application: says `app`, who its client is, and each line again but `bye`, at which it closes."""
        listener = await self.target.listen(host, port)
        server = await asyncio.start_server(self._answer, sock=listener)
        self.undo.callback(server.close)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = " ".join(map(str, writer.get_extra_info("peername")[:2]))
        self.seen.append(client)
        writer.write(f"app {client}\n".encode())
        try:
            while (data := await reader.read(65536)) and data != b"bye\n":
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            return
        finally:
            writer.close()


def _connected(host: str, port: int, source: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    made.settimeout(WITHIN)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if source:
        made.bind(("", source))
    try:
        made.connect((host, port))
    except BaseException:
        made.close()
        raise
    return made


def _listening(host: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    if ":" in host:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((host, port))
    made.listen(1024)
    made.setblocking(False)
    return made


@asynccontextmanager
async def _side() -> AsyncIterator[Side]:
    holder = await asyncio.create_subprocess_exec(
        *(
            "setpriv",
            "--pdeathsig",
            "KILL",
            "unshare",
            "-n",
            "sh",
            "-c",
            "ip link set lo up && echo up && exec sleep infinity",
        ),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None and await holder.stdout.readline() == b"up\n"
        network = Network(holder.pid, THERE)
        side = Side(holder.pid, network)
        yield side
        for line in side.lines:
            line.close()
        network.close()
    finally:
        holder.kill()
        await holder.wait()


@asynccontextmanager
async def cabled() -> AsyncIterator[Both]:
    """The two; an application on all addresses of both IP versions."""
    umask = os.umask(0o022)  # which the threads that give up their rights set for the whole process
    os.umask(umask)
    async with _side() as target, _side() as client, AsyncExitStack() as undo:
        both = Both(target, client, undo=undo)
        ends = [(TARGET, target), (CLIENT, client)]
        await _cable("eth0", *((side.pid, [f"{of[4]}/24", f"{of[6]}/64"]) for of, side in ends))
        strict = "for each in all default eth0; do echo 1 > /proc/sys/net/ipv4/conf/$each/rp_filter; done"
        await done(inside(target.pid, "sh", "-c", strict))
        await both.serve("0.0.0.0")
        await both.serve("::")
        yield both
    os.umask(umask)


@asynccontextmanager
async def behind(both: Both) -> AsyncIterator[tuple[Side, str]]:
    """A third one that only the target reaches, and hands packets on to; its address."""
    async with _side() as inner:
        await _cable("inner", (both.target.pid, ["10.9.1.1/24"]), (inner.pid, ["10.9.1.2/24"]))
        await done(
            inside(both.target.pid, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"),
            inside(both.client.pid, "ip", "route", "add", "10.9.1.0/24", "via", TARGET[4]),
            inside(inner.pid, "ip", "route", "add", "default", "via", "10.9.1.1"),
        )
        yield inner, "10.9.1.2"


def inside(pid: int, *command: str) -> list[Any]:
    return ["nsenter", "-t", pid, "-n", *command]


async def done(*commands: list[Any]) -> None:
    for command in commands:
        how = await ran(*command)
        assert how.status == 0, how


async def _cable(name: str, *ends: tuple[int, list[str]]) -> None:
    """Between two processes' networks, with these addresses."""
    (one, _), (other, _) = ends
    peer = ["peer", "name", name, "netns", other]
    await done(["ip", "link", "add", name, "netns", one, "type", "veth", *peer])
    for pid, addresses in ends:
        for address in addresses:
            options = ["nodad"] if ":" in address else []
            await done(inside(pid, "ip", "address", "add", address, "dev", name, *options))
        await done(inside(pid, "ip", "link", "set", name, "up"))
