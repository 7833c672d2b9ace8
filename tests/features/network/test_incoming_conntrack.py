"""What the kernel tells of connections, read: which were redirected to a port. Its part: tests/sandbox."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymirror.features.network.incoming.conntrack import attributes, redirected
from pymirror.features.network.netlink import messages

ESTABLISHED, TIME_WAIT, CLOSE = 3, 7, 8


def attribute(kind: int, *parts: bytes) -> bytes:
    value = b"".join(parts)
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def way(kind: int, source: int, protocol: int, to: int = 7) -> bytes:
    ports = attribute(2, struct.pack("!H", source)), attribute(3, struct.pack("!H", to))
    return attribute(
        kind | 0x8000, attribute(1 | 0x8000), attribute(2 | 0x8000, attribute(1, bytes([protocol])), *ports)
    )


def told(port: int, state: int, protocol: int = 6, zone: bytes = b"") -> bytes:
    inner = attribute(1 | 0x8000, attribute(1, bytes([state])))
    return way(1, 40000, protocol) + way(2, port, protocol) + attribute(4 | 0x8000, inner) + zone


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (told(999, CLOSE), True),
        (told(999, ESTABLISHED), False),
        (told(7, CLOSE), False),  # it was not redirected
        (told(999, TIME_WAIT), False),
        (told(998, CLOSE), False),
        (told(999, CLOSE, protocol=17), False),
        (b"", False),
    ],
)
def test_which_connections_came_here(data: bytes, found: bool) -> None:
    key = redirected(data, {7, 999, 1000})
    assert key == (way(1, 40000, 6) if found else b"")


def test_the_zone_is_a_part_of_the_name() -> None:
    zone = attribute(18, struct.pack("!H", 5))
    assert redirected(told(999, CLOSE, zone=zone), {999}) == way(1, 40000, 6) + zone


@given(st.binary(max_size=200))
def test_anything_is_read_to_its_end(data: bytes) -> None:
    assert all(len(value) <= len(data) for value in attributes(data).values())
    assert sum(16 + len(body) for _, body in messages(data)) <= len(data) + 3
    redirected(data, {1})
