"""Who of the program listens on a port of this machine: asked of the kernel when it matters.

A port may be opened by any process of the program at any time, so no answer about a port is kept. A
process is the program's when it descends from it, or has the session's mark in its environment.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress

LISTEN, ANY_STATE = 1 << 10, 0xFFFFFFFF
MOST_OTHERS = 4096
_SOCK_DIAG, _BY_FAMILY = 4, 20
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBBI")  # then the socket's id: its port first, in network order
_ID = 48
_INODE = _HEADER.size + 4 + _ID + 16


def sockets(transport: str, port: int = 0) -> dict[int, int]:
    """Inode → local port of this machine's listening TCP or bound UDP sockets; port 0: of all.

    Asked of the kernel by sock_diag: /proc/net/tcp would walk every connection there is.
    """
    protocol, states = (socket.IPPROTO_TCP, LISTEN) if transport == "tcp" else (socket.IPPROTO_UDP, ANY_STATE)
    found: dict[int, int] = {}
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _SOCK_DIAG) as link:
        for family in (socket.AF_INET, socket.AF_INET6):
            body = _REQUEST.pack(family, protocol, 0, 0, states) + struct.pack("!H", port) + b"\0" * (_ID - 2)
            size = _HEADER.size + len(body)
            link.send(_HEADER.pack(size, _BY_FAMILY, 0x301, 0, 0) + body)  # a request, a dump
            while read(link.recv(1 << 18), found):
                pass
    return found


def read(data: bytes, found: dict[int, int]) -> bool:
    """Add what one answer of the kernel tells; whether another follows. OSError that it tells."""
    while len(data) >= _HEADER.size:
        size, kind, *_ = _HEADER.unpack_from(data)
        if kind == 3:  # done
            return False
        if kind == 2:  # error
            code = -struct.unpack_from("=i", data, _HEADER.size)[0]
            if code:
                raise OSError(code, os.strerror(code), "sock_diag")
            return False
        if kind == _BY_FAMILY:
            (port,) = struct.unpack_from("!H", data, _HEADER.size + 4)
            (inode,) = struct.unpack_from("=I", data, _INODE)
            found[inode] = port
        data = data[size + 3 & ~3 :]
    return True


class Listeners:
    """Asks for one program. A socket that is another's stays another's: it is looked up once."""

    def __init__(self, program: int, mark: bytes) -> None:
        self._program, self._mark = program, mark
        self._others: set[int] = set()

    def of(self, transport: str, port: int) -> str:
        """`NAME (pid)` of the process of the program that has the port; empty when none has."""
        wanted = {inode for inode, its in sockets(transport, port).items() if its == port} - self._others
        if not wanted:
            return ""
        for pid in _processes(self._program, self._mark):
            if wanted & _held(pid).keys():
                return f"{_read(f'/proc/{pid}/comm').strip()} ({pid})"
        if len(self._others) > MOST_OTHERS:
            self._others.clear()
        self._others |= wanted
        return ""

    def holder(self, port: int) -> tuple[int, int] | None:
        """(process, descriptor) of the program's UDP socket that has the port."""
        wanted = {inode for inode, its in sockets("udp", port).items() if its == port}
        for pid in _processes(self._program, self._mark) if wanted else ():
            for inode, number in _held(pid).items():
                if inode in wanted:
                    return pid, number
        return None


def _processes(program: int, mark: bytes) -> Iterator[int]:
    """The program's first process (0: not known yet), then its descendants and all others with its mark."""
    tree = {program} - {0}
    yield from tree
    others = sorted(int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != program)
    parents = {pid: _parent(pid) for pid in others}
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in tree} - tree
        grown = bool(more)
        tree |= more
        yield from more
    for pid in others:
        if pid not in tree and mark and mark in _bytes(f"/proc/{pid}/environ"):
            yield pid


def _parent(pid: int) -> int:
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(fields[1]) if len(fields) > 1 else 0


def _held(pid: int) -> dict[int, int]:
    """Inode → descriptor of the sockets of a process."""
    found: dict[int, int] = {}
    try:
        numbers = os.listdir(f"/proc/{pid}/fd")
    except OSError:  # it has ended, or became another user's
        return found
    for number in numbers:
        with suppress(OSError):  # closed meanwhile
            link = os.readlink(f"/proc/{pid}/fd/{number}")
            if link.startswith("socket:["):
                found[int(link[8:-1])] = int(number)
    return found


def _bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _read(path: str) -> str:
    return _bytes(path).decode("utf-8", "replace")
