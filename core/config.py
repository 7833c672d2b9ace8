"""File + environment + flags → one frozen object per feature. Flags beat environment beats file.

Core knows no feature's and no runtime's keys: their `Config` classes come in by the vocabulary
(core/sieve.py). A class may have `absent`, the values of a section that is not there, `from_short(value)` for
short forms, `environment(values)` for variables that need a rule (their names as `variables`),
`when_off(named)` for what a variable finds where the file turned the feature off, `warnings()`, and
`without_target()`, which raises ValueError for what no session without a target can have. Whatever is wrong
names its place: the file and the dotted key, or the variable, or the flag.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any

import attrs
from attrs import frozen

from pymirror.core import configfile
from pymirror.core.errors import ConfigError
from pymirror.core.flags import Flag
from pymirror.core.root import AUTO, Root
from pymirror.core.sieve import Vocabulary, off, sift, unknown
from pymirror.core.structure import (
    Faults,
    build,
    convert,
    every,
    forms,
    hints,
    key,
    keys_of,
    near,
    nearest,
    nested,
    not_negative,
    one_of,
    parse,
    place_of,
    positive,
    regex,
    unfit,
    worded,
)
from pymirror.core.target import target_form
from pymirror.core.windows import Terms

__all__ = [
    "Flag",
    "Settings",
    "Vocabulary",
    "every",
    "key",
    "not_negative",
    "one_of",
    "positive",
    "regex",
    "resolve",
]

PREFIXES = ("PYMIRROR_", "MIRRORD_")


@frozen
class Settings:
    """A session's configuration, whole and checked."""

    target: str | None
    target_place: str  # file and key, variable or flag
    namespace: str | None
    features: dict[str, Any]
    runtime_name: str
    runtime: Any
    engine: str
    key: str
    skip: frozenset[str]
    heartbeat: float
    lease: float
    startup_timeout: float
    windows: Terms
    warnings: tuple[str, ...] = ()
    file: str | None = None


@frozen
class Given:
    """Values from the environment or flags: env name → (text, where it came from)."""

    values: Mapping[str, tuple[str, str]]

    def get(self, name: str | None) -> tuple[str, str] | None:
        return self.values.get(name) if name else None


def given(environ: Mapping[str, str], flags: Mapping[str, tuple[str, str]]) -> Given:
    """Flags over PYMIRROR_* over MIRRORD_*; keyed by the name without prefix."""
    values: dict[str, tuple[str, str]] = {}
    for prefix in reversed(PREFIXES):
        for name, text in environ.items():
            if name.startswith(prefix):
                values[name.removeprefix(prefix)] = (text, name)
    return Given({**values, **flags})


def resolve(
    file: str | None,
    flags: Mapping[str, tuple[str, str]],
    environ: Mapping[str, str],
    vocabulary: Vocabulary,
) -> Settings:
    """One `Settings` from all sources. ConfigError names the place; nothing is changed.

    flags: name of the variable without prefix → (text, the flag's spelling).
    """
    said = given(environ, flags)
    _unserved(said, flags, vocabulary)
    wanted = said.get("KEY")
    values, filled = configfile.load(file, environ, wanted[0] if wanted else None) if file else ({}, None)
    try:
        settings = _settle(file, values, filled, said, vocabulary)
    except ConfigError as error:
        for each in error.all() if file else ():
            if each.place not in {source for _, source in said.values.values()}:
                each.message = f"{file}: {each.message}"
        raise
    return attrs.evolve(settings, warnings=(*strangers(environ, vocabulary), *settings.warnings))


def refuse_without_target(settings: Settings) -> None:
    """ConfigError where a feature is to do what needs a target."""
    faults = Faults()
    for name, config in settings.features.items():
        try:
            if hasattr(config, "without_target"):
                config.without_target()
        except ValueError as error:
            faults.add(worded(type(config), error, f"feature.{name}"))
    faults.tell()


def _settle(
    file: str | None, values: dict[str, Any], filled: str | None, said: Given, vocabulary: Vocabulary
) -> Settings:
    faults, warnings, root = Faults(), [], Root()
    with faults.part():
        warnings = sift(values, vocabulary)
    with faults.part():
        root = _section(Root, _take(values, Root), said, "")
    with faults.part():
        features = _features(values, said, vocabulary, warnings)
    name, runtimes = _runtime_of(root.target, vocabulary), {}
    for each, cls in vocabulary.runtimes.items():
        with faults.part():
            runtimes[each] = _section(cls, _take(values, cls), said, "")
    with faults.part():
        unknown(values, known_keys(vocabulary))
    with faults.part():
        engine = _engine_of(root.engine, said, vocabulary)
    faults.tell()
    runtime = runtimes[name]
    for config in (runtime, *features.values()):
        warnings += config.warnings() if hasattr(config, "warnings") else []
    return Settings(
        target=None if root.target in (None, "targetless") else root.target,
        target_place=_target_place(file, said),
        namespace=root.namespace,
        features=features,
        runtime_name=name,
        runtime=runtime,
        engine=engine,
        key=filled or root.session_key or configfile.random_key(),
        skip=root.skip(),
        heartbeat=root.heartbeat,
        lease=root.lease,
        startup_timeout=float(getattr(runtime, "startup_timeout", 60)),
        windows=Terms(root.to_layer, root.to_agent),
        warnings=tuple(warnings),
        file=file,
    )


def known_keys(vocabulary: Vocabulary) -> set[str]:
    """Every dotted key that may stand in a file, those that are refused by name included."""
    known = {place_of(a) for cls in (Root, *vocabulary.runtimes.values()) for a in attrs.fields(cls)}
    for name, cls in vocabulary.features.items():
        known |= {f"feature.{name}"} | {place_of(a, f"feature.{name}.") for a in attrs.fields(cls)}
    return known | {*vocabulary.absent, *vocabulary.paid, *vocabulary.ignored}


def variables(vocabulary: Vocabulary) -> set[str]:
    """Every variable, without its prefix, that means something here."""
    classes = (Root, *vocabulary.runtimes.values(), *vocabulary.features.values())
    inner = (each for cls in classes for each in map(_inner, hints(cls).values()) if each is not None)
    keys = {a.metadata.get("env") for cls in (*classes, *inner) for a in attrs.fields(cls)} - {None}
    rules = {name for cls in classes for name in getattr(cls, "variables", ())}
    return {*keys, *rules, *vocabulary.absent_env, *vocabulary.variables}


def strangers(environ: Mapping[str, str], vocabulary: Vocabulary) -> list[str]:
    """Warnings for PYMIRROR_* that nobody reads; MIRRORD_* may be meant for mirrord."""
    known = sorted(variables(vocabulary))
    found = []
    for name in sorted(environ):
        bare = name.removeprefix(PREFIXES[0])
        if bare not in (name, *known):
            found.append(
                f"the variable {name} is not known and has no effect; {near(bare, known)}".rstrip("; ")
            )
    return found


def _unserved(said: Given, flags: Mapping[str, Any], vocabulary: Vocabulary) -> None:
    """Refuse variables and flags that set what is not served, and flags that nobody understands."""
    for name, path in vocabulary.absent_env.items():
        text, source = said.get(name) or ("", "")
        refused = None if vocabulary.installed(path) else vocabulary.refusal(path)
        harmless = (
            (str(vocabulary.neutral[path]).lower(),) if path in vocabulary.neutral else ("false", "off")
        )
        if refused and text and text not in harmless:
            raise ConfigError(source, f"sets {path}: {refused[0]}", refused[1])
    known = variables(vocabulary)
    for name in flags:
        if name not in known:
            raise ConfigError(flags[name][1], "the feature this flag is for is not installed", "leave it out")


def _take(values: dict[str, Any], cls: type, elsewhere: bool = False) -> dict[str, Any]:
    """Remove the keys of `cls` from the file's values: field name → value. elsewhere: only those that do not
    stand in its own section."""
    target = values.get("target")
    if "target" in {a.name for a in attrs.fields(cls)} and target is not None:
        values["target"] = target_form(values.pop("target"))  # what has no form is told here, and only once
    return {name: holder.pop(leaf) for name, holder, leaf in _found(values, cls, elsewhere)}


def _found(values: dict[str, Any], cls: type, elsewhere: bool) -> list[tuple[str, dict[str, Any], str]]:
    """The keys of `cls` that are in the file: field name, the section, the key in it."""
    found = []
    for a in attrs.fields(cls):
        if elsewhere and not a.metadata.get("at"):
            continue
        *parents, leaf = place_of(a).split(".")
        holder: Any = values
        for parent in parents:
            holder = holder.get(parent) if isinstance(holder, dict) else None
        if isinstance(holder, dict) and leaf in holder:
            found.append((a.name, holder, leaf))
    return found


def _section(cls: type, taken: dict[str, Any], said: Given, prefix: str) -> Any:
    """An instance of `cls` from the file's values and what the environment says."""
    made: dict[str, Any] = {}
    places: dict[str, str] = {}
    extra, faults = _extra(cls, said), Faults()
    for a in attrs.fields(cls):
        kind = hints(cls)[a.name]
        places[a.name] = place_of(a, prefix)
        found = said.get(a.metadata.get("env"))
        with faults.part():
            inner = _inner(kind)
            if inner is not None and _named(inner, said):
                made[a.name] = _overlaid(inner, taken.get(a.name), said, places[a.name])
            elif found is not None:
                text, places[a.name] = found
                made[a.name] = convert(kind, parse(kind, text, found[1]), found[1])
            elif a.name in extra:
                made[a.name] = convert(kind, extra[a.name], places[a.name])
            elif taken.get(a.name) is not None:
                made[a.name] = convert(kind, taken[a.name], places[a.name])
            elif a.default is attrs.NOTHING:
                raise ConfigError(places[a.name], "this key is required")
    faults.and_refusals(cls, made, prefix.rstrip(".") or "configuration", places)
    faults.tell()
    return build(cls, made, prefix.rstrip(".") or "configuration", places)


def _inner(kind: Any) -> type | None:
    """The class of keys that a key of that type holds, if it does."""
    found = [each for each in (kind, *typing.get_args(kind)) if isinstance(each, type) and attrs.has(each)]
    return found[0] if found else None


def _named(cls: type, said: Given) -> set[str]:
    """The fields that a variable sets, or of which it sets a part."""
    own = {a.name for a in attrs.fields(cls) if said.get(a.metadata.get("env"))}
    parts = {name for name, kind in hints(cls).items() if (inner := _inner(kind)) and _named(inner, said)}
    return own | parts | set(_extra(cls, said))


def _overlaid(cls: type, value: Any, said: Given, place: str) -> Any:
    """Keys within a key, some of which a variable sets. A short form stands for none of them."""
    given = {} if value is None or isinstance(value, bool) else value
    if not isinstance(given, Mapping):
        raise unfit(place, [*forms(bool), "a mapping"], value, keys_of(cls))
    return _strict(cls, given, {}, said, place)


def _strict(cls: type, value: Mapping[str, Any], outside: Mapping[str, Any], said: Given, place: str) -> Any:
    """`_section` of a mapping in which every key must be known. outside: its keys of other sections."""
    fields, faults = keys_of(cls), Faults()
    for name in value:
        if name not in fields:
            faults.add(ConfigError(f"{place}.{name}", "unknown key", nearest(str(name), fields)))
    with faults.part():
        section = _section(cls, {**value, **outside}, said, f"{place}.")
    faults.tell()
    return section


def _extra(cls: type, said: Given) -> dict[str, Any]:
    """Fields that a class reads from variables by a rule of its own."""
    hook = getattr(cls, "environment", None)
    return hook({name: text for name, (text, _) in said.values.items()}) if hook else {}


def _features(
    values: dict[str, Any], said: Given, vocabulary: Vocabulary, warnings: list[str]
) -> dict[str, Any]:
    section = values.get("feature")
    if not isinstance(section, dict):
        section = {}
    _spread(section, vocabulary)
    outside = {name: _elsewhere(values, cls) for name, cls in vocabulary.features.items()}
    for cls in vocabulary.features.values():  # after all have looked: one key may be of several features
        _take(values, cls, elsewhere=True)
    made, faults = {}, Faults()
    for name, cls in vocabulary.features.items():
        with faults.part():
            config = _feature(cls, _pick(section, name.split(".")), outside[name], said, f"feature.{name}")
            if config is not None:
                made[name] = config
                continue
            for a in attrs.fields(cls):
                if not off(outside[name].get(a.name)):
                    warnings.append(f"{place_of(a)} has no effect on feature.{name}, which is off")
    faults.tell()
    return made


def _elsewhere(values: dict[str, Any], cls: type) -> dict[str, Any]:
    """Field name → value of the keys of `cls` that do not stand in its own section; they are left there."""
    return {name: holder[leaf] for name, holder, leaf in _found(values, cls, elsewhere=True)}


def _spread(section: dict[str, Any], vocabulary: Vocabulary) -> None:
    """`network: false` stands for all features below it (mirrord: 2.2); so it does where features have
    keys in a section of their own."""
    names = [place.removeprefix("feature.") for place in vocabulary.sections()]
    for name in names:
        group, dot, _ = name.partition(".")
        if dot and group not in names and isinstance(section.get(group), bool):
            section[group] = {
                each.partition(".")[2]: section[group] for each in names if each.startswith(f"{group}.")
            }


def _feature(cls: type, value: Any, outside: dict[str, Any], said: Given, place: str) -> Any:
    """A feature's configuration; None where it is turned off. outside: its keys of other sections."""
    if value is None:
        value = dict(getattr(cls, "absent", {}))
    if isinstance(value, dict):
        return _strict(cls, value, outside, said, place)
    if not hasattr(cls, "from_short"):
        if not isinstance(value, bool):
            raise unfit(place, [*forms(bool), "a mapping"], value, keys_of(cls))
        return _section(cls, outside, said, f"{place}.") if value else None
    short = nested(cls, value, place)
    named = _named(cls, said)
    if not named and (short is None or not outside):
        return short
    # A sub-tree given in short form still obeys its variables (mirrord: 2.2).
    if short is None:
        when_off = getattr(cls, "when_off", None)
        return _section(cls, {**(when_off(named) if when_off else {}), **outside}, said, f"{place}.")
    return _section(cls, {**attrs.asdict(short), **outside}, said, f"{place}.")


def _pick(value: dict[str, Any], names: list[str]) -> Any:
    """Take a value out of nested mappings; None when it is not there."""
    holder: Any = value
    for name in names[:-1]:
        holder = holder.get(name) if isinstance(holder, dict) else None
    return holder.pop(names[-1], None) if isinstance(holder, dict) else None


def _engine_of(wanted: str, said: Given, vocabulary: Vocabulary) -> str:
    if wanted == AUTO:
        return vocabulary.default_engine
    if wanted not in vocabulary.engines:
        _, place = said.get("ENGINE") or ("", "engine")
        raise ConfigError(place, f"{wanted!r} is not one of {', '.join((AUTO, *vocabulary.engines))}")
    return wanted


def _target_place(file: str | None, said: Given) -> str:
    given = said.get("IMPERSONATED_TARGET")
    return given[1] if given else f"{file}: target"


def _runtime_of(target: str | None, vocabulary: Vocabulary) -> str:
    first = (target or "").partition("/")[0]
    if first in vocabulary.runtimes and first != vocabulary.default_runtime:
        return first
    return vocabulary.default_runtime
