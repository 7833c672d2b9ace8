"""What a request must hold to match a filter, as far as that is plain to see. Pure.

What lacks it needs no filter; what holds it is decided by the filter itself. Needles are in small
letters and ASCII; the header they are looked for in is `name: value`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum, auto
from typing import NamedTuple


class Kind(Enum):
    HEADER = auto()
    PATH = auto()
    METHOD = auto()


class Needle(NamedTuple):
    kind: Kind
    text: bytes


Needles = list[Needle] | None
"""One of them is in each request that matches; None: none is known."""

_TOKEN = re.compile(
    r"""\\(?P<letter>[0-9A-Za-z]) | \\(?P<plain>[\x20-\x7e]) | (?P<class>\[\^?[^][\\^&|~-][^][\\&|~]*])
      | (?P<maybe>[*?]) | (?P<gap>[.^$+]) | (?P<open>\((?!\?)) | (?P<close>\)) | (?P<or>\|)
      | (?P<text>[^][\\(){}|*?.^$+\x00-\x1f\x7f-\U0010ffff])""",
    re.VERBOSE,
)
_KNOWN = set("dDwWsSbB")
"""Letters behind a backslash that stand for one character, or for none, whatever follows them."""


def literal(pattern: str) -> str:
    """The longest text in all that the pattern matches, without regard to case; empty: none is seen."""
    runs, depth, at = [""], 0, 0
    while at < len(pattern):
        token = _TOKEN.match(pattern, at)
        if token is None or (token["letter"] and token["letter"] not in _KNOWN):
            return ""
        at = token.end()
        depth += bool(token["open"]) - bool(token["close"])
        if token["or"] and not depth:
            return ""
        if depth:
            runs.append("")
        elif token["text"] or token["plain"]:
            runs[-1] += token["text"] or token["plain"]
        else:
            if token["maybe"]:
                runs[-1] = runs[-1][:-1]
            runs.append("")
    return max(runs, key=len).lower()


def needles(kind: Kind, pattern: str) -> Needles:
    text = literal(pattern)
    return [Needle(kind, text.encode())] if text else None


def of_all(each: Iterable[Needles]) -> Needles:
    """Of rules that all hold: those of the one with the fewest, which are enough, and then the longest."""
    known = [those for those in each if those is not None]
    return min(
        known, key=lambda those: (len(those), -min(len(needle.text) for needle in those)), default=None
    )


def of_any(each: Iterable[Needles]) -> Needles:
    """Of rules of which one holds."""
    found: list[Needle] = []
    for those in each:
        if those is None:
            return None
        found += those
    return found
