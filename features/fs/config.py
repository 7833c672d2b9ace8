"""The keys of `feature.fs` (mirrord: 2.4 fs, part 5)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from attrs import frozen

from pymirror.core.config import Flag, key, one_of, positive, regex
from pymirror.features.fs.owner import Owner

MODES = ("local", "localwithoverrides", "read", "write")


def _buffer(_: object, attribute: Any, value: int) -> None:
    if not 0 <= value <= 15 << 20:
        raise ValueError(f"{attribute.name}: at most 15 MiB, and not negative")


def _owner(_: object, attribute: Any, value: str) -> None:
    numbers = [int(number) for number in value.split(":") if number.isdigit()]
    if value and (not re.fullmatch(r"\d+(:\d+)?", value) or max(numbers) >= (1 << 32) - 1):
        raise ValueError(f"{attribute.name}: {value!r} is no uid or uid:gid, in numbers: 1000:1000")


REFERENCE = re.compile(r"\$(?:\$|(\w+)|\{(\w+)\})")
"""`$1`, `${1}` and `${name}` in a mapping's replacement; `$$` is a dollar sign."""


def _references(_: object, attribute: Any, value: dict[str, str]) -> None:
    """Each group that a replacement names is in its pattern."""
    for pattern, replacement in value.items():
        made = re.compile(pattern)
        for found in REFERENCE.finditer(replacement):
            name = found[1] or found[2]
            there = name is None or (int(name) <= made.groups if name.isdigit() else name in made.groupindex)
            if not there:
                raise ValueError(
                    f"{attribute.name}: {replacement!r} uses {found[0]}, and {pattern!r} has no such group"
                    " (${1} ends the name before a letter or digit)"
                )


@frozen
class Config:
    """Which files are the target's. Patterns are regular expressions, searched without regard to case."""

    variables: ClassVar[tuple[str, ...]] = ("FILE_OPS", "FILE_RO_OPS")

    mode: str = key(
        "read",
        env="FILE_MODE",
        validator=one_of(*MODES),
        flags=[Flag(("--fs-mode",), spelled={"local-with-overrides": "localwithoverrides"})],
        help="What happens to paths no list decides: read (read the target's, write here), "
        "write (both in the target), localwithoverrides, local (no list counts).",
    )
    read_write: list[str] = key(
        factory=list,
        env="FILE_READ_WRITE_PATTERN",
        validator=regex,
        help="Paths that are the target's, read and written there.",
    )
    read_only: list[str] = key(
        factory=list,
        env="FILE_READ_ONLY_PATTERN",
        validator=regex,
        help="Paths read from the target and written here.",
    )
    local: list[str] = key(
        factory=list, env="FILE_LOCAL_PATTERN", validator=regex, help="Paths that stay on this machine."
    )
    remote: list[str] = key(
        factory=list,
        validator=regex,
        help="Paths that are the target's whatever the default lists say: read there, written as the mode "
        "has it.",
    )
    not_found: list[str] = key(factory=list, validator=regex, help="Paths that do not exist for the program.")
    mapping: dict[str, str] = key(
        factory=dict,
        validator=[regex, _references],
        help="Pattern: replacement ($1, ${name}); rewrites the path before it is decided. The first counts.",
    )
    auto_mount: bool = key(
        False,
        at="feature.magic.auto_mount",
        help="What is mounted in the target's container (ConfigMaps, Secrets, claims) is the target's "
        "whatever the default lists say, but for what is the program's own.",
    )
    aws: bool = key(
        False,
        at="feature.magic.aws",
        help="Instead of `~/.aws` the program has a folder of the session's, empty at first, so that AWS's "
        "libraries find the credentials of the target.",
    )
    readonly_file_buffer: int = key(
        128_000,
        validator=_buffer,
        help="0 turns reading ahead off; how much is fetched ahead else follows from the reads.",
    )

    timeout: float = key(
        60.0,
        validator=positive,
        help="Seconds the target may take for one answer about a file, a hung network disk say; "
        "the program then gets ETIMEDOUT.",
    )

    owner: str = key(
        "",
        validator=_owner,
        help="`uid` or `uid:gid` that changes in the target are made as; empty: the target's user, groups "
        "and rights.",
    )

    @property
    def writes(self) -> bool:
        """May anything be changed in the target?"""
        return self.mode == "write" or bool(self.read_write and self.mode != "local")

    def owner_of(self, target: Owner) -> Owner:
        """Who changes are made as, where the target's first process is `target`."""
        if not self.owner:
            return target
        uid, _, gid = self.owner.partition(":")
        group = int(gid or target.gid)
        return Owner(int(uid), group, (group,), target.rights if int(uid) == target.uid else 0)

    @classmethod
    def from_short(cls, value: bool | str) -> Config:
        """`true`: mode read; `false`: mode local; or the mode itself."""
        if isinstance(value, bool):
            return cls(mode="read" if value else "local")
        return cls(mode=value)

    def warnings(self) -> list[str]:
        """Allowed, but hardly meant: the folder is then listed, and looked for, on the other side."""
        presets = {"auto_mount": self.auto_mount, "aws": self.aws}
        found = [
            f"feature.magic.{name} has no effect on files: feature.fs is in mode local"
            for name, wanted in presets.items()
            if wanted and self.mode == "local"
        ]
        return found + [
            f"feature.fs.{name}: {pattern!r} does not match the folder itself: {whole + '(/|$)'!r} does"
            for name in ("read_only", "local", "remote", "not_found")
            for pattern in getattr(self, name)
            if pattern.endswith("/") and (whole := pattern[:-1].removesuffix("\\")) not in ("", "^")
        ]

    @classmethod
    def environment(cls, values: Mapping[str, str]) -> dict[str, Any]:
        """The older FILE_OPS and FILE_RO_OPS, where FILE_MODE is not set (mirrord: 2.4 fs)."""
        ops, reading = values.get("FILE_OPS"), values.get("FILE_RO_OPS")
        if ops == "true":
            return {"mode": "write"}
        if reading == "true":
            return {"mode": "read"}
        return {"mode": "local"} if (ops, reading) == ("false", "false") else {}
