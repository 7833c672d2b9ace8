"""A target with a network of its own and servers in it, and programs run in its context."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from attrs import frozen

from pymirror.runtimes.process.sandbox import Sandbox

PROGRAMS = Path(__file__).parent / "programs"
LIMIT = 100.0


@frozen
class Ran:
    status: int
    out: str
    err: str

    def json(self) -> Any:
        assert self.status == 0, self
        return json.loads(self.out)


async def ran(*command: object) -> Ran:
    made = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(made.communicate(), LIMIT)
    return Ran(made.returncode or 0, out.decode(), err.decode())


async def run(
    pid: int,
    *program: object,
    network: dict[str, Any],
    session: dict[str, Any] | None = None,
    trace: bool = True,
    prefix: Sequence[str] = (),
) -> Ran:
    """Under `pymirror exec` with the process `pid` as its target, and env, fs and hostname off.

    network: `feature.network`. session: its section. prefix: words before the command.
    """
    chosen = {"fs": "local", "env": False, "hostname": False, "network": network}
    configuration = json.dumps({"feature": chosen, "session": session or {}, "skip_build_tools": False})
    command = [sys.executable, "-m", "pymirror.cli.main", "exec", "-f", "-", "-t", f"process/{pid}"]
    made = await asyncio.create_subprocess_exec(
        *prefix, *command, *(["--trace"] if trace else []), "--", *map(str, program),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYMIRROR_PROGRESS_MODE": "simple"},
    )  # fmt: skip
    try:
        out, err = await asyncio.wait_for(made.communicate(configuration.encode()), LIMIT)
    except BaseException:
        made.terminate()
        await made.wait()
        raise
    return Ran(made.returncode or 0, out.decode(), err.decode())


@frozen
class Pod:
    """pid: the target. servers: their standard output."""

    pid: int
    servers: asyncio.StreamReader

    async def run(self, *program: object, feature: dict[str, Any] | None = None, **more: Any) -> Ran:
        """See `run`, with dns off; feature: of `feature.network`."""
        return await run(self.pid, *program, network={"dns": False, **(feature or {})}, **more)

    async def truth(self, *program: object) -> Ran:
        """What it says in the target's network itself, without pymirror."""
        return await ran("nsenter", "-t", self.pid, "-n", *program)


@asynccontextmanager
async def pod() -> AsyncIterator[Pod]:
    async with Sandbox.start() as sandbox:
        servers = await asyncio.create_subprocess_exec(
            *(sys.executable, PROGRAMS / "servers.py", str(sandbox.pid)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert servers.stdout is not None and servers.stdin is not None
        try:
            assert await servers.stdout.readline() == b"up\n"
            yield Pod(sandbox.pid, servers.stdout)
        finally:
            servers.stdin.close()
            await servers.wait()
