"""`pymirror dump [-p PORT…]`: print what clients send to a target, without a program of one's own."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import click

from pymirror.cli.common import check_target, fail, settings_of, variable
from pymirror.cli.options import SessionCommand
from pymirror.core.dumping import FORMS, Order
from pymirror.core.errors import PymirrorError, UserError


@click.command("dump", cls=SessionCommand)
@click.option(
    "-p",
    "--port",
    "--ports",
    "ports",
    multiple=True,
    metavar="PORT",
    help="Of the target; may be repeated. Default: those that its container declares.",
)
@click.option("--format", "form", type=click.Choice(FORMS), default=FORMS[0], show_default=True)
@click.option("--for", "seconds", metavar="SECONDS", help="End after so long.")
@click.option("--count", "most", metavar="N", help="End after N requests (http) or connections (text, hex).")
@click.option("--progress", metavar="MODE", help="std, dumb, simple, json or off (PYMIRROR_PROGRESS_MODE).")
def command(
    ports: tuple[str, ...],
    form: str,
    seconds: str | None,
    most: str | None,
    progress: str | None,
    **options: Any,
) -> int:
    """Print a copy of what clients send to ports of a target, until Ctrl-C.

    text: what is not printable is escaped. hex: offset, bytes, ASCII. http: a JSON object a line for each
    request. A reader that is slow loses copies, which are counted; the target is never held up.
    """
    from pymirror.cli.report import make_report

    try:
        order = Order(read_ports(ports), form, read_count(most), read_seconds(seconds))
        report = make_report(progress or variable("PROGRESS_MODE", os.environ))
        settings = settings_of(options, os.environ)
        if settings.target is None:
            raise UserError("dump needs a target", "name one: -t pod/NAME")
        check_target(settings)
        for warning in settings.warnings:
            report.warn(warning)
        return _run(settings, order, report)
    except PymirrorError as error:
        return fail(error)


def _run(settings: Any, order: Order, report: Any) -> int:
    from pymirror.core.session import Part
    from pymirror.layer.dump import dump
    from pymirror.layer.main import Interrupted

    try:
        return asyncio.run(dump(settings, Part(*_sees(settings, order.ports)), order, report))
    except Interrupted as ended:
        return ended.exit_status
    finally:
        report.close()


def _sees(settings: Any, ports: tuple[int, ...]) -> tuple[Any, Any]:
    """The half that prints, and its configuration."""
    from pymirror.core import registry

    for name, half in registry.layer_halves().items():
        found: tuple[Any, Any] | None = half.cls.dumping(settings.features.get(name), ports)
        if found is not None:
            return found
    raise UserError("no installed feature sees a target's incoming traffic")


def read_ports(texts: tuple[str, ...]) -> tuple[int, ...]:
    """Each once. UserError."""
    for text in texts:
        if not (text.isascii() and text.isdigit() and 0 < int(text) < 1 << 16):
            raise UserError(f"-p {text}: is no port", "a port is a number from 1 to 65535")
    return tuple(dict.fromkeys(map(int, texts)))


def read_count(text: str | None) -> int:
    if text is None:
        return 0
    if not (text.isascii() and text.isdigit() and int(text)):
        raise UserError(f"--count {text}: is no number of them", "for example --count 10")
    return int(text)


def read_seconds(text: str | None) -> float | None:
    try:
        seconds = float(text) if text is not None else None
    except ValueError:
        seconds = 0.0
    if seconds is not None and not 0 < seconds < 1e9:
        raise UserError(f"--for {text}: is no number of seconds", "for example --for 30")
    return seconds
