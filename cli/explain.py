"""`pymirror explain path|env|hostname …`: the decision and its rule, from the configuration alone."""

from __future__ import annotations

import os
import posixpath
from typing import Any

import click

from pymirror.cli.common import fail, settings_of
from pymirror.cli.options import SessionCommand
from pymirror.cli.report import kind_of
from pymirror.core.call import Call, Verdict
from pymirror.core.errors import PymirrorError, UserError

KINDS = ("path", "env", "hostname")


@click.command("explain", cls=SessionCommand)
@click.argument("what", type=click.Choice(KINDS))
@click.argument("names", nargs=-1)
def command(what: str, names: tuple[str, ...], **options: Any) -> int:
    """Say what would happen to the paths or variables NAMES, and why. Needs no cluster."""
    try:
        settings = settings_of(options, os.environ)
        if what != "hostname" and not names:
            raise UserError(
                f"explain {what} needs at least one name", f"for example: pymirror explain {what} NAME"
            )
        for name in names or ("",):
            for call in calls(what, name):
                click.echo(_line(call, settings, what, name))
        return 0
    except PymirrorError as error:
        return fail(error)


def calls(what: str, name: str) -> list[Call]:
    """The calls a question stands for: a path is read and written."""
    if what == "path":
        path = os.fsencode(posixpath.normpath(os.path.abspath(name)))
        return [Call("open", path), Call("open", path, write=True)]
    return [Call("env", os.fsencode(name)) if what == "env" else Call("hostname")]


def decide(call: Call, settings: Any) -> tuple[str, Verdict] | None:
    """(feature, verdict) of the first feature that claims the call."""
    from pymirror.core import registry

    halves = registry.layer_halves()
    for name, config in settings.features.items():
        half = halves[name].cls
        verdict = half.explain(config, call) if half.wanted(config) else None
        if verdict is not None:
            return name, verdict
    return None


def _line(call: Call, settings: Any, what: str, name: str) -> str:
    subject = {
        "path": f"{'write' if call.write else 'read'} {call.path.decode(errors='backslashreplace')}"
    }.get(what, f"{what} {name}".strip())
    answer = decide(call, settings)
    if answer is None:
        return f"{subject}: this machine (no feature claims it)"
    where = "target" if type(answer[1]) is Verdict else kind_of(answer[1])
    return f"{subject}: {where} ({answer[1].reason})"
