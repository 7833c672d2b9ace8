"""Which keys of a configuration file are taken, refused by name, without effect, or unknown. Pure.

The tables come in by the `Vocabulary`: core knows no feature's and no runtime's keys. Nothing is
ignored in silence: a key is served, refused with its name, warned about, or unknown with the
nearest known one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
from attrs import field, frozen

from pymirror.core.errors import ConfigError
from pymirror.core.structure import Faults, forms, nearest, place_of, unfit


@frozen
class Vocabulary:
    """What this installation understands.

    features: name → Config class, in session order. runtimes: name → Config class; a target whose
    first part is a runtime's name uses it, any other `default_runtime`. engines: their names;
    `engine: auto` is `default_engine`. variables: names without prefix that others than a Config
    class read. absent, paid, ignored:
    dotted key → why; an entry covers all keys below it. neutral: dotted key of these → the one
    value that changes nothing, where that is not "off". absent_env: variable (without prefix) →
    the dotted key it sets.
    """

    features: Mapping[str, type]
    runtimes: Mapping[str, type]
    default_runtime: str = ""
    engines: Sequence[str] = ()
    default_engine: str = ""
    variables: Sequence[str] = ()
    absent: Mapping[str, str] = field(factory=dict)
    paid: Mapping[str, str] = field(factory=dict)
    ignored: Mapping[str, str] = field(factory=dict)
    neutral: Mapping[str, Any] = field(factory=dict)
    absent_env: Mapping[str, str] = field(factory=dict)

    def installed(self, path: str) -> bool:
        """A dotted key that the class of an installed feature has, or one below it: the class decides about
        that, not the tables."""
        return any(place in self._places for place in above(path))

    @property
    def _places(self) -> set[str]:
        classes = self.features.items()
        return {place_of(a, f"feature.{name}.") for name, cls in classes for a in attrs.fields(cls)}

    def sections(self) -> list[str]:
        """The features, and the keys that they have in other sections of `feature`."""
        elsewhere = [place for place in self._places if place.startswith("feature.")]
        own = [f"feature.{name}." for name in self.features]
        return [f"feature.{name}" for name in self.features] + sorted(
            place for place in elsewhere if not place.startswith(tuple(own))
        )

    def refusal(self, path: str) -> tuple[str, str] | None:
        """(words, hint) where the tables refuse `path` or a key above it; None when they do not."""
        for at in above(path):
            if at in self.paid:
                return f"needs mirrord's paid operator ({self.paid[at]})", "remove it"
            if at in self.absent:
                return "not in this version of pymirror", self.absent[at]
        return None


def above(path: str) -> list[str]:
    """`a.b.c` → a.b.c, a.b, a."""
    parts = path.split(".")
    return [".".join(parts[:n]) for n in range(len(parts), 0, -1)]


def sift(values: dict[str, Any], vocabulary: Vocabulary) -> list[str]:
    """Take mirrord's unserved keys out of `values`; the warnings for those without effect.

    ConfigError for keys that are not served, unless their value, or a section above them
    (`enabled: false`, `mode: off`), only turns them off.
    """
    faults = Faults()
    warnings = _sift(values, vocabulary, "", False, faults)
    faults.tell()
    return warnings


def _sift(
    values: dict[str, Any], vocabulary: Vocabulary, place: str, quiet: bool, faults: Faults
) -> list[str]:
    warnings: list[str] = []
    for name in list(values):
        path, value = (f"{place}.{name}" if place else str(name)), values[name]
        if vocabulary.installed(path):
            continue
        if path in vocabulary.ignored:
            values.pop(name)
            warnings.append(f"{path} has no effect: {vocabulary.ignored[path]}")
        elif path in vocabulary.absent or path in vocabulary.paid:
            with faults.part():
                _refuse(path, values.pop(name), vocabulary, quiet)
        elif isinstance(value, dict):
            warnings += _sift(value, vocabulary, path, quiet or turned_off(value), faults)
        elif path.removeprefix("feature.") not in vocabulary.features and _only_absent(path, vocabulary):
            # A short form (`feature.network: true`) of keys of which none is served.
            with faults.part():
                _refuse(path, values.pop(name), vocabulary, quiet)
    return warnings


def _refuse(path: str, value: Any, vocabulary: Vocabulary, quiet: bool) -> None:
    harmless = value == vocabulary.neutral[path] if path in vocabulary.neutral else off(value)
    if quiet or harmless or value is None:
        return
    words, hint = vocabulary.refusal(path) or vocabulary.refusal(_below(path, vocabulary)[0]) or ("", "")
    raise ConfigError(path, words, hint)


def _below(path: str, vocabulary: Vocabulary) -> list[str]:
    return [key for key in (*vocabulary.absent, *vocabulary.paid) if key.startswith(path + ".")]


def _only_absent(path: str, vocabulary: Vocabulary) -> bool:
    mixed = any(f"feature.{name}".startswith(path + ".") for name in vocabulary.features)
    return path.startswith("feature.") and not mixed and bool(_below(path, vocabulary))


def turned_off(section: Mapping[str, Any]) -> bool:
    """A section whose other keys have no effect, because it says that it is off."""
    return section.get("enabled") is False or section.get("mode") == "off"


def off(value: Any) -> bool:
    """A value that only turns something off changes nothing where it is not there anyway."""
    if isinstance(value, dict):
        return turned_off(value) or all(off(item) for item in value.values())
    return (
        value is None
        or value is False
        or value in ("off", [])
        or (value == 0 and isinstance(value, (int, float)))
    )


def unknown(values: Mapping[str, Any], known: Iterable[str], place: str = "") -> None:
    """Whatever nobody took must be an empty section; ConfigError names the keys that are not."""
    known, faults = set(known), Faults()
    start = f"{place}." if place else ""
    for name, value in values.items():
        path = f"{start}{name}"
        if not any(key.startswith(path + ".") for key in known):
            siblings = {key.removeprefix(start).split(".")[0] for key in known if key.startswith(start)}
            third = "; a third-party feature must be installed here" if place == "feature" else ""
            faults.add(ConfigError(path, "unknown key", nearest(str(name), sorted(siblings)) + third))
        elif value is not None and not isinstance(value, Mapping):
            below = sorted(
                {key.removeprefix(path + ".").split(".")[0] for key in known if key.startswith(path + ".")}
            )
            allowed = [*(forms(bool) if place == "feature" else ()), "a mapping"]  # `network: false`
            faults.add(unfit(path, allowed, value, below))
        else:
            with faults.part():
                unknown(value or {}, known, path)
    faults.tell()
