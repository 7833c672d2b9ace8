"""Packets to segments: options, extension headers, and lengths that lie."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymirror.features.network.incoming.segments import ACK, Refused, Segment, parse
from tests.features.network.tcp_words import APPLICATION, CLIENT, SIX, Talk, ipv4, ipv6, tcp

DATA = Talk().client(7, b"some data", ACK, 3)
TIMESTAMPS = b"\1\1\x08\x0a" + b"t" * 8
HOP_BY_HOP = struct.pack("!BBHI", 6, 0, 0x0104, 0)
ROUTING = struct.pack("!BB", 60, 2) + bytes(22)
JUMBO = struct.pack("!BBBBI", 6, 0, 0xC2, 4, 70008)


def six(segment: Segment) -> Segment:
    return segment._replace(source=SIX[0], target=SIX[1])


@pytest.mark.parametrize(
    ("packet", "wanted"),
    [
        (ipv4(tcp(DATA)), DATA),
        (ipv4(tcp(DATA, TIMESTAMPS)), DATA),
        (ipv4(tcp(DATA), options=bytes(40)), DATA),
        (ipv4(tcp(DATA), fragment=0x4000), DATA),  # may not be fragmented
        (ipv4(tcp(DATA)) + bytes(6), DATA),  # what the link fills up
        (ipv6(tcp(DATA, TIMESTAMPS)), six(DATA)),
        (ipv6(HOP_BY_HOP + tcp(DATA), 0), six(DATA)),
        (ipv6(ROUTING + HOP_BY_HOP + tcp(DATA), 43), six(DATA)),
        (ipv6(struct.pack("!BBHI", 6, 255, 0, 1) + tcp(DATA), 44), six(DATA)),  # of one fragment
    ],
)
def test_what_is_a_segment(packet: bytes, wanted: Segment) -> None:
    assert parse(packet, len(packet)) == wanted


def test_segments_larger_than_any_header_tells() -> None:
    huge = DATA._replace(data=bytes(70000), size=70000)
    for packet, wanted in (
        (ipv4(tcp(huge), total=0), huge),
        (ipv6(tcp(huge), size=0), six(huge)),
        (ipv6(JUMBO + tcp(huge), 0, size=0), six(huge)),
    ):
        assert parse(packet, len(packet)) == wanted


def test_of_what_was_cut_short_the_size_is_known() -> None:
    packet = ipv4(tcp(DATA))
    assert parse(packet[:-4], len(packet)) == DATA._replace(data=DATA.data[:-4])
    assert parse(packet[: -len(DATA.data)], len(packet)) == DATA._replace(data=b"")


@pytest.mark.parametrize(
    ("packet", "why"),
    [
        (ipv4(tcp(DATA), fragment=0x2000), Refused.FRAGMENT),
        (ipv4(tcp(DATA), fragment=0x0004), Refused.FRAGMENT),
        (ipv6(struct.pack("!BBHI", 6, 0, 1, 1) + tcp(DATA), 44), Refused.FRAGMENT),
        (ipv6(struct.pack("!BBHI", 6, 0, 8, 1) + tcp(DATA), 44), Refused.FRAGMENT),
        (ipv4(tcp(DATA), total=1000), Refused.DAMAGED),
        (ipv4(tcp(DATA), total=0), Refused.DAMAGED),
        (ipv4(tcp(DATA), total=30), Refused.DAMAGED),
        (ipv4(tcp(DATA), protocol=17), Refused.DAMAGED),
        (b"\x41" + ipv4(tcp(DATA))[1:], Refused.DAMAGED),
        (ipv4(tcp(DATA)[:12] + b"\x10" + tcp(DATA)[13:]), Refused.DAMAGED),  # a header of 4 bytes
        (ipv4(tcp(DATA)[:12] + b"\xf0" + tcp(DATA)[13:]), Refused.DAMAGED),  # of 60
        (ipv6(tcp(DATA), size=0), Refused.DAMAGED),
        (ipv6(tcp(DATA), size=500), Refused.DAMAGED),
        (ipv6(HOP_BY_HOP[:1] + b"\xff" + tcp(DATA), 0), Refused.DAMAGED),
        (ipv6(bytes(8) * 9 + tcp(DATA), 0), Refused.DAMAGED),
        (ipv6(tcp(DATA), 51), Refused.DAMAGED),
        (b"\x50" + bytes(60), Refused.DAMAGED),
        (b"", Refused.DAMAGED),
    ],
)
def test_what_is_none(packet: bytes, why: Refused) -> None:
    assert parse(packet, len(packet)) is why


@given(st.binary(max_size=120), st.sampled_from([b"", b"\x45", b"\x60"]), st.integers(0, 200))
def test_whatever_comes_nothing_is_believed_beyond_what_is_there(
    data: bytes, first: bytes, more: int
) -> None:
    packet = first + data
    found = parse(packet, len(packet) + more)
    if isinstance(found, Segment):
        assert len(found.data) <= found.size <= len(packet) + more
        assert found.data in packet and found.source != CLIENT != APPLICATION
