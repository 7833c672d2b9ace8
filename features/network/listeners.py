"""Who of the program listens on a port of this machine: asked of the kernel when it matters.

A port may be opened by any process of the program at any time, so no answer about a port is kept. A
process is the program's when it descends from it, or has the session's mark in its environment.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterator
from contextlib import suppress

from attrs import frozen

from pymirror.features.network import sockdiag

MOST_OTHERS = 4096


@frozen
class Place:
    """Of a socket: its protocol (sockdiag's), the port it has on this machine, and its SO_COOKIE."""

    protocol: int
    port: int
    cookie: int


def sockets(transport: str, port: int = 0) -> dict[int, int]:
    """Inode → local port of this machine's listening TCP or bound UDP sockets; port 0: of all."""
    if transport == "tcp":
        found = sockdiag.sockets(socket.IPPROTO_TCP, sockdiag.LISTEN, port)
    else:
        found = sockdiag.sockets(socket.IPPROTO_UDP, sockdiag.ANY_STATE, port)
    return {each.inode: each.port for each in found}


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

    def holders(self, wanted: Collection[Place]) -> dict[Place, tuple[int, int]]:
        """(process, descriptor) of each of these sockets of the program that is there."""
        inodes: dict[int, Place] = {}
        for protocol in {place.protocol for place in wanted}:
            for each in sockdiag.sockets(protocol, sockdiag.ANY_STATE):
                place = Place(protocol, each.port, each.cookie)
                if place in wanted:
                    inodes[each.inode] = place
        found: dict[Place, tuple[int, int]] = {}
        for pid in _processes(self._program, self._mark) if inodes else ():
            held = _held(pid)
            found |= {inodes[inode]: (pid, held[inode]) for inode in inodes.keys() & held.keys()}
            if len(found) == len(inodes):
                break
        return found


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
