"""The addresses of a name as a program's resolver finds them: files, search list, ndots. Pure but for `ask`.

For names in a filter: they must mean what they mean to the program.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable

from pymirror.features.network.dns import header
from pymirror.features.network.dns.lookupfiles import Resolv, host_lines
from pymirror.features.network.dns.packets import AAAA, IN, A, read_answer
from pymirror.features.network.names import canonical

Ask = Callable[[bytes, bool], Awaitable[bytes]]
"""(query, over TCP) → answer. What fails is an answer without addresses."""


def candidates(name: str, resolv: Resolv) -> list[str]:
    """Whole names in the order they are asked for (resolv.conf(5), ndots)."""
    bare = name.rstrip(".")
    if name.endswith("."):
        return [bare]
    searched = [f"{bare}.{canonical(domain)}" for domain in resolv.search if canonical(domain)]
    return [bare, *searched] if bare.count(".") >= resolv.ndots else [*searched, bare]


def in_hosts(name: str, hosts: str) -> frozenset[str]:
    """Its addresses in the text of a hosts file."""
    return frozenset(
        str(ipaddress.ip_address(address))
        for address, names, _ in host_lines(hosts)
        if canonical(name) in map(canonical, names)
    )


def query(name: str, kind: int) -> bytes:
    """ValueError: a name that cannot be asked for."""
    labels = [label.encode("ascii") for label in name.split(".")]
    if not all(0 < len(label) < 64 for label in labels) or len(name) > 253:
        raise ValueError(f"{name!r} is no name")
    flags = bytes([header.RECURSION_DESIRED, 0])
    question = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return b"\0\0" + flags + b"\0\1" + bytes(6) + question + kind.to_bytes(2, "big") + IN.to_bytes(2, "big")


async def addresses(name: str, sources: str, hosts: str, resolv: Resolv, ask: Ask) -> frozenset[str]:
    """Numeric; empty: it does not resolve. sources: of the `hosts:` line of nsswitch.conf."""
    for source in sources.split():
        found: frozenset[str] = frozenset()
        if source == "files":
            found = in_hosts(name, hosts)
        elif source == "dns":
            found = await _asked(name, resolv, ask)
        if found:
            return found
    return frozenset()


async def _asked(name: str, resolv: Resolv, ask: Ask) -> frozenset[str]:
    for whole in candidates(name, resolv):
        try:
            queries = [query(whole, kind) for kind in (A, AAAA)]
        except ValueError:
            continue
        found = await asyncio.gather(*(_one(each, ask) for each in queries))
        if any(found):
            return frozenset().union(*found)
    return frozenset()


async def _one(wire: bytes, ask: Ask) -> tuple[str, ...]:
    answer = await ask(wire, False)
    if header.is_truncated(answer):
        answer = await ask(wire, True)
    return read_answer(answer).addresses
