"""Where sockets of the program reach this machine."""

from __future__ import annotations

import functools
import socket


@functools.cache
def loopback(version: int) -> str:
    """The address on which a relay for sockets of IP version 4 or 6 listens.

    A machine without IPv6, as most containers are, still makes IPv6 sockets. They reach 127.0.0.1, by
    its mapped address, so that programs reach IPv6 addresses of the target.
    """
    if version == 4:
        return "127.0.0.1"
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return "127.0.0.1"
    return "::1"


def family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
