"""The keys of `feature.network.dns` (mirrord: 2.4 dns, 7.4)."""

from __future__ import annotations

from attrs import frozen

from pymirror.core.config import every, key, not_negative, positive
from pymirror.features.network.filter import OneSided, doubtful, parse

FORM = "an entry is a name without wildcards, or an address or network for reverse lookups"


def _entry(text: str) -> None:
    try:
        entry = parse(text)
    except ValueError as error:
        raise ValueError(str(error), FORM) from None
    if "://" in text:
        raise ValueError(f"{text!r}: a name has no protocol here", FORM)
    if entry.name is None and entry.network is None:
        raise ValueError(f"{text!r}: a name or an address is needed", FORM)


@frozen
class Filter(OneSided):
    """Exactly one of the two. An empty list is allowed: nothing matches it."""

    remote: list[str] | None = key(
        None,
        validator=every(_entry),
        help="Names resolved as the target does; all others as this machine does.",
    )
    local: list[str] | None = key(
        None,
        validator=every(_entry),
        help="Names resolved as this machine does; all others as the target does.",
    )


@frozen
class Config:
    """Which names are resolved as the target resolves them, and how long that may take."""

    enabled: bool = key(True, env="REMOTE_DNS", help="Names are resolved as the target does.")
    filter: Filter | None = key(
        None, help="Names without wildcards, or addresses for reverse lookups, under remote or under local."
    )
    timeout: float | None = key(
        None,
        validator=positive,
        help="Seconds one name server may take; empty: as the target's resolv.conf says (5).",
    )
    attempts: int | None = key(
        None,
        validator=positive,
        help="Rounds through the name servers; empty: as the target's resolv.conf says (2).",
    )
    cache: int = key(
        10_000, validator=not_negative, help="Answers kept for as long as they say themselves; 0 keeps none."
    )

    @property
    def is_on(self) -> bool:
        """Is any name the target's to resolve?"""
        return self.enabled and not (self.filter is not None and self.filter.remote == [])

    @classmethod
    def from_short(cls, value: bool) -> Config:
        """`true`: the defaults; `false`: names are resolved on this machine."""
        return cls(enabled=value)

    def warnings(self) -> list[str]:
        """Allowed, but hardly meant (mirrord: 2.6)."""
        if self.filter is None:
            return []
        place = f"feature.network.dns.filter.{self.filter.side}"
        found = []
        if not self.enabled:
            found.append("feature.network.dns.filter has no effect: feature.network.dns is off")
        elif not self.filter.entries:
            where = "the target's side" if self.filter.remote is None else "this machine"
            found.append(f"{place} is empty: every name is resolved on {where}")
        ported = [text for text in self.filter.entries if parse(text).port]
        if ported:
            found.append(f"{place}: {ported[0]!r} counts for every port: a lookup does not tell its port")
        return found + [f"{place}: {words}" for words in doubtful(self.filter.entries)]
