"""The kernel's table of this machine's sockets, asked for a part of it: /proc/net/tcp would tell them all."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct

from attrs import frozen

from pymirror.features.network import netlink

ESTABLISHED, SYN_SENT, LISTEN, ANY_STATE = 1 << 1, 1 << 2, 1 << 10, 0xFFFFFFFF
TCP, UDP, MPTCP = socket.IPPROTO_TCP, socket.IPPROTO_UDP, 262
MOST_AT_ONCE = 32 << 10
"""Bytes of one answer: the kernel's own bound. To make room for more costs more than the question."""
_SOCK_DIAG, _BY_FAMILY, _DESTROY = 4, 20, 21
_REQUEST = struct.Struct("=BBBBI")
_PORTS = struct.Struct("!HH")
_ID = 48
_WIDE = struct.pack("=HHI", 8, 3, MPTCP)
"""A protocol whose number the request's own byte does not hold."""
_COOKIE, _INODE = 4 + _ID - 8, 4 + _ID + 16


@frozen
class Found:
    """A socket: its own address, IPv4 where it speaks that on an IPv6 socket, its inode and its SO_COOKIE.

    family, key: how the kernel's table knows it.
    """

    host: ipaddress.IPv4Address | ipaddress.IPv6Address
    port: int
    inode: int
    cookie: int
    family: int = 0
    key: bytes = b""


def sockets(protocol: int, states: int, port: int = 0, to: int = 0) -> list[Found]:
    """Those of both families in these states. port, to: the socket's own port and its peer's; 0: any."""
    found: list[Found] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _SOCK_DIAG) as link:
        for family in (socket.AF_INET, socket.AF_INET6):
            narrow = protocol if protocol != MPTCP else socket.IPPROTO_RAW
            body = _REQUEST.pack(family, narrow, 0, 0, states) + _PORTS.pack(port, to) + b"\0" * (_ID - 4)
            body += _WIDE if protocol == MPTCP else b""
            link.send(netlink.message(_BY_FAMILY, netlink.REQUEST | netlink.DUMP, body))
            while not read(link.recv(MOST_AT_ONCE), found):
                pass
    return found


def destroy(protocol: int, doomed: Found) -> None:
    """End that socket as by a reset from either side: SOCK_DESTROY.

    FileNotFoundError: it has ended. PermissionError: NET_ADMIN lacks.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _SOCK_DIAG) as link:
        body = _REQUEST.pack(doomed.family, protocol, 0, 0, ANY_STATE) + doomed.key
        link.send(netlink.message(_DESTROY, netlink.REQUEST | netlink.ACK, body))
        read(link.recv(MOST_AT_ONCE), [])


def read(data: bytes, found: list[Found]) -> bool:
    """Add what one answer of the kernel tells; whether it was the last. OSError that it tells."""
    for kind, body in netlink.messages(data):
        if kind == netlink.DONE:
            return True
        if kind == netlink.ERROR:
            code = netlink.code_of(body)
            if code:
                raise OSError(code, os.strerror(code), "sock_diag")
            return True
        if kind == _BY_FAMILY:
            found.append(_found(body))
    return False


def _found(told: bytes) -> Found:
    port, _ = _PORTS.unpack_from(told, 4)
    (inode,), (cookie,) = struct.unpack_from("=I", told, _INODE), struct.unpack_from("=Q", told, _COOKIE)
    key = told[0], told[4 : 4 + _ID]
    if told[0] == socket.AF_INET:
        return Found(ipaddress.IPv4Address(told[8:12]), port, inode, cookie, *key)
    wide = ipaddress.IPv6Address(told[8:24])
    return Found(wide.ipv4_mapped or wide, port, inode, cookie, *key)
