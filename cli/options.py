"""The session's flags: those the installed features and runtimes declare, and mirrord's without a home yet.

They are collected when a command runs, so that a feature of a third party has its flags like ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:  # imported late: `pymirror --help` needs none of it
    from pymirror.core.config import Vocabulary
    from pymirror.core.flags import Declared, Flag

BARE = "\0discover"


class SessionCommand(click.Command):
    """A command with the session's flags; with `looking`, only those that matter where nothing is started."""

    looking = False

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        from pymirror.cli.common import vocabulary

        flags = session_flags(vocabulary(ctx), self.looking)
        return [config_file(), *(option(each.flag) for each in flags), *super().get_params(ctx)]


class LookingCommand(SessionCommand):
    looking = True


def session_flags(vocabulary: Vocabulary, looking: bool = False) -> list[Declared]:
    """Core's, the runtimes' and the features' flags, and mirrord's that none of them has."""
    from pymirror.cli.mirrord_keys import SWITCHES
    from pymirror.core.flags import declared
    from pymirror.core.root import Root

    found = declared([Root, *vocabulary.runtimes.values(), *vocabulary.features.values()])
    taken = {name for each in found for name in each.flag.names}
    found += [each for each in SWITCHES if not taken.intersection(each.flag.names)]
    return [each for each in found if each.flag.looking or not looking]


def option(flag: Flag) -> click.Option:
    """A flag as click has it."""
    words = [*flag.names, place(flag)]
    if flag.text is not None:
        return click.Option(words, is_flag=True, help=flag.help)
    if flag.bare is None:
        return click.Option(words, metavar="VALUE", help=flag.help)
    return click.Option(words, is_flag=False, flag_value=flag.bare, metavar="[VALUE]", help=flag.help)


def config_file() -> click.Option:
    return click.Option(
        ["-f", "--config-file", "config_file"],
        is_flag=False,
        flag_value=BARE,
        metavar="[PATH]",
        help="Configuration file; without PATH .pymirror/pymirror.* or .mirrord/mirrord.json; - is stdin.",
    )


def place(flag: Flag) -> str:
    """The name of the flag's value among a command's options."""
    return flag.long[2:].replace("-", "_")


def flags_of(options: Mapping[str, Any], flags: list[Declared]) -> dict[str, tuple[str, str]]:
    """Variable without prefix → (text, spelling of the flag) for the flags that were given.

    A flag with a value beats one without for the same variable.
    """
    said: dict[str, tuple[str, str]] = {}
    for each in sorted(flags, key=lambda each: each.flag.text is None):
        value = options.get(place(each.flag))
        if each.flag.text is not None:
            value = each.flag.text if value else None
        if value is None:
            continue
        if each.flag.bare is not None:
            value = value.removeprefix("=")  # -c=false is mirrord's spelling
        text = each.flag.spelled.get(value, value)
        said.update({variable: (text, each.flag.long) for variable in each.variables})
    return said
