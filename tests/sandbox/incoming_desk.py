"""A feature that stands in for incoming traffic: it answers bind and listen, and knocks at what listens.

What a program says of its client, in words of its own, comes back to who knocks.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pymirror.core.call import Address, Bind, Call, Untouched, Verdict
from pymirror.core.later import Later
from pymirror.core.limit import timeout
from pymirror.layer.engines.seccomp.engine import Engine

CALLS = frozenset({"bind", "listen"})
CLIENT, CLIENT6 = Address("10.1.2.3", 40000), Address("fd00::3", 40006)
SPOKEN, SPOKEN6 = Address("10.9.9.9", 80), Address("fd00::9", 80)
LIMIT = 30
PAUSE = 0.01
"""Seconds between two knocks at what does not listen yet: `listen` is asked about before it is made."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def or_any(call: Call) -> tuple[Address, ...]:
    """What was asked for, else any port of loopback."""
    assert call.address is not None
    loopback = "::1" if ":" in call.address.host else "127.0.0.1"
    return call.address, Address(loopback, 0)


class Desk:
    """asked: all calls. tries: of each bind. listens: the verdict on each listen; None lets it go on."""

    def __init__(self) -> None:
        self.asked: list[Call] = []
        self.tries: Callable[[Call], tuple[Address, ...]] = or_any
        self.listens: Callable[[Call], Verdict | Later | None] = lambda call: None
        self.pid = 0
        self.engine: Engine
        self._listening: asyncio.Queue[Call] = asyncio.Queue()

    def __call__(self, call: Call) -> Any:
        self.asked.append(call)
        if call.name == "bind":
            return Bind("desk", tries=self.tries(call))
        self._listening.put_nowait(call)
        return self.listens(call) or Untouched("desk")

    @property
    def names(self) -> list[str]:
        return [call.name for call in self.asked]

    async def listener(self) -> Address:
        """Where the next one that listens really is."""
        async with timeout(LIMIT):
            call = await self._listening.get()
        assert call.bound is not None
        return call.bound

    async def knock(
        self,
        where: Address,
        client: Address | None = CLIENT,
        spoken: Address = SPOKEN,
        door: str = "127.0.0.1",
    ) -> str:
        """What the program says to a guest, to the end; client: None for one that is no guest."""
        loop, said = asyncio.get_running_loop(), b""
        async with timeout(LIMIT):
            near, own = await self._reach(where.port, client, spoken, door)
            with near:
                await loop.sock_sendall(near, b"GET / HTTP/1.0\r\n\r\n")
                while more := await loop.sock_recv(near, 4096):
                    said += more
        self.engine.guests.remove(own)
        return said.decode().rpartition("\r\n\r\n")[2]

    async def _reach(
        self, port: int, client: Address | None, spoken: Address, door: str
    ) -> tuple[socket.socket, Address]:
        """With a new socket each time: one that was refused is of no further use."""
        while True:
            near = socket.socket(socket.AF_INET6 if ":" in door else socket.AF_INET)
            near.setblocking(False)
            near.bind((door, 0))
            own = Address(*near.getsockname()[:2])
            if client is not None:
                self.engine.guests.add(own, client, spoken)
            try:
                await asyncio.get_running_loop().sock_connect(near, (door, port))
                return near, own
            except ConnectionRefusedError:
                near.close()
                self.engine.guests.remove(own)
                await asyncio.sleep(PAUSE)


class Running:
    def __init__(self, launched: Any, output: Path) -> None:
        self._launched, self._output = launched, output
        self.pid = launched.pid

    async def said(self) -> tuple[str, int]:
        """Its output and its status, at its end."""
        async with timeout(LIMIT):
            status = await self._launched.wait()
        return await asyncio.to_thread(self._output.read_text), status


@asynccontextmanager
async def under(desk: Desk, folder: Path, *program: object) -> AsyncIterator[Running]:
    """The program, running; ended afterwards."""
    words: Sequence[str] = [str(word) for word in program]
    shell, output = shutil.which("sh") or "sh", folder / "output"
    desk.engine = Engine(executable=shell)
    line = 'out=$1; shift; exec "$@" > "$out"'
    environ = {**os.environ, "PYMIRROR_SESSION": f"desk-{os.getpid()}"}
    try:
        launched = await desk.engine.start(
            ["sh", "-c", line, "sh", str(output), *words], environ, CALLS, desk
        )
        yield Running(launched, output)
    finally:
        await desk.engine.aclose()
