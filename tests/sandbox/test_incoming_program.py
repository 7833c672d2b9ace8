"""Real programs whose listeners stand for ports of the target: the layer half under the engine, an agent in words."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from incoming_agent import CLIENT, LIMIT, SPOKEN, Agent, until

from pymirror.core.feature import Launch, Process
from pymirror.core.limit import timeout
from pymirror.core.testing import FakeTarget, pair
from pymirror.features.network.incoming import messages as m
from pymirror.features.network.incoming.config import Config
from pymirror.features.network.incoming.layer import Layer
from pymirror.features.network.outgoing.agent import Agent as OutgoingAgent
from pymirror.features.network.outgoing.config import Config as OutgoingConfig
from pymirror.features.network.outgoing.layer import Layer as Outgoing
from pymirror.layer.calls import Dispatch
from pymirror.layer.engines.seccomp.engine import Engine

pytestmark = pytest.mark.sandbox

PROGRAM = Path(__file__).parent / "programs" / "served.py"
STEAL = Config(mode="steal")
SEEN = f"{CLIENT} {CLIENT} {SPOKEN}"


@pytest.fixture(params=["free", "taken"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """One that this machine has free, or that another program of it has."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        number = server.getsockname()[1]
        if request.param == "taken":
            yield number
            return
    yield number


class Running:
    def __init__(self, agent: Agent, launched: Any, output: Path) -> None:
        self.agent, self.pid = agent, launched.pid
        self._launched, self._output = launched, output

    async def ask(self, port: int) -> str:
        """What a client of the target's port is answered."""
        async with timeout(LIMIT):
            await until(lambda: f"subscribe {port}" in self.agent.said)
            stream, said = self.agent.arrive(port), b""
            await stream.write(b"hello ")
            await stream.close_write()
            while more := await stream.read():
                said += more
        return said.decode()

    async def said(self) -> list[str]:
        """What it printed, at its end."""
        async with timeout(LIMIT):
            assert await self._launched.wait() == 0
        return self._output.read_text().splitlines()


@asynccontextmanager
async def running(folder: Path, config: Config, *words: object, answer: Any = None) -> AsyncIterator[Running]:
    shell, output = shutil.which("sh") or "sh", folder / "output"
    engine = Engine(executable=shell)
    environ = {**os.environ, "PYMIRROR_SESSION": f"served-{os.getpid()}"}
    launch = Launch(["sh"], environ, str(folder), guests=engine.guests, forget=engine.forget)
    line = 'out=$1; shift; exec "$@" > "$out"'
    argv = ["sh", "-c", line, "sh", str(output), sys.executable, str(PROGRAM), *map(str, words)]
    with FakeTarget(folder) as target:
        async with (
            pair(Layer, Agent, config, target) as both,
            pair(Outgoing, OutgoingAgent, OutgoingConfig(), target) as out,
        ):
            both.agent.answer = answer or m.Subscribed()
            halves = [both.layer, out.layer]
            for half in halves:
                await half.prepare(launch)
            dispatch = Dispatch(halves)
            try:
                launched = await engine.start(argv, environ, dispatch.calls, dispatch)
                for half in halves:
                    await half.started(Process(launched.pid))
                yield Running(both.agent, launched, output)
            finally:
                await engine.aclose()


async def test_a_server_sees_its_clients_and_the_address_it_asked_for(tmp_path: Path, port: int) -> None:
    async with running(tmp_path, STEAL, "one", port) as it:
        assert await it.ask(port) == f"hello {SEEN}"
        assert await it.said() == [f"0.0.0.0 {port}"]
        await until(lambda: it.agent.said == [f"subscribe {port}", f"release {port}"])


async def test_the_targets_port_may_be_another(tmp_path: Path, port: int) -> None:
    async with running(tmp_path, Config(mode="steal", port_mapping=[[port, 81]]), "one", port) as it:
        assert await it.ask(81) == f"hello {SEEN}"
        assert await it.said() == [f"0.0.0.0 {port}"]


async def test_a_program_reaches_itself(tmp_path: Path, port: int) -> None:
    async with running(tmp_path, STEAL, "itself", port) as it:
        assert await it.said() == ["self True"] * 3


async def test_a_second_start_fails(tmp_path: Path, port: int) -> None:
    async with running(tmp_path, STEAL, "twice", port) as it:
        assert (await it.ask(port)).startswith("hello ")
        assert await it.said() == ["EADDRINUSE"]
        assert it.agent.said.count(f"subscribe {port}") == 1


async def test_a_server_that_is_there_again_at_once_keeps_its_port(tmp_path: Path, port: int) -> None:
    async with running(tmp_path, STEAL, "again", port) as it:
        for _ in range(2):
            assert await it.ask(port) == f"hello {SEEN}"
        await it.said()


async def test_a_listener_that_a_worker_has_is_released_with_it(tmp_path: Path, port: int) -> None:
    async with running(tmp_path, STEAL, "handed", port) as it:
        assert await it.ask(port) == f"hello {SEEN}"
        await until(lambda: it.agent.said == [f"subscribe {port}", f"release {port}"])
        os.kill(it.pid, signal.SIGTERM)
        await it.said()


async def test_a_port_that_is_refused_is_in_use(tmp_path: Path, port: int) -> None:
    answer = m.Subscribed(errno.EADDRINUSE, "it is stolen by ann")
    async with running(tmp_path, STEAL, "refused", port, answer=answer) as it:
        assert await it.said() == ["EADDRINUSE"]
