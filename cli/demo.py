"""`pymirror demo`: the main job on a sandbox of this machine."""

from __future__ import annotations

import asyncio

import click

from pymirror.cli.common import fail
from pymirror.core.errors import PymirrorError


@click.command("demo")
def command() -> int:
    """Start a pod-like sandbox and run programs in its context, as `pymirror exec` does with a pod."""
    from pymirror.cli.report import make_report
    from pymirror.runtimes.process.demo import run

    report = make_report(None)
    try:
        return asyncio.run(run(report))
    except PymirrorError as error:
        return fail(error)
    finally:
        report.close()
