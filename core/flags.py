"""Flags of the command line as the keys of configuration classes declare them. Pure.

A flag sets the variable of its key (`env`), as text; nothing else is known of it here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs
from attrs import field, frozen

from pymirror.core.errors import PluginError


@frozen
class Flag:
    """One flag. names: `-x`, `--long-name`; one of them is long.

    text: what it stands for, where it takes no value. bare: what it stands for without its value,
    where it may have one. looking: also for commands that only look at what is there (`ls`).
    spelled: other spellings of values. help: else the key's own.
    """

    names: tuple[str, ...]
    text: str | None = None
    bare: str | None = None
    looking: bool = False
    spelled: Mapping[str, str] = field(factory=dict)
    help: str = ""

    @property
    def long(self) -> str:
        """The first long name."""
        return next(name for name in self.names if name.startswith("--"))


@frozen
class Declared:
    """A flag and the variables it sets; several keys may declare the same flag without a value."""

    flag: Flag
    variables: tuple[str, ...]


def declared(classes: Iterable[type]) -> list[Declared]:
    """The flags of these configuration classes, in order. PluginError for two that clash."""
    found: dict[tuple[str, ...], Declared] = {}
    taken: dict[str, str] = {}
    for cls in classes:
        for a in attrs.fields(cls):
            for flag in a.metadata.get("flags", ()):
                where = f"{cls.__module__}.{cls.__qualname__}.{a.name}"
                other = found.get(flag.names)
                clash = next((taken[name] for name in flag.names if name in taken), None)
                if clash and (other is None or flag.text is None):
                    raise PluginError("", f"the flag {flag.long} is declared by {clash} and by {where}")
                taken.update(dict.fromkeys(flag.names, where))
                before = other.variables if other else ()
                flag = attrs.evolve(flag, help=flag.help or a.metadata["help"])
                found[flag.names] = Declared(other.flag if other else flag, (*before, a.metadata["env"]))
    return list(found.values())
