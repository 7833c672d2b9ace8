"""What the commands share: what is installed here, the settings, and one way for errors to be shown."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from pymirror.cli.options import BARE, flags_of, session_flags

if TYPE_CHECKING:  # imported late: `pymirror --help` needs none of it
    from pymirror.core.config import Settings, Vocabulary

DEFAULT_RUNTIME, DEFAULT_ENGINE = "kubernetes", "seccomp"
VARIABLES = ("BRANCH_NAME", "CONFIG_FILE", "LOG", "PROGRESS_MODE", "SESSION", "TEST_CLUSTER")
"""Variables that no configuration class has."""


def vocabulary(ctx: click.Context | None = None) -> Vocabulary:
    """Everything this installation understands (imports the plug-ins, once for a command)."""
    ctx = ctx or click.get_current_context(silent=True)
    if ctx is None:
        return _installed()
    if "pymirror" not in ctx.meta:
        ctx.meta["pymirror"] = _installed()
    known: Vocabulary = ctx.meta["pymirror"]
    return known


def _installed() -> Vocabulary:
    from pymirror.core import registry

    return vocabulary_of(
        features={name: half.cls.Config for name, half in registry.layer_halves().items()},
        runtimes={name: registry.runtime(name).cls.Config for name in registry.runtime_names()},
        engines=registry.engine_names(),
    )


def vocabulary_of(
    features: Mapping[str, type], runtimes: Mapping[str, type], engines: Sequence[str] = (DEFAULT_ENGINE,)
) -> Vocabulary:
    """The keys of `features` and `runtimes`, and mirrord's."""
    from pymirror.cli import mirrord_keys as mirrord
    from pymirror.core.config import Vocabulary

    return Vocabulary(
        features=features,
        runtimes=runtimes,
        default_runtime=DEFAULT_RUNTIME,
        engines=engines,
        default_engine=DEFAULT_ENGINE,
        variables=VARIABLES,
        absent=mirrord.ABSENT,
        paid=mirrord.PAID,
        ignored=mirrord.IGNORED,
        neutral=mirrord.NEUTRAL,
        absent_env=mirrord.ABSENT_ENV,
    )


def settings_of(options: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    """The session's `core.config.Settings`; UserError and its kin for what is wrong."""
    from pymirror.core import configfile
    from pymirror.core.config import resolve

    known = vocabulary()
    file = options.get("config_file")
    if file == BARE:
        file = configfile.discover()
    elif file is None:
        file = variable("CONFIG_FILE", environ)
    return resolve(file, flags_of(options, session_flags(known)), environ, known)


def check_target(settings: Settings) -> None:
    """ConfigError, with the target's place, where the target's runtime cannot read it; or where there is none
    and a feature needs one."""
    from pymirror.core import registry
    from pymirror.core.config import refuse_without_target
    from pymirror.core.errors import ConfigError, UserError

    if settings.target is None:
        refuse_without_target(settings)
        return
    try:
        registry.runtime(settings.runtime_name).cls.read_target(settings.target)
    except UserError as error:
        raise ConfigError(settings.target_place, error.message, error.hint) from error


def variable(name: str, environ: Mapping[str, str]) -> str | None:
    """PYMIRROR_<name>, else MIRRORD_<name>; an empty one does not count."""
    return environ.get(f"PYMIRROR_{name}") or environ.get(f"MIRRORD_{name}") or None


def fail(error: Exception) -> int:
    """Show an error of ours on stderr; the exit status that goes with it."""
    from pymirror.core.errors import ConfigError, PymirrorError

    lines = []
    for each in error.all() if isinstance(error, ConfigError) else [error]:
        lines.append(f"pymirror: error: {getattr(each, 'message', None) or each}\n")
        lines += [f"  {line}\n" for line in getattr(each, "hint", "").splitlines() if line]
    with suppress(OSError):  # nobody reads it, `2>&1 | head` say: the status still tells
        sys.stderr.write("".join(lines))
    return error.exit_status if isinstance(error, PymirrorError) else 125
