"""IP packets to TCP segments. Pure.

Lengths are believed only within what the wire carried. Checksums are not looked at: of a packet that has
not left its machine they are not computed yet. A segment may be larger than any packet of the wire (GRO,
GSO), and where it is beyond 64 KiB its IP header tells no length.
"""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
TCP, FRAGMENT = 6, 44
EXTENSIONS = (0, 43, FRAGMENT, 60)
"""Of IPv6: hop by hop, routing, fragment, destination. Any other header is not followed."""
MOST_EXTENSIONS = 3

_IPV4 = struct.Struct("!BxHxxHxBxx4s4s")
_IPV6 = struct.Struct("!4xHBx16s16s")
_TCP = struct.Struct("!HHIIBB")
_TCP_SIZE = 20
_LARGEST = 0xFFFF


class Refused(enum.Enum):
    """Why a packet is no segment of a copy."""

    FRAGMENT = "fragments of IP packets are not put together"
    DAMAGED = "a packet's lengths do not agree"


class Segment(NamedTuple):
    """source, target: addresses as 4 or 16 bytes. size: of its data on the wire; data may be cut short."""

    source: bytes
    source_port: int
    target: bytes
    target_port: int
    sequence: int
    acknowledged: int
    flags: int
    data: bytes
    size: int


def parse(packet: bytes, length: int) -> Segment | Refused:
    """packet: from its IP header on, maybe cut short. length: what it had on the wire, in bytes."""
    try:
        first = packet[0] >> 4
        if first == 4:
            return _ipv4(packet, length)
        return _ipv6(packet, length) if first == 6 else Refused.DAMAGED
    except (struct.error, IndexError):
        return Refused.DAMAGED


def _ipv4(packet: bytes, length: int) -> Segment | Refused:
    first, total, fragment, protocol, source, target = _IPV4.unpack_from(packet)
    if fragment & 0x3FFF:
        return Refused.FRAGMENT
    at = (first & 15) * 4
    if at < _IPV4.size or protocol != TCP:
        return Refused.DAMAGED
    return _tcp(packet, at, total or _huge(length), length, source, target)


def _ipv6(packet: bytes, length: int) -> Segment | Refused:
    size, header, source, target = _IPV6.unpack_from(packet)
    at = _IPV6.size
    for _ in range(MOST_EXTENSIONS):
        if header not in EXTENSIONS:
            break
        if header == FRAGMENT and (packet[at + 2] << 8 | packet[at + 3]) & 0xFFF9:
            return Refused.FRAGMENT
        header, at = packet[at], at + 8 + (packet[at + 1] * 8 if header != FRAGMENT else 0)
    if header != TCP:
        return Refused.DAMAGED
    return _tcp(packet, at, size + _IPV6.size if size else _huge(length), length, source, target)


def _huge(length: int) -> int:
    """The end of a packet whose header says 0: too large for it, or else a lie."""
    return length if length > _LARGEST else 0


def _tcp(packet: bytes, at: int, end: int, length: int, source: bytes, target: bytes) -> Segment | Refused:
    source_port, target_port, sequence, acknowledged, offset, flags = _TCP.unpack_from(packet, at)
    start = at + (offset >> 4) * 4
    if start < at + _TCP_SIZE or not start <= end <= length:
        return Refused.DAMAGED
    return Segment(
        source,
        source_port,
        target,
        target_port,
        sequence,
        acknowledged,
        flags,
        packet[start:end],
        end - start,
    )
