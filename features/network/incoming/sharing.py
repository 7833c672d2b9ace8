"""Which sessions may have a port of a target together, and what is said of it. Pure.

Filters may, each other than the rest: the oldest session's is asked first. Whoever takes a port whole has it
alone. What a session has of a port stands in its table, for the others to read.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import frozen

from pymirror.features.network.incoming.http_filter import HttpFilter

MOST = 8
"""Sessions on one port: what the last one's filter does not match has passed through so many agents."""
WHOLE = "whole"
_DIGEST = 16
_HELD = re.compile(rf"(.+): ([a-z_]+) ([0-9a-f]{{{_DIGEST}}})")
_ELEMENTS = {
    "header_filter": "header",
    "path_filter": "path",
    "method_filter": "method",
    "header_filter_jq": "query",
}


@frozen
class Claim:
    """What a session takes of a port. kind: the filter's key. digest: the same for filters that are equal."""

    kind: str = WHOLE
    digest: str = ""

    @classmethod
    def of(cls, chosen: HttpFilter, port: int) -> Claim:
        """By that filter; whole where it is none of that port's."""
        if not chosen.concerns(port):
            return cls()
        (kind,) = chosen.given
        words = json.dumps(_canonical(_element(kind, getattr(chosen, kind))), sort_keys=True)
        return cls(kind, hashlib.sha256(words.encode()).hexdigest()[:_DIGEST])

    def words(self, whose: str) -> str:
        """As others read it."""
        return f"{whose}: {self.kind} {self.digest}" if self.digest else f"{whose}: {self.kind}"


ALONE = Claim()


@frozen
class Holder:
    """Another session that has a port."""

    whose: str
    claim: Claim = ALONE

    @classmethod
    def read(cls, words: str) -> Holder:
        """What is not a filter's is whole."""
        held = _HELD.fullmatch(words)
        if held is not None:
            return cls(held[1], Claim(held[2], held[3]))
        return cls(words.removesuffix(f": {WHOLE}") or "another session")

    @property
    def named(self) -> str:
        return f"{self.whose} ({self.claim.kind})"


def refusal(wanted: Claim, holders: Iterable[Holder]) -> str:
    """Why a port that these have may not be had; empty: it may."""
    each = list(holders)
    for other in each:
        if not other.claim.digest:
            return f"{other.whose} has it whole"
    if each and not wanted.digest:
        return (
            f"{_listed(each)} {_has(each)} it by a filter: it is shared with further filters, and not whole"
        )
    for other in each:
        if other.claim.digest == wanted.digest:
            return f"{other.whose} has it by the same filter ({other.claim.kind})"
    if len(each) >= MOST:
        return f"{MOST} sessions share it, and more may not: {_listed(each)}"
    return ""


def earlier(rank: int, holders: Mapping[int, Holder]) -> str:
    """Whose filters are asked before this session's, for the session; empty: nobody's."""
    before = [holder for other, holder in sorted(holders.items()) if other < rank]
    if not before:
        return ""
    return f"it is shared with {_listed(before)}, whose {_filters(before)} asked first"


def _listed(each: list[Holder]) -> str:
    return ", ".join(holder.named for holder in each)


def _has(each: list[Holder]) -> str:
    return "has" if len(each) == 1 else "have"


def _filters(each: list[Holder]) -> str:
    return "filter is" if len(each) == 1 else "filters are"


def _element(kind: str, value: Any) -> Any:
    """As it would stand in all_of."""
    if kind == "body_filter":
        return {"body": value.body, "query": value.query, "matches": value.matches}
    return {_ELEMENTS.get(kind, kind): value}


def _canonical(rule: Mapping[str, Any]) -> Any:
    """The same for rules that differ in their order alone, or in the case of a method."""
    (name, *others) = rule
    value = rule[name]
    if others:
        return dict(rule)
    if name == "not":
        return {name: _canonical(value)}
    if name in ("all_of", "any_of"):
        items = value if isinstance(value, list) else [value]
        texts = {json.dumps(_canonical(item), sort_keys=True) for item in items}
        found = [json.loads(text) for text in sorted(texts)]
        return found[0] if len(found) == 1 else {name: found}
    return {name: value.upper() if name == "method" else value}
