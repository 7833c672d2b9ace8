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
        for command in commands:
            done = await ran("nsenter", "-t", self.pid, "-n", "nft", command)
            assert done.status == 0, done

    async def rules(self) -> str:
        return (await ran("nsenter", "-t", self.pid, "-n", "nft", "list", "ruleset")).out

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
        *("unshare", "-n", "sh", "-c", "ip link set lo up && echo up && exec sleep infinity"),
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
        await _cable(target.pid, client.pid)
        await both.serve("0.0.0.0")
        await both.serve("::")
        yield both
    os.umask(umask)


async def _cable(target: int, client: int) -> None:
    made: list[list[Any]] = [
        [
            "ip",
            "link",
            "add",
            "eth0",
            "netns",
            target,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            client,
        ]
    ]
    for pid, addresses in ((target, TARGET), (client, CLIENT)):
        inside = ["nsenter", "-t", pid, "-n", "ip"]
        made += [
            [*inside, "address", "add", f"{addresses[4]}/24", "dev", "eth0"],
            [*inside, "address", "add", f"{addresses[6]}/64", "dev", "eth0", "nodad"],
            [*inside, "link", "set", "eth0", "up"],
        ]
    strict = "for each in all default; do echo 1 > /proc/sys/net/ipv4/conf/$each/rp_filter; done"
    made.append(["nsenter", "-t", target, "-n", "sh", "-c", strict])
    for command in made:
        done = await ran(*command)
        assert done.status == 0, done
