"""Connections of the application that were there before its port was taken, ended when the user wants that.

SOCK_DESTROY over sock_diag: each as if its peer had reset it, and the peer gets a reset. Exactly those of the
port, established, and of processes of the target: a sidecar's are its own.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from functools import partial

from pymirror.core.feature import Target
from pymirror.features.network import sockdiag


async def flush(target: Target, port: int) -> int:
    """How many were ended."""
    inodes = await asyncio.to_thread(held, target.pid)
    return await target.in_network(partial(ended, port, inodes))


def ended(port: int, inodes: set[int]) -> int:
    """In a thread in the target's network. PermissionError without NET_ADMIN."""
    count = 0
    for each in sockdiag.sockets(socket.IPPROTO_TCP, sockdiag.ESTABLISHED, port):
        if each.port == port and each.inode in inodes:
            with suppress(FileNotFoundError):  # by itself, meanwhile
                sockdiag.destroy(socket.IPPROTO_TCP, each)
                count += 1
    return count


def held(pid: int) -> set[int]:
    """Inodes of the sockets of the processes in the PID namespace of `pid`, as far as they show them."""
    found: set[int] = set()
    space = os.stat(f"/proc/{pid}/ns/pid").st_ino
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):  # it has ended, or is another user's
            if os.stat(f"/proc/{name}/ns/pid").st_ino == space:
                found |= _sockets(name)
    return found


def _sockets(process: str) -> set[int]:
    found = set()
    for number in os.listdir(f"/proc/{process}/fd"):
        with suppress(OSError):  # closed meanwhile
            link = os.readlink(f"/proc/{process}/fd/{number}")
            if link.startswith("socket:["):
                found.add(int(link[8:-1]))
    return found
