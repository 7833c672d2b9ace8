"""What the agent asks of the packet filter, in nft's words, and what those of other sessions tell. Pure.

The chains come after the usual priority of their kind. Of the nat rules of one hook the first that applies
counts: what a mesh takes out of the network is the mesh's, and what its proxy hands on over `lo` is caught
there. Agents of one target have ranks, in the order of their age. A later one's chains come later, and it
catches what earlier ones pass on: a port that several share is asked of one after the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

PREFIX = "pymirror-"
LEASE, RENEW = 8, 2
"""Seconds until a port is the application's again when nobody renews it, and between two renewals."""
CLIENT = 30
"""Seconds that a client's address is kept for its connection's first packet, which leaves at once."""
APART, NOBODY = 224, 255
"""The first number of a connection that the table knows by itself, not by its network; and that of those
that come as what they are."""
AT_ONCE = NOBODY - APART
"""Connections that the table knows by themselves at a time."""
MASK = 0x00FFFFFF
SIGN, SIGN_MASK = 0xA7C, 0x00000FFF
"""What all our marks end with, and none that a mesh's rules look for."""
LAST_RANK = 0xFFF
UPPER, STRIDE = 1 << 15, 4093
"""Ports from there on stand for a client's too, so far apart for two ranks that follow each other: eight of
them are all that far apart."""
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


def source_of(client: Place, rank: int) -> Place:
    """The loopback address and port that stand for a client: the same each time, no other agent's, and for
    IPv4 hardly another client's.

    The kernel counts on by what it knows of two addresses and ports. A client that uses a port again, while
    the application's side still waits for late packets, would be turned away if it came by another source.
    """
    if client.version == 6:  # one loopback address; below are ports that servers have
        port = client.port
        return Place("::1", port if port < UPPER else UPPER + (port + rank * STRIDE) % UPPER)
    _, second, third, last = map(int, client.host.split("."))
    high, low = divmod(rank, 1 << 7)
    # Not the very address of a client on loopback; and no other rank's of a client in the same /16.
    return Place(f"127.{second ^ 128 ^ low}.{third ^ high << 3}.{last}", client.port)


def network_of(client: Place) -> int | None:
    """The number of connections that one rule is enough for: the first byte of the client's address, as the
    source that stands for it has the others. None: IPv6, or what is hardly a client's address."""
    if client.version == 6:
        return None
    first = int(client.host.partition(".")[0])
    return first if 0 < first < APART else None


def table_of(rank: int) -> str:
    """The name of an agent's table. No two can have one, so none can have another's rank."""
    return f"{PREFIX}{rank}"


def rank_of(table: str) -> int:
    """0: it is no agent's."""
    number = table.removeprefix(PREFIX)
    return int(number) if table.startswith(PREFIX) and re.fullmatch("[1-9][0-9]{0,3}", number) else 0


def latest(listed: Iterable[Mapping[str, Any]]) -> int:
    """Of the sets in a listing: the highest rank of an agent; 0 for none."""
    return max((_rank(told.get("set", {})) for told in listed), default=0)


def comment(words: str) -> str:
    """Words as they may stand in a comment."""
    return re.sub(r"[^A-Za-z0-9 @._:/+-]", "?", words)[:MOST_WORDS]


def mark_of(rank: int) -> int:
    """What marks the packets of an agent's own connections, in the bits of `MASK`; those above are the
    number of a connection."""
    return rank << 12 | SIGN


def numbered(mark: int, number: int) -> int:
    """The mark of one connection; number: a network's, or from `APART` to `NOBODY`."""
    return number << 24 | mark


def made(rank: int, whose: str, catchers: Mapping[int, int]) -> str:
    """The table, if there is none of that rank. catchers: IP version → the port that what is caught goes to.

    What an earlier agent passes on keeps its address, as it comes under its client's, whom 127.0.0.1 cannot
    answer. Who has a client and is not known here is from loopback, which applications may trust: it stays
    away.
    """
    table, mark = table_of(rank), mark_of(rank)
    lines = [f'create table inet {table} {{ flags owner; comment "{comment(whose)}"; }}']
    lines += [
        f"add set inet {table} taken {{ type inet_service; flags timeout; }}",
        f"add chain inet {table} prerouting {{ type nat hook prerouting priority dstnat + {rank}; }}",
        f"add chain inet {table} output {{ type nat hook output priority {rank - 100}; }}",
        f"add chain inet {table} postrouting {{ type nat hook postrouting priority srcnat - 1; }}",
    ]
    for version, port in catchers.items():
        name, protocol = f"client{version}", {4: "ip", 6: "ip6"}[version]
        own, sign = f"meta mark and {MASK:#x}", f"meta mark and {SIGN_MASK:#x}"
        caught = f"meta nfproto ipv{version} tcp dport @taken"
        lines += [
            f"add map inet {table} {name} {{ type mark : ipv{version}_addr . inet_service; flags timeout; }}",
            f"add rule inet {table} prerouting fib daddr type local {caught} redirect to :{port}",
            f'add rule inet {table} output oifname "lo" {sign} != {SIGN:#x} {caught} redirect to :{port}',
            f'add rule inet {table} output oifname "lo" {sign} == {SIGN:#x} {own} < {mark:#x} '
            f"{caught} dnat to :{port}",
            f'add rule inet {table} postrouting oifname "lo" {own} == {mark:#x} meta l4proto tcp '
            f"snat {protocol} to meta mark map @{name}",
        ]
    unknown = f"meta mark and {MASK:#x} == {mark:#x} meta mark != {numbered(mark, NOBODY):#x}"
    first = "tcp flags & (syn | ack) == syn"
    lines.append(f'add rule inet {table} postrouting oifname "lo" {unknown} {first} drop')
    return "\n".join(lines)


def taken(table: str, ports: Mapping[int, str]) -> str:
    """The ports, each with its words, are the agent's for the lease's time from now on, whether they are
    already or not."""
    numbers = ", ".join(map(str, sorted(ports)))
    lasting = ", ".join(
        f'{port} timeout {LEASE}s comment "{comment(words)}"' for port, words in sorted(ports.items())
    )
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


def network(rank: int, first: int) -> str:
    """Connections of that number look like a client whose address begins so, with the port that they have.

    The rest of the address is in their source: see `source_of`.
    """
    mark = f"meta mark == {numbered(mark_of(rank), first):#x} meta nfproto ipv4 meta l4proto tcp"
    _, second, third, _ = source_of(Place("0.0.0.0", 0), rank).host.split(".")
    to = f"ip saddr & 0.255.255.255 ^ {first}.{second}.{third}.0 : tcp sport"
    return f'insert rule inet {table_of(rank)} postrouting oifname "lo" {mark} snat ip to {to}'


def holders(listed: Iterable[Mapping[str, Any]], rank: int) -> dict[int, dict[int, str]]:
    """Of the sets in a listing: port → rank of each other agent that holds it → its words."""
    found: dict[int, dict[int, str]] = {}
    for each in listed:
        told = each.get("set", {})
        other = _rank(told)
        if other and other != rank:
            for element in told.get("elem", ()):
                inner = element.get("elem", {}) if isinstance(element, dict) else {}
                if "val" in inner:
                    found.setdefault(inner["val"], {})[other] = inner.get("comment", "")
    return found


def _rank(told: Mapping[str, Any]) -> int:
    return rank_of(str(told.get("table", ""))) if told.get("name") == "taken" else 0
