"""The kernel's filter of the copy (classic BPF): which packets it hands over, and how much of each. Pure.

Offsets are from the IP header. What the filter cannot follow it drops: a segment that is missed is a gap,
which is found out; a packet too many would be somebody else's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from pymirror.features.network.incoming.ruleset import SIGN, SIGN_MASK
from pymirror.features.network.incoming.segments import EXTENSIONS, FRAGMENT, MOST_EXTENSIONS, TCP

WHOLE, HEADERS = 0x7FFFFFFF, 192
"""Bytes handed over: of what a client sends all, of the application's segments what tells acks and ends."""
MOST_PORTS = 256
"""Each is four instructions; the kernel charges them to a small allowance (optmem_max: 20 KiB and more)."""

_WORD, _HALF, _BYTE, _HALF_AT_X, _BYTE_AT_X = 0x20, 0x28, 0x30, 0x48, 0x50
_CELL, _CELL_TO_X, _TO_CELL, _TO_X = 0x60, 0x61, 0x02, 0x07
_ADD, _ADD_X, _AND, _LEFT, _RIGHT = 0x04, 0x0C, 0x54, 0x64, 0x74
_EQUAL, _EQUAL_X, _ANY_BIT, _JUMP, _RETURN = 0x15, 0x1D, 0x45, 0x05, 0x06
_X, _X_OF_IPV4 = 0x01, 0xB1
_PROTOCOL, _PACKET_TYPE, _MARK, _LINK_TYPE = 0xFFFFF000, 0xFFFFF004, 0xFFFFF014, 0xFFFFF01C
_TO_US, _OUTGOING, _LOOPBACK = 0, 4, 772
_NEXT, _LENGTH = 0, 1
"""Cells of the filter's memory: which header follows, and the packet's length by its IP header."""


class _Program:
    """Labels, and conditions that skip one instruction at most: none reaches further than 255."""

    def __init__(self) -> None:
        self._lines: list[tuple[int, int | str, int, int]] = []
        self._labels: dict[str, int] = {}

    def do(self, code: int, value: int = 0) -> None:
        self._lines.append((code, value, 0, 0))

    def here(self, label: str) -> None:
        self._labels[label] = len(self._lines)

    def go(self, label: str) -> None:
        self._lines.append((_JUMP, label, 0, 0))

    def when(self, code: int, value: int, label: str) -> None:
        self._lines.append((code, value, 0, 1))
        self.go(label)

    def unless(self, code: int, value: int, label: str) -> None:
        self._lines.append((code, value, 1, 0))
        self.go(label)

    def packed(self) -> bytes:
        """As the kernel's `struct sock_filter`, one after the other."""
        words = (
            (code, yes, no, value if isinstance(value, int) else self._labels[value] - at - 1)
            for at, (code, value, yes, no) in enumerate(self._lines)
        )
        return b"".join(struct.pack("=HBBI", *each) for each in words)


def program(ports: Iterable[int]) -> bytes:
    """For these ports, each segment once: what goes over loopback leaves and comes, and its coming counts;
    elsewhere a client's segments come and the application's leave.

    A session that steals the port passes on what has come already, with the client's own names: these are
    marked.
    """
    made, wanted = _Program(), sorted(ports)
    made.do(_WORD, _MARK)
    made.do(_AND, SIGN_MASK)
    made.when(_EQUAL, SIGN, "drop")
    made.do(_WORD, _PROTOCOL)
    made.when(_EQUAL, 0x0800, "ipv4")
    made.when(_EQUAL, 0x86DD, "ipv6")
    made.go("drop")
    _ipv4(made)
    _ipv6(made)
    made.here("tcp")  # X: where its header begins
    made.do(_WORD, _PACKET_TYPE)
    made.when(_EQUAL, _OUTGOING, "leaves")
    made.unless(_EQUAL, _TO_US, "drop")
    made.do(_HALF_AT_X, 2)
    for port in wanted:
        made.when(_EQUAL, port, "client")
    made.do(_WORD, _LINK_TYPE)
    made.when(_EQUAL, _LOOPBACK, "from")
    made.go("drop")
    made.here("leaves")
    made.do(_WORD, _LINK_TYPE)
    made.when(_EQUAL, _LOOPBACK, "drop")
    made.here("from")
    made.do(_HALF_AT_X, 0)
    for port in wanted:
        made.when(_EQUAL, port, "application")
    made.go("drop")
    _ends(made)
    return made.packed()


def _ipv4(made: _Program) -> None:
    made.here("ipv4")
    made.do(_BYTE, 9)
    made.unless(_EQUAL, TCP, "drop")
    made.do(_HALF, 6)
    made.when(_ANY_BIT, 0x1FFF, "drop")  # a later fragment has no ports; the first one is counted
    made.do(_HALF, 2)
    made.do(_TO_CELL, _LENGTH)
    made.do(_X_OF_IPV4, 0)
    made.go("tcp")


def _ipv6(made: _Program) -> None:
    made.here("ipv6")
    made.do(_HALF, 4)
    made.do(_ADD, 40)
    made.do(_TO_CELL, _LENGTH)
    made.do(_X, 40)
    made.do(_BYTE, 6)
    for number in range(MOST_EXTENSIONS):
        made.when(_EQUAL, TCP, "tcp")
        for header in EXTENSIONS:
            made.when(_EQUAL, header, f"{header} {number}")
        made.go("drop")
        made.here(f"{FRAGMENT} {number}")
        made.do(_HALF_AT_X, 2)
        made.when(_ANY_BIT, 0xFFF8, "drop")
        for header in EXTENSIONS:
            if header != FRAGMENT:
                made.here(f"{header} {number}")
        made.do(_BYTE_AT_X, 0)
        made.do(_TO_CELL, _NEXT)
        made.do(_BYTE_AT_X, 1)  # in units of eight beyond the first; a fragment's is zero
        made.do(_ADD, 1)
        made.do(_LEFT, 3)
        made.do(_ADD_X)
        made.do(_TO_X)
        made.do(_CELL, _NEXT)
    made.when(_EQUAL, TCP, "tcp")
    made.go("drop")


def _ends(made: _Program) -> None:
    """A client's segment counts if it has data, SYN, FIN or RST: its bare acknowledgements tell nothing."""
    made.here("client")
    made.do(_BYTE_AT_X, 13)
    made.when(_ANY_BIT, 7, "whole")
    made.do(_BYTE_AT_X, 12)
    made.do(_RIGHT, 4)
    made.do(_LEFT, 2)
    made.do(_ADD_X)
    made.do(_TO_X)
    made.do(_CELL, _LENGTH)
    made.when(_EQUAL_X, 0, "drop")
    made.here("whole")
    made.do(_RETURN, WHOLE)
    made.here("application")
    made.do(_RETURN, HEADERS)
    made.here("drop")
    made.do(_RETURN, 0)
