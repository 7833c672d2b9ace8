"""`pymirror ls`: the targets that could be used now."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import click

from pymirror.cli.common import fail, settings_of
from pymirror.cli.options import LookingCommand
from pymirror.core.errors import PymirrorError, UserError


@click.command("ls", cls=LookingCommand)
@click.option("-o", "--output", type=click.Choice(["json", "table"]), default="table", help="How to print.")
@click.option(
    "--target-type", "kinds", multiple=True, metavar="KIND", help="Only this kind; may be repeated."
)
def command(output: str, kinds: tuple[str, ...], **options: Any) -> int:
    """List the targets in a namespace: pods by container, and the workloads that have a ready pod."""
    try:
        settings = settings_of(options, os.environ)
        if _lister(settings.runtime_name) is None:  # the target's own runtime has no list
            settings = settings_of({**options, "target": "targetless"}, os.environ)
        list_targets = _lister(settings.runtime_name)
        if list_targets is None:
            raise UserError(f"the runtime {settings.runtime_name} has no list of targets")
        found = asyncio.run(list_targets(settings.runtime, settings.namespace, kinds))
    except PymirrorError as error:
        return fail(error)
    if output == "json":
        click.echo(json.dumps(found, indent=2))
    else:
        _table(found)
    return 0


def _lister(runtime: str) -> Any:
    from pymirror.core import registry

    return getattr(registry.runtime(runtime).cls, "list_targets", None)


def _table(found: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("TARGET", "AVAILABLE", box=None, pad_edge=False)
    for target in found:
        table.add_row(escape(target["path"]), "yes" if target["available"] else "no")
    Console().print(table)
