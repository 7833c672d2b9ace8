"""Entries of a filter, `[tcp|udp|any://][name | ip | [ipv6] | cidr][:port]`, and what they match. Pure.

Rules (mirrord: 7.1): a missing or zero port is any port; `0.0.0.0`, `::` or nothing is any address;
names have no wildcards; the order of entries has no meaning.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from typing import TypeAlias

from attrs import frozen

from pymirror.core.hosts import is_name
from pymirror.features.network.names import canonical

IP: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

TRANSPORTS = ("any", "tcp", "udp")


@frozen
class Entry:
    """text: as written. name, or network (both None: any address). port 0: any."""

    text: str
    transport: str = "any"
    name: str | None = None
    network: Network | None = None
    port: int = 0

    def concerns(self, transport: str, port: int) -> bool:
        """Whether only the host is left to compare."""
        return self.transport in ("any", transport) and self.port in (0, port)


class OneSided:
    """Base of a filter: what the entries under `remote` match is the target's and all else this machine's, or
    the other way about under `local`."""

    __slots__ = ()
    remote: list[str] | None
    local: list[str] | None

    def __attrs_post_init__(self) -> None:
        if (self.remote is None) == (self.local is None):
            got = "neither" if self.remote is None else "both"
            raise ValueError(f"expected exactly one of remote and local, got {got}")

    @property
    def entries(self) -> list[str]:
        return (self.local if self.remote is None else self.remote) or []

    @property
    def side(self) -> str:
        """`remote` or `local`."""
        return "local" if self.remote is None else "remote"


def parse(text: str) -> Entry:
    """ValueError says what is wrong with the entry."""
    scheme, separator, rest = text.strip().rpartition("://")
    transport = scheme.lower() if separator else "any"
    if transport not in TRANSPORTS:
        raise ValueError(f"{text!r}: the protocol is one of tcp, udp, any")
    if not rest and not separator:
        raise ValueError(f"{text!r}: is empty; ':PORT' or 'tcp://' stand for any address")
    host, port = _split(text, rest)
    if not host:
        return Entry(text, transport, port=port)
    network = _network(text, host)
    if network is None:
        if host.startswith("["):
            raise ValueError(f"{text!r}: brackets are for IPv6 addresses")
        if not is_name(canonical(host)):
            raise ValueError(f"{text!r}: {host!r} is no name, address or network (there are no wildcards)")
        return Entry(text, transport, canonical(host), None, port)
    anywhere = network.network_address.is_unspecified and network.prefixlen in (0, network.max_prefixlen)
    return Entry(text, transport, None, None if anywhere else network, port)


def _split(text: str, rest: str) -> tuple[str, int]:
    """(host with its brackets, port)."""
    if rest.count(":") > 1 and not rest.startswith("["):
        return rest, 0  # an IPv6 address without brackets has no port
    closed = rest.rfind("]")
    colon = rest.rfind(":")
    if colon <= closed:
        return rest, 0
    host, port = rest[:colon], rest[colon + 1 :]
    if not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"{text!r}: {port!r} is no port; a port is a number up to 65535")
    return host, int(port)


def _network(text: str, host: str) -> Network | None:
    """None for a name."""
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if "%" in bare:
        raise ValueError(f"{text!r}: {host!r} has a zone, which names an interface of one machine")
    try:
        return ipaddress.ip_network(bare, strict=False)
    except ValueError:
        pass
    if "/" in bare or ":" in bare or re.fullmatch(r"[0-9.]+", bare):
        raise ValueError(f"{text!r}: {host!r} is no address or network")
    return None


def doubtful(texts: Iterable[str]) -> list[str]:
    """What is hardly meant, in words for a warning; texts: entries that parse."""
    found: list[str] = []
    seen: dict[tuple[object, ...], str] = {}
    for text in texts:
        entry, host = parse(text), _split(text, text.strip().rpartition("://")[2])[0].strip("[]")
        meaning = (entry.transport, entry.name, entry.network, entry.port)
        if meaning in seen:
            found.append(f"{text!r} says the same as {seen[meaning]!r} before it")
        seen.setdefault(meaning, text)
        if not host and not entry.port:
            every = "" if entry.transport == "any" else f" {entry.transport.upper()}"
            found.append(f"{text!r} has no destination: it matches every{every} one, as 0.0.0.0 does")
        if host and entry.name is None:
            given = ipaddress.ip_interface(host)
            if given.ip != given.network.network_address:
                found.append(f"{text!r} stands for all of {given.network}")
    return found


def matching(
    entries: Iterable[Entry], transport: str, host: IP | str, port: int, names: Iterable[str]
) -> Entry | None:
    """The entry that a destination matches without resolving any name, if there is one.

    host: an address, or a name where only that is known. names: those the address was given out for.
    """
    known = {canonical(name) for name in names}
    if isinstance(host, str):
        known.add(canonical(host))
    for entry in entries:
        if entry.concerns(transport, port) and _hosts_meet(entry, host, known):
            return entry
    return None


def _hosts_meet(entry: Entry, host: IP | str, known: set[str]) -> bool:
    if entry.name is not None:
        return entry.name in known
    if entry.network is None:
        return True
    return not isinstance(host, str) and host.version == entry.network.version and host in entry.network


def resolving(
    entries: Iterable[Entry],
    transport: str,
    host: IP | str,
    port: int,
    look_up: Callable[[str], Iterable[str] | None],
) -> tuple[Entry | None, tuple[str, ...]]:
    """(entry whose name has this address, names not looked up yet; of a name, what its address may meet).

    look_up(name): its numeric addresses (empty: it does not resolve), None: not asked for yet.
    """
    missing: list[str] = []
    for entry in entries:
        if not entry.concerns(transport, port):
            continue
        if isinstance(host, str):
            missing.append(entry.name or host)
            continue
        if entry.name is None:
            continue
        found = look_up(entry.name)
        if found is None:
            missing.append(entry.name)
        elif str(host) in found:
            return entry, ()
    return None, tuple(dict.fromkeys(missing))


def unresolved(
    entries: Iterable[Entry], transport: str, port: int, look_up: Callable[[str], Iterable[str] | None]
) -> tuple[str, ...]:
    """Names that could have matched, had they any address."""
    named = (entry.name for entry in entries if entry.concerns(transport, port))
    return tuple(name for name in named if name is not None and not look_up(name))
