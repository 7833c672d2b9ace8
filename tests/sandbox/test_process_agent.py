"""The process runtime with a real agent: it is there, it is reached, and it is gone at the end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack

import pytest
from kept_report import Kept

from pymirror.core.channel import Channel, Keys
from pymirror.core.errors import PeerError
from pymirror.core.handshake import greet
from pymirror.core.session import AgentOrder, Found
from pymirror.features.hostname.config import Config as HostnameConfig
from pymirror.features.hostname.layer import Layer as HostnameLayer
from pymirror.runtimes.process.runtime import Runtime
from pymirror.runtimes.process.sandbox import Sandbox

pytestmark = pytest.mark.sandbox

WITHIN = 20.0


def children() -> set[int]:
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
        return {int(pid) for pid in file.read().split()}


async def test_session_of_an_agent() -> None:
    keys = Keys.generate()
    async with Sandbox.start() as sandbox:
        before = children()
        async with AsyncExitStack() as undo:
            runtime = Runtime(None, f"process/{sandbox.pid}", None, Kept())
            found = await runtime.check(["hostname"])
            assert found.title == f"process {sandbox.pid} (sleep)"
            endpoint = await runtime.start(found, AgentOrder(keys.public, ("hostname",)), undo)
            channel = await Channel.connect(endpoint.address, keys, endpoint.agent_key)
            undo.push_async_callback(channel.aclose)
            welcome = await greet(channel, "0.1.0", [(HostnameLayer, HostnameConfig())])
            assert welcome.features == {"hostname": 1}
            assert len(children() - before) == 1
        assert children() == before


async def test_target_gone_while_starting_says_so() -> None:
    async with AsyncExitStack() as undo:
        runtime = Runtime(None, "process/4194305", None, Kept())
        with pytest.raises(PeerError, match=r"ended before it was ready: .*there is no process 4194305"):
            await runtime.start(Found("gone", detail=4194305), AgentOrder(Keys.generate().public, ()), undo)


STARTER = """
import asyncio, os, sys
from contextlib import AsyncExitStack
from pymirror.core.channel import Keys
from pymirror.core.session import AgentOrder, Found
from pymirror.runtimes.process.runtime import Runtime
async def main():
    undo = AsyncExitStack()
    order = AgentOrder(Keys.generate().public, ())
    await Runtime(None, None, None, None).start(Found("none"), order, undo)
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        print(file.read().split()[0], flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_the_agent_ends_with_a_killed_pymirror() -> None:
    starter = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STARTER, stdout=asyncio.subprocess.PIPE, cwd="/"
    )
    assert starter.stdout is not None
    agent = int(await asyncio.wait_for(starter.stdout.readline(), WITHIN))
    pidfd = os.pidfd_open(agent)
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(pidfd, gone.set)
    try:
        starter.send_signal(signal.SIGKILL)
        await asyncio.wait_for(gone.wait(), WITHIN)
    finally:
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
        await starter.wait()
