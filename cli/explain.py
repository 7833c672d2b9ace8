"""`pymirror explain path|env|address|bind|name|hostname …`: decision and rule, by the configuration alone."""

from __future__ import annotations

import os
from typing import Any

import click

from pymirror.cli.common import fail, settings_of
from pymirror.cli.options import SessionCommand
from pymirror.cli.questions import FORMS, calls
from pymirror.cli.report import kind_of, subject
from pymirror.core.call import Call, Verdict
from pymirror.core.errors import PymirrorError


@click.command("explain", cls=SessionCommand)
@click.argument("what", type=click.Choice(tuple(FORMS)))
@click.argument("names", nargs=-1)
def command(what: str, names: tuple[str, ...], **options: Any) -> int:
    """Say what would happen to the paths, variables, addresses or names NAMES, and why. Needs no cluster.

    An address is [tcp|udp://]HOST:PORT, or unix:///PATH (unix://@NAME for an abstract one); one to bind and
    listen on HOST:PORT.
    """
    try:
        settings = settings_of(options, os.environ)
        for name, call in calls(what, names):
            click.echo(_line(call, settings, what, name))
        return 0
    except PymirrorError as error:
        return fail(error)


def decide(call: Call, settings: Any) -> tuple[str, Verdict] | None:
    """(feature, verdict) of the first feature that claims the call."""
    from pymirror.core import registry

    halves = registry.layer_halves()
    wanted = {name: config for name, config in settings.features.items() if halves[name].cls.wanted(config)}
    for name, config in wanted.items():
        verdict = halves[name].cls.explain_among(config, call, wanted)
        if verdict is not None:
            return name, verdict
    return None


def _line(call: Call, settings: Any, what: str, name: str) -> str:
    about = {
        "path": f"{'write' if call.write else 'read'} {call.path.decode(errors='backslashreplace')}",
        "address": f"connect {subject(call)}",
    }.get(what, f"{what} {name}".strip())
    answer = decide(call, settings)
    if answer is None:
        return f"{about}: this machine (no feature claims it)"
    where = "target" if type(answer[1]) is Verdict else kind_of(answer[1])
    return f"{about}: {where} ({answer[1].reason})"
