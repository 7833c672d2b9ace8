"""Which names are whose: the target resolves them, or this machine. Pure.

A resolver tries a short name with each domain of its search list, and all those queries are one
name's: an entry `api` of a filter matches the query `api` and `api.<domain of the target's list>`.
An address or network in a filter is for reverse lookups: a literal address is never asked for.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from attrs import evolve, frozen

from pymirror.features.network.dns.config import Filter
from pymirror.features.network.filter import IP, Entry, parse
from pymirror.features.network.names import canonical


@frozen
class Decision:
    """here: this machine resolves it, else the target."""

    here: bool
    reason: str


@frozen
class Rules:
    """The decision function. entries: of the filter; listed_here: they name what is this machine's.

    words: how the filter is called in a reason, empty without one.
    """

    entries: tuple[Entry, ...] = ()
    listed_here: bool = True
    words: str = ""
    search: tuple[str, ...] = ()

    @classmethod
    def of(cls, filter: Filter | None, search: Iterable[str] = ()) -> Rules:
        if filter is None:
            return cls(search=tuple(search))
        here = filter.remote is None
        words = f"network.dns.filter.{filter.side}"
        return cls(tuple(parse(text) for text in filter.entries), here, words, tuple(search))

    def decide(self, name: str) -> Decision:
        """name: as it was asked for, absolute or not."""
        if not self.words:
            return Decision(False, "network.dns: no filter")
        forms, address = spoken(name, self.search), reversed_address(name)
        for entry in self.entries:
            if entry.name in forms or (address is not None and _holds(entry, address)):
                return Decision(self.listed_here, f"{self.words} {entry.text}")
        return Decision(not self.listed_here, f"{self.words}: no entry is {canonical(name)}")

    def foretell(self, name: str) -> Decision:
        """As `decide` before there is a target, whose search list may make other entries match."""
        found, whole = self.decide(name), canonical(name)
        for entry in self.entries if found.here is not self.listed_here else ():
            one, other = sorted((whole, entry.name or ""), key=len)
            if one and other.startswith(one + "."):
                side = "this machine" if self.listed_here else "the target"
                domain = other[len(one) + 1 :]
                return Decision(
                    found.here,
                    f"{found.reason}; {side} if {domain} is in the target's search list: {entry.text}",
                )
        return found

    def with_outgoing(self, entries: Sequence[str], here: bool) -> Rules:
        """The names of the outgoing filter join the same side (mirrord: 7.4, auto-copy).

        Without a filter here, those that go out from this machine are resolved here, and those that
        go out from the target need nothing. A filter of the other side is left as it is.
        """
        named = tuple(entry for entry in map(parse, entries) if entry.name is not None)
        if not named or (not self.words and not here) or self.opposes(entries, here):
            return self
        words = self.words or "network.outgoing.filter.local"
        return evolve(self, entries=self.entries + named, listed_here=here, words=words)

    def opposes(self, entries: Sequence[str], here: bool) -> bool:
        """Are names of the outgoing filter on one side and those of this filter on the other?"""
        names = any(parse(text).name is not None for text in entries)
        return names and bool(self.words) and self.listed_here != here


def _holds(entry: Entry, address: IP) -> bool:
    network = entry.network
    return network is not None and network.version == address.version and address in network


def spoken(name: str, search: Iterable[str]) -> tuple[str, ...]:
    """What a program may have asked for when its resolver sends a query for `name`: the name itself,
    then the short forms by the search list."""
    whole = canonical(name)
    ends = ["." + canonical(domain) for domain in search if canonical(domain)]
    short = [whole[: -len(end)] for end in ends if whole.endswith(end) and len(whole) > len(end)]
    return tuple(dict.fromkeys([whole, *short]))


def reversed_address(name: str) -> IP | None:
    """The address a reverse lookup is about: 7.0.0.10.in-addr.arpa, or the 32 digits of ip6.arpa."""
    labels = canonical(name).split(".")
    parts, kind = labels[-3::-1], ".".join(labels[-2:])
    try:
        if kind == "in-addr.arpa" and len(parts) == 4:
            return ipaddress.IPv4Address(".".join(parts))
        if kind == "ip6.arpa" and len(parts) == 32:
            return ipaddress.IPv6Address(bytes.fromhex("".join(parts)))
    except ValueError:
        pass
    return None
