"""Whether a path is the target's, this machine's, or nowhere: one decision for every call. Pure.

mirrord's order (5.2): user lists not_found, read_write, read_only, local; the default lists
not-found, read-only, local; the mode. Every decision has the rule that made it.
"""

from __future__ import annotations

import enum
import posixpath
import re
from collections.abc import Iterable, Sequence

from attrs import define, field, frozen

from pymirror.features.fs import defaults
from pymirror.features.fs.config import REFERENCE, Config
from pymirror.features.fs.defaults import Here


class Place(enum.Enum):
    TARGET = "target"
    HERE = "here"
    NOWHERE = "nowhere"


@frozen
class Decision:
    """path: what is to be opened, after mapping."""

    place: Place
    reason: str
    path: bytes


@define
class _List:
    """Patterns with their words, tried as one alternation; the words are looked up only on a hit."""

    patterns: Sequence[tuple[str, str]]
    _any: re.Pattern[str] | None = field(init=False)
    _each: list[tuple[re.Pattern[str], str]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._each = [(re.compile(pattern, re.IGNORECASE), words) for pattern, words in self.patterns]
        joined = "|".join(f"(?:{pattern})" for pattern, _ in self.patterns)
        # A pattern with a back-reference would count groups of the others: such lists go one by one.
        plain = not any(p.groups and re.search(r"\\[1-9]|\(\?P", p.pattern) for p, _ in self._each)
        self._any = re.compile(joined, re.IGNORECASE) if self.patterns and plain else None

    def hit(self, path: str) -> str | None:
        """The words of the first pattern found in the path."""
        if not self._each or (self._any is not None and not self._any.search(path)):
            return None
        return next((words for pattern, words in self._each if pattern.search(path)), None)


def _users(patterns: Iterable[str]) -> _List:
    return _List([(pattern, pattern) for pattern in patterns])


class Rules:
    """The decision function of one session."""

    def __init__(self, config: Config, here: Here, has_target: bool = True) -> None:
        self.mode = config.mode if has_target or config.mode == "local" else "localwithoverrides"
        self.has_user_rules = bool(
            config.not_found or config.read_write or config.read_only or config.local or config.mapping
        )
        self._mapping = [
            (re.compile(p, re.IGNORECASE), replacement, p) for p, replacement in config.mapping.items()
        ]
        self._user_not_found = _users(config.not_found)
        self._user_read_write = _users(config.read_write)
        self._user_read_only = _users(config.read_only)
        self._user_local = _users(config.local)
        self._not_found = _List(defaults.not_found(here))
        self._read_only = _List(defaults.read_only())
        self._local = _List(defaults.local(here))

    def decide(self, path: bytes, write: bool) -> Decision:
        """path: absolute and lexically normalised. A name that is not UTF-8 is matched with its
        bytes escaped, so that the lists still apply to its folders."""
        text = path.decode("utf-8", "surrogateescape")
        if self.mode == "local":
            return Decision(Place.HERE, "fs.mode local", path)
        text, mapped = self._map(text)
        found, rule = self._place(text, write)
        shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        reason = f"{rule}; mapped by {mapped} to {shown}" if mapped else rule
        return Decision(found, f"fs.{reason}", text.encode("utf-8", "surrogateescape"))

    def _map(self, text: str) -> tuple[str, str]:
        """Every mapping is searched as it is replaced, without regard to case; the first in order wins."""
        for pattern, replacement, words in self._mapping:
            match = pattern.search(text)
            if match:
                made = text[: match.start()] + _expand(match, replacement) + text[match.end() :]
                return posixpath.normpath(made) if made.startswith("/") else text, words
        return text, ""

    def _place(self, text: str, write: bool) -> tuple[Place, str]:
        steps: tuple[tuple[_List, str, Place, Place | None], ...] = (
            (self._user_not_found, "not_found", Place.NOWHERE, Place.NOWHERE),
            (self._user_read_write, "read_write", Place.TARGET, Place.TARGET),
            (self._user_read_only, "read_only", Place.TARGET, Place.HERE),
            (self._user_local, "local", Place.HERE, Place.HERE),
            (self._not_found, "not_found default:", Place.NOWHERE, Place.NOWHERE),
            (self._read_only, "read_only default:", Place.TARGET, None),
            (self._local, "local default:", Place.HERE, Place.HERE),
        )
        for patterns, name, for_read, for_write in steps:
            words = patterns.hit(text)
            if words is not None:
                place = for_write if write else for_read
                if place is not None:
                    return place, f"{name} {words}"
        if self.mode == "localwithoverrides" or (write and self.mode == "read"):
            return Place.HERE, f"mode {self.mode}"
        return Place.TARGET, f"mode {self.mode}"

    def stable_trees(self) -> list[bytes]:
        """Trees in which every path is this machine's, whatever the call: an engine need not ask.

        None when the user has rules of his own; a tree that holds an exception is left out.
        """
        if self.has_user_rules or self.mode == "local":
            return []
        exceptions = [p for p, _ in self._not_found.patterns] + [p for p, _ in self._read_only.patterns]
        return [
            tree.encode()
            for tree in defaults.TREES
            if not any(p.startswith("^" + re.escape(tree) + "/") for p in exceptions)
        ]


def _expand(match: re.Match[str], replacement: str) -> str:
    """The replacement with the groups it names; config.py has seen that the pattern has them."""

    def group(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        return "$" if name is None else match[int(name) if name.isdigit() else name] or ""

    return REFERENCE.sub(group, replacement)
