"""What the agent asks of the packet filter, in nft's words, and what those of other sessions tell. Pure.

The chains come one place after the usual priority of their kind. Of the nat rules of one hook the first that
applies counts: what a mesh takes out of the network is the mesh's, and what its proxy hands on over `lo` is
caught there.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

PREFIX = "pymirror-"
LEASE, RENEW = 8, 2
"""Seconds until a port is the application's again when nobody renews it, and between two renewals."""
CLIENT = 30
"""Seconds that a client's address is kept for its connection's first packet, which leaves at once."""
AT_ONCE = 255
"""Connections that the table knows clients of at a time."""
NOBODY = AT_ONCE
"""The number of those that come as what they are."""
MASK = 0x00FFFFFF
MOST_WORDS = 100
"""Characters of a comment; the kernel's limit is a little over."""


class Place(NamedTuple):
    """An address and a port, numeric. scope: of a link-local address, else 0."""

    host: str
    port: int
    scope: int = 0

    @property
    def version(self) -> int:
        return 6 if ":" in self.host else 4

    @property
    def local_link(self) -> bool:
        """It has a meaning on one link alone."""
        return self.host.lower().startswith(("fe8", "fe9", "fea", "feb"))

    def address(self) -> tuple[Any, ...]:
        """As a socket takes it."""
        return (self.host, self.port) if self.version == 4 else (self.host, self.port, 0, self.scope)


def source_of(client: Place) -> str:
    """The loopback address that stands for a client: the same each time, and for IPv4 hardly another's.

    The kernel counts on by what it knows of two addresses and ports. A client that uses a port again, while
    the application's side still waits for late packets, would be turned away if it came by another source.
    """
    if client.version == 6:
        return "::1"
    _, second, third, last = client.host.split(".")
    return f"127.{int(second) ^ 128}.{third}.{last}"  # not the very address of a client on loopback


def table_of(session: str) -> str:
    """The name of a session's table."""
    return PREFIX + re.sub(r"[^a-z0-9]", "", session.lower())[:40]


def comment(words: str) -> str:
    """Words as they may stand in a comment."""
    return re.sub(r"[^A-Za-z0-9 @._:/+()-]", "?", words)[:MOST_WORDS]


def mark_of(table: str) -> int:
    """What marks the packets of a session's own connections, in the bits of `MASK`.

    Above them is room for the number of a connection. The last twelve bits are always the same, and none
    that a mesh's rules look for there.
    """
    return int(hashlib.sha256(table.encode()).hexdigest()[:3], 16) << 12 | 0xA7C


def numbered(mark: int, number: int) -> int:
    """The mark of one connection; number: below `AT_ONCE`, or `NOBODY`."""
    return number << 24 | mark


def unlike(table: str, others: Iterable[str]) -> str:
    """That name, or a longer one whose mark is no other table's."""
    marks = {mark_of(other) for other in others}
    while mark_of(table) in marks:
        table += "x"
    return table


def made(table: str, whose: str, catchers: Mapping[int, int]) -> str:
    """The table. catchers: IP version → the port that what is caught goes to.

    Who has a client and is not known here is from loopback, which applications may trust: it stays away.
    """
    mark, lines = mark_of(table), [f'add table inet {table} {{ flags owner; comment "{comment(whose)}"; }}']
    lines += [
        f"add set inet {table} taken {{ type inet_service; flags timeout; }}",
        f"add chain inet {table} prerouting {{ type nat hook prerouting priority dstnat + 1; }}",
        f"add chain inet {table} output {{ type nat hook output priority -99; }}",
        f"add chain inet {table} postrouting {{ type nat hook postrouting priority srcnat - 1; }}",
    ]
    for version, port in catchers.items():
        name, protocol = f"client{version}", {4: "ip", 6: "ip6"}[version]
        own = f"meta mark and {MASK:#x}"
        caught = f"meta nfproto ipv{version} tcp dport @taken redirect to :{port}"
        lines += [
            f"add map inet {table} {name} {{ type mark : ipv{version}_addr . inet_service; flags timeout; }}",
            f"add rule inet {table} prerouting fib daddr type local {caught}",
            f'add rule inet {table} output oifname "lo" {own} != {mark:#x} {caught}',
            f'add rule inet {table} postrouting oifname "lo" {own} == {mark:#x} meta l4proto tcp '
            f"snat {protocol} to meta mark map @{name}",
        ]
    unknown = f"meta mark and {MASK:#x} == {mark:#x} meta mark != {numbered(mark, NOBODY):#x}"
    first = "tcp flags & (syn | ack) == syn"
    lines.append(f'add rule inet {table} postrouting oifname "lo" {unknown} {first} drop')
    return "\n".join(lines)


def taken(table: str, whose: str, ports: Iterable[int]) -> str:
    """The ports are the session's for the lease's time from now on, whether they are already or not."""
    held, words = sorted(ports), comment(whose)
    numbers = ", ".join(map(str, held))
    lasting = ", ".join(f'{port} timeout {LEASE}s comment "{words}"' for port in held)
    place = f"element inet {table} taken"
    return f"add {place} {{ {numbers} }}\ndelete {place} {{ {numbers} }}\nadd {place} {{ {lasting} }}"


def released(table: str, port: int) -> str:
    """That port no more, whether it was or not."""
    place = f"element inet {table} taken {{ {port} }}"
    return f"add {place}\ndelete {place}"


def clients(table: str, seen: Mapping[int, Sequence[tuple[int, Place]]]) -> str:
    """Connections of these marks look like these clients; seen: by IP version, each has its map.

    Those before them have sent their first packet: nothing of them is kept.
    """
    lines = []
    for version, each in seen.items():
        lines.append(f"flush map inet {table} client{version}")
        if each:
            elements = ", ".join(f"{mark:#x} timeout {CLIENT}s : {to.host} . {to.port}" for mark, to in each)
            lines.append(f"add element inet {table} client{version} {{ {elements} }}")
    return "\n".join(lines)


def sessions(listed: Iterable[Mapping[str, Any]]) -> list[str]:
    """Of the sets in a listing: the tables of sessions."""
    return [table for told in listed if (table := _session(told.get("set", {})))]


def _session(told: Mapping[str, Any]) -> str:
    table = str(told.get("table", ""))
    return table if told.get("name") == "taken" and table.startswith(PREFIX) else ""


def holders(listed: Iterable[Mapping[str, Any]], port: int, table: str) -> dict[str, str]:
    """Of the sets in a listing: the other sessions' tables that hold the port, and whose they are."""
    found = {}
    for each in listed:
        told = each.get("set", {})
        name = _session(told)
        if name and name != table:
            for element in told.get("elem", ()):
                inner = element.get("elem", {}) if isinstance(element, dict) else {}
                if inner.get("val") == port:
                    found[name] = inner.get("comment", name)
    return found
