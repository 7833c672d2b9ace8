"""Messages of the kernel's netlink: what is sent, and what an answer of several holds. Pure.

Not pyroute2: it takes 0.26 s to import, and what is asked here are three questions of a page each.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
ERROR, DONE = 2, 3
_HEADER = struct.Struct("=IHHII")


def message(kind: int, flags: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, 0, 0) + body


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(kind, body) of each that is whole."""
    while len(data) >= _HEADER.size:
        size, kind, *_ = _HEADER.unpack_from(data)
        if not _HEADER.size <= size <= len(data):
            return
        yield kind, data[_HEADER.size : size]
        data = data[size + 3 & ~3 :]


def code_of(body: bytes) -> int:
    """The errno that the body of an ERROR or a DONE begins with; 0: it is an acknowledgement."""
    return -int(struct.unpack_from("=i", body)[0])
