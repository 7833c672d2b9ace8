"""The program's socket by a descriptor of ours, for what only its owner can do.

It is known by its SO_COOKIE: the descriptor's number may be another's by now.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys

from pymirror.core.syscalls import syscall
from pymirror.features.network.listeners import Listeners

_SO_COOKIE = 57


def cookie_of(sock: socket.socket) -> int:
    return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8), sys.byteorder)


def borrowed(pid: int, number: int, cookie: int) -> socket.socket | None:
    """The socket a process has under that number; None: it is gone, or not to be had."""
    try:
        process = os.pidfd_open(pid)
    except OSError:
        return None
    try:
        fd = syscall("pidfd_getfd", process, number, 0)
    except OSError:
        return None
    finally:
        os.close(process)
    try:
        found = socket.socket(fileno=fd)
    except OSError:
        os.close(fd)
        return None
    if cookie_of(found) == cookie:
        return found
    found.close()
    return None


async def held(ours: Listeners, protocol: int, port: int, cookie: int) -> socket.socket | None:
    """That socket of the program, wherever the program has it; None: as above."""
    holder = await asyncio.to_thread(ours.holder, protocol, port, cookie)
    return borrowed(*holder, cookie) if holder is not None else None
