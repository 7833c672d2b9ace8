"""What the kernel remembers of connections that were caught and reset here: forgotten at the end.

It remembers one for ten seconds, with where it was redirected. A client that comes again by the same port
would be sent there, where nobody listens any more, and be refused; and each try would make it last. Those
that have ended by their FINs are no hindrance, and of those that have not, something may still be leaving.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Collection

from pymirror.features.network import netlink

_NETFILTER, _CONNTRACK = 12, 1 << 8
_GET, _DELETE = _CONNTRACK | 1, _CONNTRACK | 2
_FAMILY, _ATTRIBUTE = struct.Struct("=BBH"), struct.Struct("=HH")
_TYPE = 0x3FFF
"""Of an attribute, without its flags."""
_ORIGINAL, _REPLY, _STATE, _ZONE = 1, 2, 4, 18
_PROTOCOL, _NUMBER, _SOURCE_PORT, _TO_PORT = 2, 1, 2, 3
_TCP_STATE, _CLOSE = 1, 8
MOST = 10_000
"""Connections that are forgotten; each takes 6 us."""
ROOM = 64 << 10
"""Bytes of one answer."""
WITHIN = 2.0
"""Seconds for the kernel to answer; it does at once."""


def forget(ports: Collection[int]) -> int:
    """Have the kernel forget TCP connections that were redirected to these ports and reset. How many.

    In the network namespace it is called in. OSError: the kernel tells nothing of them, or we may not ask.
    """
    forgotten = 0
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETFILTER) as link:
        link.settimeout(WITHIN)
        for family in (socket.AF_INET, socket.AF_INET6):
            for key in _listed(link, family, ports)[: MOST - forgotten]:
                link.send(_message(_DELETE, netlink.ACK, family, key))
                code = _answer(link.recv(ROOM))
                if code not in (0, errno.ENOENT):  # it has gone by itself
                    raise OSError(code, os.strerror(code))
                forgotten += not code
    return forgotten


def _listed(link: socket.socket, family: int, ports: Collection[int]) -> list[bytes]:
    """What names each of them."""
    link.send(_message(_GET, netlink.DUMP, family))
    found: list[bytes] = []
    while True:
        for kind, body in netlink.messages(link.recv(ROOM)):
            if kind in (netlink.DONE, netlink.ERROR):
                code = netlink.code_of(body)
                if code:
                    raise OSError(code, os.strerror(code))
                return found
            key = redirected(body[_FAMILY.size :], ports)
            if key:
                found.append(key)


def _message(kind: int, flags: int, family: int, body: bytes = b"") -> bytes:
    return netlink.message(kind, netlink.REQUEST | flags, _FAMILY.pack(family, 0, 0) + body)


def _answer(data: bytes) -> int:
    """The errno of an acknowledgement."""
    codes = (netlink.code_of(body) for kind, body in netlink.messages(data) if kind == netlink.ERROR)
    return next(codes, errno.EPROTO)


def attributes(data: bytes) -> dict[int, bytes]:
    """By their type. Pure."""
    found = {}
    while len(data) >= _ATTRIBUTE.size:
        size, kind = _ATTRIBUTE.unpack_from(data)
        if not _ATTRIBUTE.size <= size <= len(data):
            break
        found[kind & _TYPE] = data[_ATTRIBUTE.size : size]
        data = data[size + 3 & ~3 :]
    return found


def redirected(told: bytes, ports: Collection[int]) -> bytes:
    """What names a TCP connection that was reset, went to another port than one of these, and whose answers
    came from that; b"": it is another. Pure."""
    found = attributes(told)
    asked, answered = (_protocol(found.get(way, b"")) for way in (_ORIGINAL, _REPLY))
    port, to = answered.get(_SOURCE_PORT, b""), asked.get(_TO_PORT, b"")
    if answered.get(_NUMBER) != bytes((socket.IPPROTO_TCP,)) or not to or to == port:
        return b""
    state = attributes(attributes(found.get(_STATE, b"")).get(_TCP_STATE, b"")).get(_TCP_STATE, b"")
    if int.from_bytes(port, "big") not in ports or state != bytes((_CLOSE,)):
        return b""
    named = {kind: found[kind] for kind in (_ORIGINAL, _ZONE) if kind in found}
    return b"".join(_attribute(kind, value) for kind, value in named.items())


def _protocol(way: bytes) -> dict[int, bytes]:
    return attributes(attributes(way).get(_PROTOCOL, b""))


def _attribute(kind: int, value: bytes) -> bytes:
    nested = 0x8000 if kind == _ORIGINAL else 0
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind | nested) + value + bytes(-len(value) % 4)
