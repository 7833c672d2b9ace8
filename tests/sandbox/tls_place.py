"""A target whose application speaks TLS, programs that stand for its port, and clients of it."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from attrs import define
from tls_things import Made, Peer, asking, serving

from pymirror.core.limit import timeout
from tests.sandbox.pod_network import PROGRAMS
from tests.sandbox.steal_network import TARGET, WITHIN, Both, Side, _connected, inside

PORT, HOST = 8443, TARGET[4]
SERVER = PROGRAMS / "tls_web.py"
BIG = 24 << 20


@define
class Place:
    """made: the application's. local: the program's."""

    both: Both
    made: Made
    local: Made
    folder: Path
    go: Path

    @property
    def client(self) -> Side:
        return self.both.client


@asynccontextmanager
async def started(*command: Any, config: Any = None) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE if config else None,
        env={**os.environ, "PYMIRROR_PROGRESS_MODE": "simple"},
    )
    assert process.stdin is not None
    if config:
        process.stdin.write(json.dumps(config).encode())
    process.stdin.close()
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await asyncio.wait_for(process.communicate(), WITHIN)


async def line(stream: asyncio.StreamReader | None, having: str = "") -> str:
    """The next that has these words."""
    assert stream is not None
    async with timeout(WITHIN):
        while data := await stream.readline():
            if having in data.decode():
                return data.decode().strip()
    raise AssertionError(f"it ended without {having!r}")


@asynccontextmanager
async def application(place: Place, *command: Any) -> AsyncIterator[None]:
    command = command or (sys.executable, SERVER, "application", PORT, *files(place.made))
    async with started(*inside(place.both.target.pid, *command)) as process:
        await line(process.stdout, "up")
        yield


def files(made: Made) -> tuple[Path, Path]:
    return made.certificate, made.key


@asynccontextmanager
async def stealing(
    place: Place, *command: Any, made: Made | None = None, delivery: Any = None, **more: Any
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The program, which gets what begins with /mine; made: what the port is opened with."""
    chosen = {"mode": "steal", "http_filter": {"path_filter": "^/mine"}, "tls_delivery": delivery}
    certificate, key = map(str, files(made or place.made))
    entry = {"ports": [PORT], "certificate": certificate, "key": key, **more}
    off = {"outgoing": False, "dns": False}
    feature = {"fs": "local", "env": False, "hostname": False, "network": {"incoming": chosen, **off}}
    config = {"feature": feature, "agent": {"tls": [entry]}, "skip_build_tools": False}
    command = command or (sys.executable, SERVER, "program", PORT, *files(place.local))
    words = ("exec", "-f", "-", "-t", f"process/{place.both.target.pid}", "--", *command)
    async with started(sys.executable, "-m", "pymirror.cli.main", *words, config=config) as process:
        yield process


async def connected(side: Side, *protocols: str, name: str = "web") -> Peer:
    sock = await side.in_network(partial(_connected, HOST, PORT, 0))
    sock.setblocking(False)
    return await Peer(sock, asking(*protocols), name).shake()


async def asked(peer: Peer, request: bytes) -> bytes:
    """The answer's body."""
    await peer.send(request)
    data = b""
    while b"\r\n\r\n" not in data:
        more = await peer.some()
        assert more, data
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    return body + await peer.exactly(size - len(body))


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: web\r\n\r\n".encode()


def post(path: str, body: bytes) -> bytes:
    return b"POST %s HTTP/1.1\r\nHost: web\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(body)) + body


@asynccontextmanager
async def raw(place: Place, talks: Callable[[Peer], Awaitable[None]]) -> AsyncIterator[ssl.SSLContext]:
    """An application of the test's own; `talks` has a connection of it."""
    context, loop = serving(place.made), asyncio.get_running_loop()
    listener = await place.both.target.listen("0.0.0.0", PORT)
    tasks = []

    async def one(sock: Any) -> None:
        with suppress(OSError):
            await talks(await Peer(sock, context).shake())
        sock.close()

    async def accept() -> None:
        while True:
            sock, _ = await loop.sock_accept(listener)
            sock.setblocking(False)
            tasks.append(asyncio.ensure_future(one(sock)))

    tasks.append(asyncio.ensure_future(accept()))
    try:
        yield context
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        listener.close()
