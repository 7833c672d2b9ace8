"""Both halves of `network.dns` with name servers on loopback, and sockets that stand for the program's."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.rcode
from attrs import define
from verdicts import verdict_of

from pymirror.core.call import Address, Call, OtherAddress, OtherPath, Scope
from pymirror.core.feature import Launch
from pymirror.core.testing import FakeTarget, Pair, pair
from pymirror.features.network.dns.agent import Agent
from pymirror.features.network.dns.config import Config
from pymirror.features.network.dns.layer import Layer

SERVER = Path(__file__).parents[2] / "sandbox/programs/names_server.py"
ORIGIN = "demo.svc.cluster.local"
RESOLV = f"nameserver 127.0.0.1\nsearch {ORIGIN} svc.cluster.local\noptions ndots:5 timeout:1 attempts:1\n"
HOSTS = "127.0.0.1\tlocalhost\n10.244.0.7\tdemo-pod\n"


def load() -> Any:
    spec = importlib.util.spec_from_file_location("names_server", SERVER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


Server = load().Server


@define
class There:
    """server: the target's. here: this machine's. launch: as the layer half left it."""

    both: Pair[Layer, Agent]
    server: Any
    here: Any
    launch: Launch
    root: Path

    async def claim(self, transport: str = "udp", host: str = "127.0.0.1") -> OtherAddress:
        verdict = await verdict_of(
            self.both.layer.socket, Call("connect", address=Address(host, 53), transport=transport)
        )
        assert isinstance(verdict, OtherAddress) and isinstance(verdict.relay, Address)
        return verdict

    async def ask(
        self, name: str, kind: str = "A", host: str = "127.0.0.1", **edns: Any
    ) -> dns.message.Message:
        query = dns.message.make_query(name if "." in name else f"{name}.{ORIGIN}.", kind)
        if edns:
            query.use_edns(0, **edns)
        return await self.send(query.to_wire(), host)

    async def send(self, wire: bytes, host: str = "127.0.0.1") -> dns.message.Message:
        async with udp(await self.claim(host=host)) as sock:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(sock, wire)
            return dns.message.from_wire(await loop.sock_recv(sock, 65535))


@asynccontextmanager
async def udp(verdict: OtherAddress, words: bytes | None = None) -> AsyncIterator[socket.socket]:
    """A socket as the pump leaves it."""
    assert isinstance(verdict.relay, Address)
    with socket.socket(
        socket.AF_INET6 if ":" in verdict.relay.host else socket.AF_INET, socket.SOCK_DGRAM
    ) as sock:
        sock.setblocking(False)
        sock.connect((verdict.relay.host, verdict.relay.port))
        sock.send(verdict.introduction if words is None else words)
        yield sock


@asynccontextmanager
async def halves(tmp_path: Path, config: Config | None = None, resolv: str = RESOLV) -> AsyncIterator[There]:
    root, directory, own = tmp_path / "root", tmp_path / "session", tmp_path / "here"
    for folder in (root / "etc", directory, own):
        folder.mkdir(parents=True)
    (root / "etc/resolv.conf").write_text(resolv)
    (root / "etc/hosts").write_text(HOSTS)
    (own / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    server, here = Server(), Server()
    here.extra[(f"api.{ORIGIN}", "A")] = "192.168.0.1"
    try:
        with FakeTarget(root) as target:
            async with pair(Layer, Agent, config or Config(), target) as both:
                launch = Launch(["true"], {}, str(directory))
                both.agent.upstream.port = await server.listen("127.0.0.1")
                await both.layer.prepare(launch)
                both.layer._upstream.port = await here.listen("127.0.0.1")
                both.layer._own._open = lambda path: os.open(own / "resolv.conf", os.O_RDONLY)
                yield There(both, server, here, launch, root)
    finally:
        await server.close()
        await here.close()


def shown(there: There, path: bytes) -> str:
    """The file as the program reads it."""
    verdict = there.both.layer.path(Call("open", path))
    assert isinstance(verdict, OtherPath) and verdict.scope is Scope.CALL
    with open(os.open(verdict.path, os.O_RDONLY, dir_fd=verdict.root), encoding="utf-8") as file:
        return file.read()


async def over_tcp(verdict: OtherAddress, queries: list[bytes], words: bytes | None = None) -> list[bytes]:
    assert isinstance(verdict.relay, Address)
    reader, writer = await asyncio.open_connection(verdict.relay.host, verdict.relay.port)
    writer.write(verdict.introduction if words is None else words)
    for query in queries:
        writer.write(len(query).to_bytes(2, "big") + query)
    writer.write_eof()
    data, found = await reader.read(), []
    writer.close()
    while data:
        size = int.from_bytes(data[:2], "big")
        found.append(data[2 : 2 + size])
        data = data[2 + size :]
    return found
