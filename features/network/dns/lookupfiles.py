"""The files that resolvers read: resolv.conf, hosts, nsswitch.conf. Pure: text in, text or values out.

The program reads the target's, but for what cannot be true here: of the sources of names in
nsswitch.conf only `files` and `dns` work through pymirror, and the other databases are this machine's.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator

from attrs import frozen

MOST_SERVERS = 3
"""MAXNS of glibc and musl; what comes after is never asked."""


@frozen
class Resolv:
    """resolv.conf(5). servers: numeric. timeout: seconds for one server. tcp: never over UDP."""

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    timeout: float = 5.0
    attempts: int = 2
    rotate: bool = False
    tcp: bool = False
    ndots: int = 1


def parse_resolv(text: str) -> Resolv:
    """What cannot be read is left out, as the resolvers do. `search` and `domain`: the last counts."""
    servers: list[str] = []
    search: tuple[str, ...] = ()
    options: list[str] = []
    for line in text.splitlines():
        word, *values = line.split("#")[0].split(";")[0].split() or [""]
        if word == "nameserver" and values and _numeric(values[0]):
            servers.append(values[0])
        elif word in ("search", "domain"):
            search = tuple(values if word == "search" else values[:1])
        elif word == "options":
            options += values
    return Resolv(
        tuple(servers[:MOST_SERVERS]),
        search,
        timeout=float(_option(options, "timeout", 5, most=30)),
        attempts=_option(options, "attempts", 2, most=5),
        rotate="rotate" in options,
        tcp="use-vc" in options,
        ndots=_option(options, "ndots", 1, most=15, least=0),
    )


def _option(options: list[str], name: str, default: int, most: int, least: int = 1) -> int:
    for option in reversed(options):
        found = re.fullmatch(rf"{name}:([0-9]{{1,9}})", option)
        if found:
            return min(max(int(found[1]), least), most)
    return default


def _numeric(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def servers_in_turn(resolv: Resolv, turn: int) -> tuple[str, ...]:
    """In the order they are asked; `turn` counts queries, for `rotate`. Never empty: without any,
    resolvers ask their own machine."""
    servers = resolv.servers or ("127.0.0.1",)
    first = turn % len(servers) if resolv.rotate else 0
    return servers[first:] + servers[:first]


def host_lines(text: str) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """(address, its names, the line) for each entry of a hosts file."""
    for line in text.splitlines():
        address, *names = line.split("#")[0].split() or [""]
        if names and _numeric(address):
            yield address, tuple(names), line


def merge_hosts(target: str, here: str, is_here: Callable[[str], bool]) -> str:
    """The target's hosts file; names that this machine resolves are replaced by its own entries."""
    lines: list[str] = []
    for line in target.splitlines():
        parts = line.split("#")[0].split()
        kept = [name for name in parts[1:] if not is_here(name)]
        if kept == parts[1:]:
            lines.append(line)
        elif kept:
            lines.append("\t".join([parts[0], *kept]))
    for address, names, _ in host_lines(here):
        own = [name for name in names if is_here(name)]
        if own:
            lines.append("\t".join([address, *own]))
    return "".join(f"{line}\n" for line in lines)


def host_sources(text: str | None) -> str:
    """The `hosts:` line's sources, in the target's order, without what cannot work here.

    None: the target has no nsswitch.conf (musl's never has), and its resolver reads files, then asks.
    `resolve` is systemd's way to ask. An action ([NOTFOUND=return]) goes with the source before it.
    """
    found = None
    for line in (text or "").splitlines():
        database, colon, rest = line.split("#")[0].partition(":")
        if colon and database.strip() == "hosts":
            found = rest
    if found is None:
        return "files dns"
    kept: list[str] = []
    keep = False
    for word in re.findall(r"\[[^\]]*\]|[^\s\[\]]+", found):
        if word.startswith("["):
            kept += [word] if keep else []
            continue
        keep = word in ("files", "dns")
        name = "dns" if word == "resolve" and "dns" not in found.split() else word
        kept += [name] if name in ("files", "dns") else []
    return " ".join(kept) or "files dns"


def merge_nsswitch(target: str | None, here: str | None) -> str:
    """This machine's file, whose modules are the ones that are here, with the target's `hosts:` line."""
    kept = [
        line for line in (here or "").splitlines() if line.split("#")[0].partition(":")[0].strip() != "hosts"
    ]
    return "".join(f"{line}\n" for line in [*kept, f"hosts: {host_sources(target)}"])
