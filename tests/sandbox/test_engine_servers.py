"""Servers of many runtimes under the engine, at a port that is another's: what they tell of a guest."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tools import build, tool

from tests.sandbox.incoming_desk import CLIENT, SPOKEN, Desk, under

pytestmark = pytest.mark.sandbox

PROGRAMS = Path(__file__).parent / "programs"
PYTHON = """
import http.server, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        names = (self.client_address, self.connection.getsockname(), self.server.socket.getsockname())
        self.send_response(200)
        self.end_headers()
        self.wfile.write("{}:{} {}:{} {}".format(*names[0], *names[1], names[2][1]).encode())
    def log_message(self, *_): pass

http.server.ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def port() -> Iterator[int]:
    """Another program has it on every address of this machine, of both IP versions."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        yield server.getsockname()[1]


def seen(port: int) -> str:
    return f"{CLIENT} {SPOKEN} {port}"


async def test_python(desk: Desk, port: int, tmp_path: Path) -> None:
    async with under(desk, tmp_path, sys.executable, "-c", PYTHON, port):
        where = await desk.listener()
        assert await asyncio.gather(*(desk.knock(where) for _ in range(5))) == [seen(port)] * 5


async def test_static_go(desk: Desk, port: int, tmp_path: Path) -> None:
    program = tmp_path / "incoming"
    await build("go", "build", "-o", program, PROGRAMS / "incoming.go", CGO_ENABLED="0", GO111MODULE="off")
    async with under(desk, tmp_path, program, port):
        where = await desk.listener()
        said = await asyncio.gather(*(desk.knock(where, door="::1") for _ in range(5)))
        assert said == [seen(port)] * 5


@pytest.mark.parametrize("workers", [0, 2])
async def test_node(desk: Desk, port: int, tmp_path: Path, workers: int) -> None:
    async with under(desk, tmp_path, tool("node"), PROGRAMS / "incoming.js", port, workers):
        where = await desk.listener()
        assert await asyncio.gather(*(desk.knock(where) for _ in range(5))) == [seen(port)] * 5


async def test_java(desk: Desk, port: int, tmp_path: Path) -> None:
    """By a socket that waits, then by a channel, which closes and listens again."""
    async with under(desk, tmp_path, tool("java"), PROGRAMS / "Incoming.java", port):
        first = await desk.knock(await desk.listener(), door="::1")
        assert first == f"{CLIENT} {SPOKEN} {port}"
        second = await desk.knock(await desk.listener(), door="::1")
        assert second.startswith(f"{CLIENT} {SPOKEN} ") and second.endswith(f":{port}")
