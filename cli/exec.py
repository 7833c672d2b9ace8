"""`pymirror exec [FLAGS] [--] PROGRAM [ARGS…]`."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping
from typing import Any

import click

from pymirror.cli.common import check_target, fail, settings_of, variable
from pymirror.cli.options import SessionCommand
from pymirror.core.errors import ProgramError, PymirrorError, UserError

CONTAINER_TOOLS = {"docker", "podman", "nerdctl"}


@click.command("exec", cls=SessionCommand, context_settings={"allow_interspersed_args": False})
@click.option("--trace", is_flag=True, help="Print each decision with its reason.")
@click.option("--progress", metavar="MODE", help="std, dumb, simple, json or off (PYMIRROR_PROGRESS_MODE).")
@click.argument("program", nargs=-1, required=True, type=click.UNPROCESSED)
def command(program: tuple[str, ...], trace: bool, progress: str | None, **options: Any) -> int:
    """Run PROGRAM, unmodified, in the context of a running target.

    The program's standard streams, signals and exit status are its own; pymirror's own failures
    end with 125, a program that is not there with 127, one that is not executable with 126.
    """
    from pymirror.cli.report import make_report

    try:
        executable = find_program(program[0], os.environ)
        refuse_nested(os.environ)
        report = make_report(progress or variable("PROGRESS_MODE", os.environ))
        settings = settings_of(options, os.environ)
        check_target(settings)
        for warning in settings.warnings:
            report.warn(warning)
        if os.path.basename(program[0]) in CONTAINER_TOOLS:
            report.warn(f"{program[0]} only talks to a service: what it starts does not run under pymirror")
        return _run(settings, list(program), executable, report, trace)
    except PymirrorError as error:
        return fail(error)


def _run(settings: Any, argv: list[str], executable: str, report: Any, trace: bool) -> int:
    from pymirror.layer.main import Interrupted, run

    try:
        return asyncio.run(run(settings, argv, executable, report, trace))
    except Interrupted as ended:
        return ended.exit_status
    finally:
        report.close()


def find_program(name: str, environ: Mapping[str, str]) -> str:
    """The file to execute, looked up as execvp does. ProgramError 127, or 126 when not executable."""
    if "/" not in name:
        path = environ.get("PATH", os.defpath)
        found = shutil.which(name, path=path)
        if found is not None:
            return found
        there = [
            f for f in (os.path.join(folder or ".", name) for folder in path.split(":")) if os.path.isfile(f)
        ]
        if there:
            raise ProgramError(f"{there[0]}: not executable", "nothing was created; chmod +x it", 126)
        raise ProgramError(f"{name}: not found in PATH", "nothing was created; check the program's name")
    if not os.path.exists(name):
        raise ProgramError(f"{name}: no such file", "nothing was created; check the program's path")
    if os.path.isdir(name) or not os.access(name, os.X_OK):
        raise ProgramError(
            f"{name}: not executable", "nothing was created; chmod +x it, or name its interpreter", 126
        )
    return name


def refuse_nested(environ: Mapping[str, str]) -> None:
    """A session inside a session would be supervised twice; the kernel allows one listener."""
    if "PYMIRROR_SESSION" in environ:
        raise UserError(
            "this is already running under pymirror exec", "look for a script that calls pymirror itself"
        )
