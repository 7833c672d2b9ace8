"""`pymirror verify-config [PATH]`: JSON with Success or Fail, or the JSON Schema of the configuration."""

from __future__ import annotations

import json
import os
from typing import Any

import attrs
import click

from pymirror.cli.common import check_target, vocabulary
from pymirror.core.errors import ConfigError, PymirrorError


@click.command("verify-config")
@click.option("--schema", is_flag=True, help="Print the JSON Schema for editors and end.")
@click.option("--resolved", is_flag=True, help="Include the resolved configuration.")
@click.option("--ide", is_flag=True, help="A target is chosen later.")
@click.argument("path", required=False)
def command(path: str | None, schema: bool, resolved: bool, ide: bool) -> int:
    """Check the configuration file PATH (default: as `-f` without a path) and print the result as JSON."""
    if schema:
        from pymirror.core.schema import schema_of

        click.echo(json.dumps(schema_of(vocabulary()), indent=2))
        return 0
    answer = verify(path, resolved, ide)
    click.echo(json.dumps(answer, indent=2))
    return 0 if answer["type"] == "Success" else 1


def verify(path: str | None, resolved: bool, ide: bool) -> dict[str, Any]:
    """The answer as plain values: type, config, warnings or errors."""
    from pymirror.core import configfile
    from pymirror.core.config import resolve

    try:
        file = path or configfile.discover()
        settings = resolve(file, {}, os.environ, vocabulary())
        if settings.target is not None or not ide:
            check_target(settings)
    except PymirrorError as error:
        found = error.all() if isinstance(error, ConfigError) else [error]
        hints = list(dict.fromkeys(each.hint for each in found if each.hint))
        return {"type": "Fail", "errors": [each.message for each in found], "hints": hints}
    warnings = list(settings.warnings)
    if settings.target is None and not ide:
        warnings.append("no target is set: the agent would run without one")
    answer: dict[str, Any] = {
        "type": "Success",
        "config": {"path": settings.target, "namespace": settings.namespace},
        "features": list(settings.features),
        "warnings": warnings,
    }
    if resolved:
        answer["resolved"] = {
            "target": settings.target,
            "namespace": settings.namespace,
            "engine": settings.engine,
            "key": settings.key,
            "runtime": {settings.runtime_name: attrs.asdict(settings.runtime)},
            "feature": {name: attrs.asdict(config) for name, config in settings.features.items()},
        }
    return answer
