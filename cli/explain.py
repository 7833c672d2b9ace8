"""`pymirror explain path|env|address|name|hostname …`: decision and rule, from the configuration alone."""

from __future__ import annotations

import os
import posixpath
from typing import Any

import click

from pymirror.cli.common import fail, settings_of
from pymirror.cli.options import SessionCommand
from pymirror.cli.report import kind_of, subject
from pymirror.core.call import Address, Call, Verdict
from pymirror.core.errors import PymirrorError, UserError

KINDS = ("path", "env", "address", "name", "hostname")


@click.command("explain", cls=SessionCommand)
@click.argument("what", type=click.Choice(KINDS))
@click.argument("names", nargs=-1)
def command(what: str, names: tuple[str, ...], **options: Any) -> int:
    """Say what would happen to the paths, variables, addresses or names NAMES, and why. Needs no cluster.

    An address is [tcp|udp://]HOST:PORT, or unix:///PATH (unix://@NAME for an abstract one).
    """
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
    if what == "address":
        return destinations(name)
    if what == "path":
        path = os.fsencode(posixpath.normpath(os.path.abspath(name)))
        return [Call("open", path), Call("open", path, write=True)]
    return [Call("hostname") if what == "hostname" else Call(what, os.fsencode(name))]


def destinations(text: str) -> list[Call]:
    """The connects that an address stands for: over TCP and UDP if it does not say which."""
    transport, separator, rest = text.rpartition("://")
    if transport == "unix":
        return [Call("connect", os.fsencode(rest.replace("@", "\0", 1)), transport="unix")]
    host, colon, port = rest.rpartition(":")
    if not (colon and port.isascii() and port.isdigit()) or (separator and transport not in ("tcp", "udp")):
        raise UserError(f"{text}: cannot be read as an address", "for example tcp://10.0.0.7:443 or db:5432")
    address = Address(host.strip("[]"), int(port))
    return [
        Call("connect", transport=each, address=address)
        for each in ([transport] if transport else ["tcp", "udp"])
    ]


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
