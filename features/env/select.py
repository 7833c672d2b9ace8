"""Which variables come from the target, and what becomes of them: values in, choice and reason out.

Patterns are whole-name wildcards, `*` any run and `?` one character, case-sensitive. A pattern of
`include` beats the default list (mirrord's does not) unless it is bare wildcards: `*` alone would
bring the target's PATH. Of `mapping`'s patterns the first in the file's order counts; they are
searched in the name, and the value is literal: no `$1`, as values with a `$` are common.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache

from attrs import frozen

from pymirror.core.errors import ConfigError
from pymirror.core.patterns import Pattern, TooSlow

DEFAULT_EXCLUDES = frozenset(
    """
    BUNDLER_ORIG_BUNDLER_ORIG_MANPATH BUNDLER_ORIG_BUNDLER_VERSION BUNDLER_ORIG_BUNDLE_BIN_PATH
    BUNDLER_ORIG_BUNDLE_GEMFILE BUNDLER_ORIG_GEM_HOME BUNDLER_ORIG_MANPATH BUNDLER_ORIG_PATH
    BUNDLER_ORIG_RB_USER_INSTALL BUNDLER_ORIG_RUBYLIB BUNDLER_ORIG_RUBYOPT BUNDLER_VERSION
    BUNDLE_APP_CONFIG BUNDLE_BIN_PATH BUNDLE_FORCE_RUBY_PLATFORM BUNDLE_GEMFILE BUNDLE_GEM_PATH
    BUNDLE_PATH BUNDLE_WITHOUT CATALINA_HOME CLASSPATH DOTNET_EnableDiagnostics DOTNET_STARTUP_HOOKS
    GEM_HOME GEM_PATH GOPATH GOMODCACHE HOME HOMEPATH JAVA_EXE JAVA_HOME JAVA_TOOL_OPTIONS PATH PWD
    PYTHONPATH RUBYLIB RUBYOPT MIRRORD_LOG PYMIRROR_LOG PYMIRROR_SESSION RUST_LOG _JAVA_OPTIONS
    """.split()
)
"""Variables that describe where the target's programs are, or steer pymirror itself: of no use here."""


AWS = frozenset(
    "AWS_PROFILE AWS_DEFAULT_PROFILE AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN "
    "AWS_SECURITY_TOKEN AWS_CONFIG_FILE AWS_SHARED_CREDENTIALS_FILE".split()
)
"""`magic.aws` hides these of this machine: each beats what a pod has, its service account's role for one, or
is half of a pair whose other half the pod has. mirrord hides the first alone."""
MAGIC = "env.magic aws"


@frozen
class Choice:
    """taken: the target's value crosses. by_default: the default list alone keeps it back."""

    taken: bool
    reason: str
    by_default: bool = False


def choose(name: str, include: Sequence[str], exclude: Sequence[str]) -> Choice:
    """Does the target's variable `name` cross? No `include` means all. (mirrord: 4.2)"""
    pattern = first_match(name, exclude)
    if pattern is not None:
        return Choice(False, f"env.exclude {pattern}")
    named = first_match(name, [pattern for pattern in include if pattern.strip("*?")])
    if named is not None:
        return Choice(True, f"env.include {named}")
    if include and first_match(name, include) is None:
        return Choice(False, "env.include: no pattern matches")
    if name in DEFAULT_EXCLUDES:
        return Choice(False, f"env default exclude {name}", by_default=True)
    return Choice(True, "env default: all variables" if not include else "env.include *")


def first_match(name: str, patterns: Iterable[str]) -> str | None:
    """The first wildcard pattern that the whole name matches."""
    return next((pattern for pattern in patterns if _wildcard(pattern).fullmatch(name)), None)


@lru_cache(maxsize=1024)
def _wildcard(pattern: str) -> re.Pattern[str]:
    """`[` is an ordinary character here. `fnmatch` makes a `*` that gives nothing back: never slow."""
    return re.compile(fnmatch.translate(pattern.replace("[", "[[]")))


@frozen
class Merged:
    """environ: the program's. sources: name → the rule that gave or removed it, for each changed name."""

    environ: dict[str, str]
    sources: dict[str, str]


def merge(
    here: Mapping[str, str],
    target: Mapping[str, str],
    *,
    env_file: Mapping[str, str],
    mapping: Mapping[str, str],
    override: Mapping[str, str],
    unset: Sequence[str],
    hidden: AbstractSet[str] = frozenset(),
) -> Merged:
    """The target's selected variables laid over those from here, in the fixed order. (mirrord: 4.3)

    target's, then `env_file` over them, then `mapping`, then `override`; the result over `here`;
    at last `unset`, whose names match without regard to case. hidden: names that `here` is without.
    """
    values = {**target, **env_file}
    sources = {**dict.fromkeys(target, "the target"), **dict.fromkeys(env_file, "env.env_file")}
    for name in values:
        pattern = mapped(name, mapping)
        if pattern is not None:
            values[name], sources[name] = mapping[pattern], f"env.mapping {pattern}"
    values.update(override)
    sources.update(dict.fromkeys(override, "env.override"))
    sources.update(dict.fromkeys(hidden & here.keys() - values.keys(), MAGIC))
    environ = {**{name: value for name, value in here.items() if name not in hidden}, **values}
    for name in [name for name in environ if is_unset(name, unset)]:
        del environ[name]
        sources[name] = "env.unset"
    return Merged(environ, sources)


def mapped(name: str, mapping: Mapping[str, str]) -> str | None:
    """The first pattern of `mapping` that is found in the name. ConfigError for one that takes too long."""
    try:
        return next((p for p in mapping if Pattern("env.mapping", p).search(name)), None)
    except TooSlow as slow:
        raise ConfigError("feature.env.mapping", f"{slow.strerror} (in {name})") from slow


def is_unset(name: str, unset: Sequence[str]) -> bool:
    """Is the name one of `unset`, without regard to case?"""
    return name.casefold() in {other.casefold() for other in unset}


def unpack(block: bytes) -> dict[str, str]:
    """A block of `NAME=value` NUL … as names and values; bytes that are no UTF-8 stay themselves."""
    entries = block.decode("utf-8", "surrogateescape").split("\0")
    return {name: value for name, equals, value in (entry.partition("=") for entry in entries) if equals}
