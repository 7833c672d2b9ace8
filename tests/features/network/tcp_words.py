"""What a client and an application say to each other, as segments and as packets."""

from __future__ import annotations

import ipaddress
import struct

from attrs import define

from pymirror.features.network.incoming.segments import ACK, FIN, RST, SYN, Segment

CLIENT, APPLICATION, PORT, CLIENT_PORT = b"\x0a\x00\x00\x01", b"\x0a\x00\x00\x02", 8080, 40000
MASK = 0xFFFFFFFF


@define
class Talk:
    """isn, answer_isn: where the sequence numbers of the two begin. Positions count bytes."""

    isn: int = 1000
    answer_isn: int = 5000

    def client(self, at: int, data: bytes = b"", flags: int = ACK, acked: int = 0) -> Segment:
        sequence, acknowledged = (self.isn + 1 + at) & MASK, (self.answer_isn + 1 + acked) & MASK
        return Segment(CLIENT, CLIENT_PORT, APPLICATION, PORT, sequence, acknowledged, flags, data, len(data))

    def application(self, acked: int, at: int = 0, size: int = 0, flags: int = ACK) -> Segment:
        sequence, acknowledged = (self.answer_isn + 1 + at) & MASK, (self.isn + 1 + acked) & MASK
        return Segment(APPLICATION, PORT, CLIENT, CLIENT_PORT, sequence, acknowledged, flags, b"", size)

    def syn(self, data: bytes = b"") -> Segment:
        return self.client(-1, data, SYN)._replace(acknowledged=0)

    def syn_ack(self, acked: int = 0) -> Segment:
        return self.application(acked, -1, flags=SYN | ACK)

    def begin(self) -> list[Segment]:
        return [self.syn(), self.syn_ack()]

    def fin(self, at: int, data: bytes = b"", acked: int = 0) -> Segment:
        return self.client(at, data, FIN | ACK, acked)

    def rst(self, at: int) -> Segment:
        return self.client(at, flags=RST)


def tcp(segment: Segment, options: bytes = b"") -> bytes:
    fields = (segment.source_port, segment.target_port, segment.sequence, segment.acknowledged)
    offset = (20 + len(options)) // 4 << 4
    return struct.pack("!HHIIBBHHH", *fields, offset, segment.flags, 1024, 0, 0) + options + segment.data


def ipv4(
    payload: bytes, total: int | None = None, fragment: int = 0, protocol: int = 6, options: bytes = b""
) -> bytes:
    size = 20 + len(options)
    total = size + len(payload) if total is None else total
    head = struct.pack("!BBHHHBBH", 0x40 | size // 4, 0, total, 1, fragment, 64, protocol, 0)
    return head + CLIENT + APPLICATION + options + payload


SIX = ipaddress.ip_address("fd77::1").packed, ipaddress.ip_address("fd77::2").packed


def ipv6(payload: bytes, header: int = 6, size: int | None = None) -> bytes:
    size = len(payload) if size is None else size
    return struct.pack("!IHBB", 6 << 28, size, header, 64) + SIX[0] + SIX[1] + payload
