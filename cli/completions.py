"""`pymirror completions SHELL`."""

from __future__ import annotations

import click


@click.command("completions")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> int:
    """Print the completion script of SHELL; `source` it, or put it where the shell looks."""
    from click.shell_completion import get_completion_class

    from pymirror.cli.main import group

    maker = get_completion_class(shell)
    assert maker is not None
    click.echo(maker(group, {}, "pymirror", "_PYMIRROR_COMPLETE").source())
    return 0
