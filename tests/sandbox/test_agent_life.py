"""A real agent beside a sandbox target: whom it answers, what it may do, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from attrs import frozen

from pymirror.agent.main import LEASE_OVER, OK
from pymirror.agent.rights import numbers
from pymirror.core.channel import Channel, Keys
from pymirror.core.errors import PeerError, PymirrorError
from pymirror.core.handshake import NAME, Goodbye, greet
from pymirror.features.env.config import Config as EnvConfig
from pymirror.features.env.layer import Layer as EnvLayer
from pymirror.features.env.messages import AskVariables, Variables
from pymirror.features.env.select import unpack
from pymirror.features.hostname.config import Config as HostnameConfig
from pymirror.features.hostname.layer import Layer as HostnameLayer
from pymirror.features.hostname.messages import AskHostname, Hostname
from pymirror.runtimes.process.sandbox import ENVIRON, Sandbox

pytestmark = pytest.mark.sandbox

PARTS: list[Any] = [(EnvLayer, EnvConfig()), (HostnameLayer, HostnameConfig())]
VERSION = "0.1.0"
RIGHTS = ("DAC_OVERRIDE", "SYS_PTRACE")
WITHIN = 20.0


@frozen
class Agent:
    """A running agent: its process, its ready line, the one layer's keys."""

    process: asyncio.subprocess.Process
    key: str
    port: int
    layer: Keys

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    async def connect(self, keys: Keys | None = None) -> Channel:
        return await Channel.connect(self.address, keys or self.layer, self.key)

    async def ended(self) -> int:
        return await asyncio.wait_for(self.process.wait(), WITHIN)


@asynccontextmanager
async def agent_beside(pid: int, lease: float = 20.0, *options: str) -> AsyncIterator[Agent]:
    layer = Keys.generate()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pymirror.agent", "--pid", str(pid), f"--layer-key={layer.public}"),
        *("--lease", str(lease), "--features", "env,hostname", "--rights", ",".join(RIGHTS), *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        line = await asyncio.wait_for(process.stdout.readline(), WITHIN)  # type: ignore[union-attr]
        assert line, await process.stderr.read()  # type: ignore[union-attr]
        ready = json.loads(line)
        assert ready["pymirror_agent"] == VERSION
        yield Agent(process, ready["key"], ready["port"], layer)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def proc_lines(path: str) -> list[str]:
    with open(f"/proc/{path}", encoding="ascii") as file:
        return file.read().splitlines()


def fields_of(agent: Agent, path: str, divider: str) -> dict[str, str]:
    lines = proc_lines(f"{agent.process.pid}/{path}")
    return {name: value for name, found, value in (line.partition(divider) for line in lines) if found}


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox.start() as running:
        yield running


@pytest.fixture
async def agent(sandbox: Sandbox) -> AsyncIterator[Agent]:
    async with agent_beside(sandbox.pid) as running:
        yield running


async def test_environment_and_host_name(agent: Agent) -> None:
    channel = await agent.connect()
    try:
        welcome = await greet(channel, VERSION, PARTS)
        assert welcome.features == {"env": 1, "hostname": 1}
        variables: Variables = await channel.peer("env").request(AskVariables([], []))
        wanted = {name: value for name, value in ENVIRON.items() if name not in ("PATH", "HOME")}
        assert unpack(bytes(variables.block)) == wanted
        assert sorted(variables.kept_back) == [b"HOME", b"PATH"]
        name: Hostname = await channel.peer("hostname").request(AskHostname())
        assert name.name == b"demo-pod"
    finally:
        await channel.aclose()


async def test_goodbye_ends_it(agent: Agent) -> None:
    channel = await agent.connect()
    await greet(channel, VERSION, PARTS)
    channel.peer(NAME).send(Goodbye())
    assert await agent.ended() == OK
    await channel.aclose()


async def test_wrong_key_gets_nothing(agent: Agent) -> None:
    with pytest.raises(PeerError):
        await asyncio.wait_for(agent.connect(Keys.generate()), WITHIN)
    channel = await agent.connect()
    await greet(channel, VERSION, PARTS)
    await channel.aclose()


async def test_second_layer_with_the_key_changes_nothing(agent: Agent) -> None:
    first = await agent.connect()
    await greet(first, VERSION, PARTS)
    with pytest.raises(PeerError):
        second = await asyncio.wait_for(agent.connect(), WITHIN)
        try:
            await asyncio.wait_for(greet(second, VERSION, PARTS), WITHIN)
        finally:
            await second.aclose()
    name: Hostname = await first.peer("hostname").request(AskHostname())
    assert name.name == b"demo-pod"
    await first.aclose()


async def test_other_version_is_refused_by_name(agent: Agent) -> None:
    channel = await agent.connect()
    with pytest.raises(PeerError, match=r"the agent is pymirror 0\.1\.0, this side is 9\.9\.9"):
        await greet(channel, "9.9.9", PARTS)
    await channel.aclose()


async def test_a_feature_it_was_not_started_for_is_refused(sandbox: Sandbox) -> None:
    async with agent_beside(sandbox.pid, 20.0, "--features", "hostname") as agent:
        channel = await agent.connect()
        with pytest.raises(PymirrorError, match="feature env: this agent was started for hostname only"):
            await greet(channel, VERSION, PARTS)
        await channel.aclose()


async def test_ends_when_no_layer_comes(sandbox: Sandbox) -> None:
    async with agent_beside(sandbox.pid, 0.5) as agent:
        assert await agent.ended() == LEASE_OVER


async def test_ends_with_the_target(sandbox: Sandbox, agent: Agent) -> None:
    os.kill(sandbox.pid, signal.SIGKILL)
    assert await agent.ended() == OK


async def test_ends_on_term(agent: Agent) -> None:
    agent.process.terminate()
    assert await agent.ended() == OK
    words = await agent.process.stderr.read()  # type: ignore[union-attr]
    assert b"ending: SIGTERM" in words
    assert await agent.process.stdout.read() == b""  # type: ignore[union-attr]


async def test_has_only_the_rights_it_needs(agent: Agent) -> None:
    status = fields_of(agent, "status", ":\t")
    allowed = sum(1 << number for number in numbers(RIGHTS))
    # Only root may shrink the bounding set; without new privileges it gives nothing anyway.
    bounding = ("CapBnd",) if os.geteuid() == 0 else ()
    for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb", *bounding):
        assert int(status[kind], 16) & ~allowed == 0, kind
    assert status["NoNewPrivs"] == "1"
    assert os.stat(f"/proc/{agent.process.pid}/mem").st_uid == 0  # not dumpable
    assert fields_of(agent, "limits", "  ")["Max core file size"].split()[:2] == ["0", "0"]


async def test_listens_on_loopback_only(agent: Agent) -> None:
    rows = [line.split() for line in proc_lines("net/tcp")]
    listening = [row[1] for row in rows if row[3] == "0A"]
    assert f"0100007F:{agent.port:04X}" in listening
    assert f"00000000:{agent.port:04X}" not in listening


async def test_resident_memory(agent: Agent) -> None:
    channel = await agent.connect()
    await greet(channel, VERSION, PARTS)
    resident = int(fields_of(agent, "status", ":\t")["VmRSS"].split()[0])
    await channel.aclose()
    assert resident <= 40 * 1024  # KiB; design: 40 MiB idle
