"""Where a destination is reached from: this machine or the target, and by which rule. Pure.

The order is that of docs/network.md; the first rule that holds decides.
"""

from __future__ import annotations

import enum
import functools
import ipaddress
from collections.abc import Iterable
from typing import Protocol

from attrs import frozen

from pymirror.core.call import Call
from pymirror.core.patterns import Pattern
from pymirror.features.network.filter import IP, Entry, matching, parse, resolving, unresolved
from pymirror.features.network.names import canonical
from pymirror.features.network.outgoing.config import Config


class Place(enum.Enum):
    HERE = "this machine"
    TARGET = "target"


@frozen
class Decision:
    """filtered: by the filter. port: of this machine, where the one asked for has another there."""

    place: Place
    reason: str
    filtered: bool = False
    port: int = 0


@frozen
class Unknown:
    """Decide again when these names were looked up."""

    names: tuple[str, ...]


class Facts(Protocol):
    """What the rules ask about this machine and about names; answers are known or None, never awaited."""

    def listens(self, transport: str, port: int) -> str:
        """Who of the program listens on that loopback port, in words; empty: nobody."""

    def others(self, port: int) -> Iterable[int]:
        """Ports on which listens what the program sees on that one."""

    def names(self, host: str) -> Iterable[str]:
        """Names the address was given out for."""

    def look_up(self, name: str) -> Iterable[str] | None:
        """Addresses of a name in the filter; None: not looked up yet."""


class Rules:
    """`debuggers`: ports of debuggers named on the program's command line."""

    def __init__(self, config: Config, debuggers: frozenset[int] = frozenset()) -> None:
        self._config, self._debuggers = config, debuggers
        chosen = config.filter
        self._side = chosen.side if chosen is not None else ""
        listed = chosen.entries if chosen is not None else []
        self._entries: tuple[Entry, ...] = tuple(parse(text) for text in listed)
        self._patterns = [Pattern("outgoing.unix_streams", text) for text in config.unix_streams]

    @property
    def names(self) -> tuple[str, ...]:
        """Those in the filter."""
        return tuple(entry.name for entry in self._entries if entry.name is not None)

    def decide(self, call: Call, facts: Facts) -> Decision | Unknown:
        """For a call of SOCKET_CALLS. TooSlow (EIO) for a pattern that takes too long."""
        if call.transport in ("unix", "unixpacket"):
            return self._unix(call)
        assert call.address is not None
        host, port = _host(call.address.host), call.address.port
        if call.device:  # nothing of this machine but that device can be reached from there
            return Decision(Place.HERE, f"outgoing: the socket is bound to the device {call.device}")
        return (
            self._never(call.transport, host, port)
            or self._loopback(call.transport, host, port, facts)
            or self._filtered(call.transport, host, port, facts)
        )

    def _unix(self, call: Call) -> Decision:
        name = call.path.decode("utf-8", "surrogateescape")
        bare = name.strip("\0")  # programs that give the whole sockaddr_un have NULs in an abstract name
        shown = "@" + bare if name.startswith("\0") else name
        if not name.startswith(("/", "\0")):
            return Decision(Place.HERE, f"outgoing.unix_streams: {shown} is relative to a directory here")
        for pattern in self._patterns:
            if pattern.search(bare):
                return Decision(Place.TARGET, f"outgoing.unix_streams {pattern.text!r}")
        return Decision(Place.HERE, f"outgoing.unix_streams: no pattern matches {shown}")

    def _never(self, transport: str, host: IP | str, port: int) -> Decision | None:
        if not getattr(self._config, transport):
            return Decision(Place.HERE, f"outgoing.{transport}: false")
        if port == 0:
            return Decision(Place.HERE, "outgoing: port 0")
        if not isinstance(host, str) and (host.is_multicast or str(host) == "255.255.255.255"):
            return Decision(Place.HERE, "outgoing: multicast and broadcast stay on this machine")
        return None

    def _loopback(self, transport: str, host: IP | str, port: int, facts: Facts) -> Decision | None:
        if not is_loopback(host):
            return None
        if self._config.ignore_localhost:
            return Decision(Place.HERE, "outgoing.ignore_localhost")
        if port in self._debuggers:
            return Decision(Place.HERE, f"outgoing: port {port} is a debugger's")
        for real in (port, *(facts.others(port) if transport == "tcp" else ())):
            if listener := facts.listens(transport, real):
                other = real if real != port else 0
                where = f", which is {real} here" if other else ""
                return Decision(Place.HERE, f"outgoing: {listener} listens on port {port}{where}", port=other)
        return None

    def _filtered(self, transport: str, host: IP | str, port: int, facts: Facts) -> Decision | Unknown:
        if not self._side:
            return Decision(Place.TARGET, "outgoing: no filter")
        names = () if isinstance(host, str) else facts.names(str(host))
        entry = matching(self._entries, transport, host, port, names)
        if entry is None:
            entry, missing = resolving(self._entries, transport, host, port, facts.look_up)
            if missing:
                return Unknown(missing)
        inside = Place.TARGET if self._side == "remote" else Place.HERE
        outside = Place.HERE if self._side == "remote" else Place.TARGET
        if entry is not None:
            return Decision(inside, f"outgoing.filter {self._side} {entry.text!r}", True)
        lost = () if isinstance(host, str) else unresolved(self._entries, transport, port, facts.look_up)
        why = f" ({', '.join(lost)}: no address is known)" if lost else ""
        return Decision(outside, f"outgoing.filter {self._side}: no entry matches{why}", True)


@functools.lru_cache(1024)
def _host(text: str) -> IP | str:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return text  # a name, in `explain`


def is_loopback(host: IP | str) -> bool:
    """0.0.0.0 and :: mean it too."""
    return (
        canonical(host) == "localhost" if isinstance(host, str) else host.is_loopback or host.is_unspecified
    )
