"""A pod-like sandbox on this machine: what `pymirror demo` and the sandbox tests use as the pod.

Own root (tmpfs), network, processes, host name and IPC; without root where user namespaces are
allowed. It changes nothing outside itself: when its helper ends, however it ends, the kernel
drops all of it. `pod.py` is the part that runs inside.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from attrs import frozen

from pymirror.core.errors import SupportError
from pymirror.core.limit import timeout
from pymirror.core.syscalls import NUMBERS
from pymirror.runtimes.process import pod

START_WITHIN = 10.0
"""Seconds; building the root takes 0.1 s."""

_SECRETS = "/var/run/secrets/kubernetes.io/serviceaccount"

FILES: Mapping[str, bytes] = {
    "/etc/hostname": b"demo-pod\n",
    "/etc/hosts": b"127.0.0.1\tlocalhost\n10.244.0.7\tdemo-pod\n",
    "/etc/resolv.conf": b"nameserver 10.96.0.10\nsearch demo.svc.cluster.local\noptions ndots:5\n",
    "/etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
    "/etc/group": b"root:x:0:\n",
    "/app/config.yaml": b"name: demo\nstore: /data/store.json\n",
    "/data/greeting.txt": b"hello from the pod\n",
    "/data/store.json": b'{"orders": 3}\n',
    f"{_SECRETS}/namespace": b"demo",
    f"{_SECRETS}/token": b"not-a-real-token",
}
"""What a pod of a small application has. `/etc/hostname` follows the sandbox's host name."""

LINKS: Mapping[str, str] = {"/data/current": "/data/store.json"}

ENVIRON: Mapping[str, str] = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "HOSTNAME": "demo-pod",
    "GREETING": "hello",
    "DATABASE_URL": "postgres://orders@db.demo.svc.cluster.local/orders",
    "KUBERNETES_SERVICE_HOST": "10.96.0.1",
    "KUBERNETES_SERVICE_PORT": "443",
}

COMMAND = ("/bin/sleep", "infinity")


class _Said(msgspec.Struct):
    pid: int = 0
    error: str = ""


@frozen
class Sandbox:
    """A running sandbox. pid: its first process as this machine numbers it; hostname: its name."""

    pid: int
    hostname: str

    @classmethod
    @asynccontextmanager
    async def start(
        cls,
        files: Mapping[str, bytes] = FILES,
        links: Mapping[str, str] = LINKS,
        environ: Mapping[str, str] = ENVIRON,
        hostname: str = "demo-pod",
        command: Sequence[str] = COMMAND,
        uid: int = 0,
    ) -> AsyncIterator[Sandbox]:
        """A sandbox for the time of the block.

        files: absolute path → content; links: absolute path → target. command: run as the
        first process, with `environ` alone. uid: its user and group (as root only).
        SupportError naming what this machine does not allow.
        """
        order = {
            "files": {path: content.decode("latin-1") for path, content in files.items()},
            "links": dict(links),
            "environ": dict(environ),
            "hostname": hostname,
            "command": list(command),
            "uid": uid,
            "pivot_root": NUMBERS["pivot_root"],
        }
        if "/etc/hostname" in files:
            order["files"] = {**order["files"], "/etc/hostname": f"{hostname}\n"}  # type: ignore[dict-item]
        helper = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", pod.__file__),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            yield cls(await _pid(helper, order), hostname)
        finally:
            await _end(helper)

    @property
    def root(self) -> str:
        """Its root directory, reachable from this machine as long as it runs."""
        return f"/proc/{self.pid}/root"

    def write(self, path: str, content: bytes) -> None:
        """Write a file of the sandbox from outside (absolute path; folders are made)."""
        place = f"{self.root}{path}"
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place, "wb") as file:
            file.write(content)


async def _pid(helper: asyncio.subprocess.Process, order: Mapping[str, object]) -> int:
    stdin: Any = helper.stdin
    stdout: Any = helper.stdout
    stdin.write(json.dumps(order).encode() + b"\n")
    try:
        async with timeout(START_WITHIN):
            line = await stdout.readline()
    except asyncio.TimeoutError:
        raise SupportError(f"the sandbox was not there after {START_WITHIN:g} s") from None
    if not line:
        raise SupportError("the sandbox's helper ended without a word", "its words are above, on stderr")
    said = msgspec.json.decode(line, type=_Said)
    if said.error:
        raise SupportError(
            f"the sandbox cannot be made: {said.error}",
            "it needs namespaces of its own: root, or user namespaces for users; a container may forbid both",
        )
    return said.pid


async def _end(helper: asyncio.subprocess.Process) -> None:
    stdin: Any = helper.stdin
    stdin.close()
    try:
        async with timeout(START_WITHIN):
            await helper.wait()
    except asyncio.TimeoutError:
        helper.kill()
        await helper.wait()
