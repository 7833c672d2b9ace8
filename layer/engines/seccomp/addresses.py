"""Socket addresses between the kernel's form and `core.call.Address`. Pure.

On an AF_INET6 socket an IPv4 address is written IPv4-mapped, as the program itself would write it.
"""

from __future__ import annotations

import functools
import ipaddress
import socket
import struct

from pymirror.core.call import Address

_INET, _INET6 = "!HI", "!HI16s"  # after the family, which is in the machine's order
_FAMILY = "=H"


def read(raw: bytes) -> Address | bytes:
    """An internet address, or a unix socket's name (trailing NULs of a path do not count)."""
    (family,) = struct.unpack_from(_FAMILY, raw)
    if family == socket.AF_INET:
        port, host = struct.unpack_from(_INET, raw, 2)
        return Address(str(ipaddress.IPv4Address(host)), port)
    if family == socket.AF_INET6:
        port, _flow, packed = struct.unpack_from(_INET6, raw, 2)
        (scope,) = struct.unpack_from("=I", raw, 24)
        address = ipaddress.IPv6Address(packed)
        if address.ipv4_mapped is not None:
            return Address(str(address.ipv4_mapped), port)
        return Address(f"{address}%{scope}" if scope else str(address), port)
    name = raw[2:]
    return name if name.startswith(b"\0") else name.partition(b"\0")[0]


@functools.lru_cache(1024)
def write(address: Address | bytes, domain: int) -> bytes:
    """The form for a socket of `domain`. ValueError for an address that such a socket cannot have."""
    if isinstance(address, bytes):
        end = b"" if address.startswith(b"\0") else b"\0"
        return struct.pack(_FAMILY, socket.AF_UNIX) + address + end
    ip = address.ip
    if domain == socket.AF_INET:
        if ip.version != 4:
            raise ValueError(f"{address} is no address of an IPv4 socket")
        return struct.pack(_FAMILY, domain) + struct.pack("!H4s8x", address.port, ip.packed)
    scope = 0
    if isinstance(ip, ipaddress.IPv4Address):
        packed = b"\0" * 10 + b"\xff\xff" + ip.packed
    else:
        packed, scope = ip.packed, int(ip.scope_id or 0)
    head = struct.pack(_FAMILY, socket.AF_INET6) + struct.pack(_INET6, address.port, 0, packed)
    return head + struct.pack("=I", scope)
