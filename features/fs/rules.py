"""Whether a path is the target's, this machine's, or nowhere: one decision for every call. Pure.

mirrord's order (5.2): user lists not_found, read_write, read_only, local, and our remote; `feature.magic`;
the default lists not-found, read-only, local; the mode. Every decision has the rule that made it.
"""

from __future__ import annotations

import enum
import posixpath
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from attrs import define, field, frozen

from pymirror.core.patterns import Pattern, TooSlow
from pymirror.features.fs import defaults
from pymirror.features.fs.config import REFERENCE, Config
from pymirror.features.fs.defaults import Here
from pymirror.features.fs.presets import Aws, Volumes, shown

if TYPE_CHECKING:
    from pymirror.core.patterns import Match


_AWS = "magic aws:"


class Place(enum.Enum):
    TARGET = "target"
    HERE = "here"
    NOWHERE = "nowhere"
    UNDECIDED = "undecided"


@frozen
class Decision:
    """path: what is to be opened, after mapping. UNDECIDED: a pattern of the user's took too long."""

    place: Place
    reason: str
    path: bytes


class _List(Protocol):
    def hit(self, path: str) -> str | None:
        """The words of the first pattern found in the path. TooSlow."""


@define
class _Defaults:
    """Patterns with their words, tried as one alternation; the words are looked up only on a hit."""

    patterns: Sequence[tuple[str, str]]
    _any: re.Pattern[str] | None = field(init=False)
    _each: list[tuple[re.Pattern[str], str]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._each = [(re.compile(pattern, re.IGNORECASE), words) for pattern, words in self.patterns]
        joined = "|".join(f"(?:{pattern})" for pattern, _ in self.patterns)
        self._any = re.compile(joined, re.IGNORECASE) if self.patterns else None

    def hit(self, path: str) -> str | None:
        if self._any is None or not self._any.search(path):
            return None
        return next((words for pattern, words in self._each if pattern.search(path)), None)


class _Users:
    """The user's list under one key: one by one, so that a slow pattern is known by its name."""

    def __init__(self, key: str, patterns: Sequence[str]) -> None:
        self._each = [Pattern(f"fs.{key}", pattern, ignore_case=True) for pattern in patterns]

    def hit(self, path: str) -> str | None:
        return next((pattern.text for pattern in self._each if pattern.search(path)), None)


class Rules:
    """The decision function of one session. volumes: where something is mounted in the target."""

    def __init__(
        self, config: Config, here: Here, has_target: bool = True, volumes: Sequence[bytes] = ()
    ) -> None:
        self.mode = config.mode if has_target or config.mode == "local" else "localwithoverrides"
        self.has_user_rules = bool(
            config.not_found
            or config.read_write
            or config.read_only
            or config.local
            or config.remote
            or config.mapping
        )
        self._mapping = [
            (Pattern("fs.mapping", pattern, ignore_case=True), replacement)
            for pattern, replacement in config.mapping.items()
        ]
        self._user_not_found = _Users("not_found", config.not_found)
        self._user_read_write = _Users("read_write", config.read_write)
        self._user_read_only = _Users("read_only", config.read_only)
        self._user_local = _Users("local", config.local)
        self._user_remote = _Users("remote", config.remote)
        self.volumes = Volumes(volumes, here)
        self._mounted = self.volumes if config.auto_mount else Volumes((), here)
        self._aws = Aws(here if config.aws else Here())
        self._not_found = _Defaults(defaults.not_found(here))
        self._read_only = _Defaults(defaults.read_only())
        self._local = _Defaults(defaults.local(here))

    def decide(self, path: bytes, write: bool) -> Decision:
        """path: absolute and lexically normalised. A name that is not UTF-8 is matched with its
        bytes escaped, so that the lists still apply to its folders."""
        text = path.decode("utf-8", "surrogateescape")
        if self.mode == "local":
            return Decision(Place.HERE, "fs.mode local", path)
        try:
            text, mapped = self._map(text)
            found, rule = self._place(text, write)
            text = self._aws.moved(text) if rule.startswith(_AWS) else text
        except TooSlow as slow:
            return Decision(Place.UNDECIDED, slow.strerror, path)
        reason = f"{rule}; mapped by {mapped} to {shown(text)}" if mapped else rule
        return Decision(found, f"fs.{reason}", text.encode("utf-8", "surrogateescape"))

    def writable(self, path: bytes) -> bool:
        """May the target's `path`, mapped already, be changed in the target?"""
        try:
            return self._place(path.decode("utf-8", "surrogateescape"), True)[0] is Place.TARGET
        except TooSlow:
            return False

    def _map(self, text: str) -> tuple[str, str]:
        """Every mapping is searched as it is replaced, without regard to case; the first in order wins."""
        for pattern, replacement in self._mapping:
            match = pattern.search(text)
            if match:
                made = text[: match.start()] + _expand(match, replacement) + text[match.end() :]
                return posixpath.normpath(made) if made.startswith("/") else text, pattern.text
        return text, ""

    def _place(self, text: str, write: bool) -> tuple[Place, str]:
        written = Place.TARGET if self.mode == "write" else Place.HERE
        steps: tuple[tuple[_List, str, Place, Place | None], ...] = (
            (self._user_not_found, "not_found", Place.NOWHERE, Place.NOWHERE),
            (self._user_read_write, "read_write", Place.TARGET, Place.TARGET),
            (self._user_read_only, "read_only", Place.TARGET, Place.HERE),
            (self._user_local, "local", Place.HERE, Place.HERE),
            (self._user_remote, "remote", Place.TARGET, written),
            (self._mounted, "magic auto_mount:", Place.TARGET, written),
            (self._aws, _AWS, Place.HERE, Place.HERE),
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
        exceptions += [f"^{re.escape(path)}" for path in (*self._mounted, self._aws.folder)]
        return [
            tree.encode()
            for tree in defaults.TREES
            if not any(p.startswith("^" + re.escape(tree) + "/") for p in exceptions)
        ]


def _expand(match: Match, replacement: str) -> str:
    """The replacement with the groups it names; config.py has seen that the pattern has them."""

    def group(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        return "$" if name is None else match[int(name) if name.isdigit() else name] or ""

    return REFERENCE.sub(group, replacement)
