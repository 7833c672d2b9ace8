"""Packets of the target's network namespace, copied by the kernel: an AF_PACKET socket and its ring.

The filter is in place before the socket is bound, so no packet is seen that is not of a subscribed port; it
is replaced in one step when they change. NET_RAW is needed where the socket is made, and nowhere else. The
ring hands over blocks, when they are full or 40 ms old: the agent wakes up for many packets, not for each,
and what it does not fetch in time the kernel drops and counts. Nothing is changed in the target.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable

from pymirror.features.network.incoming import bpf

BLOCK, BLOCKS, RETIRE = 256 << 10, 32, 40
"""Bytes, how many, ms. A packet must fit in a block (BIG TCP). As long as none is full each is 40 ms long, so
the agent may be away for 1.3 s; nobody waits for a copy."""
KEPT_ADDRESSES = 1024

_SOL_PACKET, _RX_RING, _STATISTICS, _VERSION, _V3 = 263, 5, 6, 10, 2
_ATTACH_FILTER, _ALL = 26, 0x0003
_FRAME = 2048  # only its alignment counts in this version of the ring
_STATUS, _OURS = 8, 1
_BLOCK = struct.Struct("=8xIII")
_PACKET = struct.Struct("=I8xII4xH")
_LINK_ADDRESS = struct.Struct("=HHiHBB8x")
_ROUTE, _NEW_ROUTE, _LOCAL = 26, 24, 2

_libc = ctypes.CDLL(None, use_errno=True)
InNetwork = Callable[[Callable[[], "Capture"]], Awaitable["Capture"]]


class Capture:
    """Made in the target's network namespace, used anywhere. PermissionError naming the missing right."""

    def __init__(self) -> None:
        try:
            self._sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, 0)
        except PermissionError:
            raise PermissionError(
                errno.EPERM, "packets of the target's network may not be copied: the agent lacks NET_RAW"
            ) from None
        try:
            self.only(())
            self._sock.setsockopt(_SOL_PACKET, _VERSION, struct.pack("=I", _V3))
            frames = BLOCK // _FRAME * BLOCKS
            ring = struct.pack("=7I", BLOCK, BLOCKS, _FRAME, frames, RETIRE, 0, 0)
            self._sock.setsockopt(_SOL_PACKET, _RX_RING, ring)
            self._ring = mmap.mmap(self._sock.fileno(), BLOCK * BLOCKS)
            _bind(self._sock)
            self.addresses = Addresses()
        except BaseException:
            self._sock.close()
            raise
        self._next = 0

    def fileno(self) -> int:
        """Readable while there is a block to read."""
        return self._sock.fileno()

    def only(self, ports: Iterable[int]) -> None:
        """Copy these ports from now on. OSError: there are more than the kernel's filter holds."""
        program = bpf.program(ports)
        held = ctypes.create_string_buffer(program, len(program))
        what = struct.pack("HL", len(program) // 8, ctypes.addressof(held))
        self._sock.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, what)

    def block(self) -> list[tuple[bytes, int]]:
        """The oldest packets: from the IP header on, with the length each had."""
        start, ring = self._next * BLOCK, self._ring
        status, count, offset = _BLOCK.unpack_from(ring, start)
        if not status & _OURS:
            return []
        packets, at = [], start + offset
        for _ in range(count):
            following, kept, length, begin = _PACKET.unpack_from(ring, at)
            packets.append((ring[at + begin : at + begin + kept], length))
            at += following
        struct.pack_into("=I", ring, start + _STATUS, 0)
        self._next = (self._next + 1) % BLOCKS
        return packets

    def dropped(self) -> int:
        """Packets that found no room since this was last asked."""
        _, drops, _ = struct.unpack("=III", self._sock.getsockopt(_SOL_PACKET, _STATISTICS, 12))
        return int(drops)

    def close(self) -> None:
        self._ring.close()
        self._sock.close()
        self.addresses.close()


class Addresses:
    """Which addresses are the namespace's own: a node's also sees packets that only pass. Made in it."""

    def __init__(self) -> None:
        self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._known: dict[bytes, bool] = {}

    def here(self, address: bytes) -> bool:
        """The kernel's routes say so. Asked once, until `look_again`."""
        known = self._known.get(address)
        if known is None:
            if len(self._known) >= KEPT_ADDRESSES:
                self._known.clear()
            known = self._known[address] = self._ask(address)
        return known

    def look_again(self) -> None:
        self._known.clear()

    def close(self) -> None:
        self._sock.close()

    def _ask(self, address: bytes) -> bool:
        family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
        body = struct.pack("=8BI", family, len(address) * 8, *[0] * 7) + struct.pack(
            "=HH", 4 + len(address), 1
        )
        body += address
        self._sock.send(struct.pack("=IHHII", 16 + len(body), _ROUTE, 1, 0, 0) + body)
        answer = self._sock.recv(8192)
        return struct.unpack_from("=H", answer, 4)[0] == _NEW_ROUTE and answer[16 + 7] == _LOCAL


def _bind(sock: socket.socket) -> None:
    """To all interfaces; the library's own `bind` wants the name of one."""
    address = _LINK_ADDRESS.pack(socket.AF_PACKET, socket.htons(_ALL), 0, 0, 0, 0)
    if _libc.bind(sock.fileno(), address, len(address)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"AF_PACKET: {os.strerror(code)}")
