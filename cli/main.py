"""The command `pymirror`: a group whose commands are imported when they are called."""

from __future__ import annotations

import difflib
import importlib
import logging
import os
import sys
from typing import Any

import click

from pymirror.cli.common import fail
from pymirror.core.errors import PymirrorError

COMMANDS = {
    "exec": "Run a program in the context of a target.",
    "dump": "Print what comes to ports of a target.",
    "ls": "List targets.",
    "verify-config": "Check a configuration file.",
    "explain": "Say what would happen to a path, a variable or the host name, and why.",
    "demo": "See it work on this machine, without a cluster.",
    "completions": "Print the shell's completion script.",
}

LEVELS = {
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": logging.DEBUG,
}


class Lazy(click.Group):
    """Imports a command's module only when that command runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"pymirror.cli.{name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            ctx.fail(f"No such command {args[0]!r}." + (f" Did you mean {near[0]}?" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"pymirror {version('pymirror')}")
        ctx.exit()


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Show the version."
)
def group() -> None:
    """Run a local program in the context of a running Kubernetes pod."""


def main(args: list[str] | None = None) -> int:
    """Entry point. Wrong usage and our own faults are 125: 1 and 2 could be the program's own status."""
    try:
        _log(os.environ.get("PYMIRROR_LOG") or "warning")
        status: Any = group.main(args=args, prog_name="pymirror", standalone_mode=False)
    except click.exceptions.Abort:
        return 130
    except click.ClickException as error:
        error.show()
        return 125
    except click.exceptions.Exit as exit:
        return exit.exit_code
    except PymirrorError as error:  # a broken plug-in, while the flags are collected
        return fail(error)
    except Exception:
        import traceback

        traceback.print_exc()
        print(
            "pymirror: error: this is a fault in pymirror; please report it with the lines above",
            file=sys.stderr,
        )
        return 125
    return status if isinstance(status, int) else 0


def _log(level: str) -> None:
    number = LEVELS.get(level.lower())
    if number is None:
        raise click.UsageError(f"PYMIRROR_LOG={level}: not a level; use one of {', '.join(LEVELS)}")
    logging.basicConfig(format="pymirror: %(levelname)s %(name)s: %(message)s")
    logging.getLogger("pymirror").setLevel(number)  # alone: websockets' own debug lines have the bearer token


if __name__ == "__main__":
    sys.exit(main())
