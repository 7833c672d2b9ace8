"""`pymirror ls`: the targets that could be used now."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import click

from pymirror.cli.common import fail, session_options, settings_of
from pymirror.core.errors import PymirrorError


@click.command("ls")
@session_options
@click.option("-o", "--output", type=click.Choice(["json", "table"]), default="table", help="How to print.")
@click.option(
    "--target-type", "kinds", multiple=True, metavar="KIND", help="Only this kind; may be repeated."
)
def command(output: str, kinds: tuple[str, ...], **options: Any) -> int:
    """List the targets in a namespace: pods by container, and the workloads that have a ready pod."""
    from pymirror.runtimes.kubernetes.listing import list_targets

    try:
        settings = settings_of(options, os.environ)
        if settings.runtime_name != "kubernetes":
            settings = settings_of({**options, "target": "targetless"}, os.environ)
        found = asyncio.run(list_targets(settings.runtime, settings.namespace, kinds))
    except PymirrorError as error:
        return fail(error)
    if output == "json":
        click.echo(json.dumps(found, indent=2))
    else:
        _table(found)
    return 0


def _table(found: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("TARGET", "AVAILABLE", box=None, pad_edge=False)
    for target in found:
        table.add_row(target["path"], "yes" if target["available"] else "no")
    Console().print(table)
