"""A target with name servers of its own, and the same program beside it: in its network, with its files.

What a program says there is what it must say under pymirror: `truth` and `run` have one answer.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from attrs import frozen

from pymirror.runtimes.process.sandbox import FILES, Sandbox
from tests.sandbox.pod_network import PROGRAMS, Ran, ran, run

RESOLV = (
    "nameserver 10.77.0.1\nnameserver fd77::1\nsearch demo.svc.cluster.local svc.cluster.local\n"
    "options ndots:5 timeout:2 attempts:1\n"
)
HOSTS = "127.0.0.1\tlocalhost\n::1\tlocalhost\n10.244.0.7\tdemo-pod\n"
NSSWITCH = "passwd: files\nhosts: files dns\n"
NAMES = {
    "/etc/resolv.conf": RESOLV,
    "/etc/hosts": HOSTS,
    "/etc/nsswitch.conf": NSSWITCH,
    "/etc/host.conf": "multi on\n",
}


@frozen
class NamesPod:
    """target: its files are the test's to change. folder: copies of what it has."""

    target: Sandbox
    folder: Path

    async def run(self, *program: object, dns: Any = True, prefix: Sequence[str] = (), **network: Any) -> Ran:
        """Under `pymirror exec`."""
        chosen = {"dns": dns, "outgoing": False, **network}
        return await run(self.target.pid, *program, network=chosen, prefix=prefix)

    async def truth(self, *program: object) -> Ran:
        """In the target's network, with its files over this machine's, without pymirror."""
        return await ran(*inside(self.target.pid, self.folder), *map(str, program))


def inside(pid: int, folder: Path) -> list[str]:
    """The words before a command that runs it in the network of `pid`, with these files in /etc."""
    binds = "".join(f"mount --bind {folder}/{name} /etc/{name} && " for name in sorted(os.listdir(folder)))
    script = f'{binds} exec "$@"'
    return ["nsenter", "-t", str(pid), "-n", "unshare", "-m", "sh", "-c", script, "sh"]


def write(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(parents=True)
    for path, text in files.items():
        (folder / os.path.basename(path)).write_text(text)
    return folder


@asynccontextmanager
async def name_servers(pid: int, *words: str) -> AsyncIterator[None]:
    """In the network of `pid`; words: their addresses, and whose they are."""
    made = await asyncio.create_subprocess_exec(
        *(sys.executable, PROGRAMS / "names_server.py", str(pid), *words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert made.stdout is not None and made.stdin is not None
    try:
        assert await made.stdout.readline() == b"up\n"
        yield
    finally:
        made.stdin.close()
        await made.wait()


@asynccontextmanager
async def names_pod(folder: Path) -> AsyncIterator[NamesPod]:
    files = {**FILES, **{path: text.encode() for path, text in NAMES.items()}}
    async with Sandbox.start(files=files) as sandbox:
        async with name_servers(sandbox.pid, "10.77.0.1", "fd77::1", "10.77.0.9"):
            yield NamesPod(sandbox, write(folder / "target", NAMES))


@asynccontextmanager
async def other_machine(folder: Path) -> AsyncIterator[list[str]]:
    """The words that run a command on a machine with names of its own, so that none of ours is asked."""
    files = {
        "/etc/resolv.conf": "nameserver 127.0.0.1\noptions timeout:2 attempts:1\n",
        "/etc/hosts": "127.0.0.1\tlocalhost\n192.168.0.7\tdemo-pod\n",
    }
    async with Sandbox.start() as sandbox:
        async with name_servers(sandbox.pid, "127.0.0.1", "here"):
            yield inside(sandbox.pid, write(folder / "machine", files))
