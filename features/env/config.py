"""The keys of `feature.env`."""

from __future__ import annotations

import re
from typing import Any

import attrs
from attrs import frozen

from pymirror.core.config import Flag, key


def _regexes(_: object, attribute: attrs.Attribute[Any], value: dict[str, str]) -> None:
    for pattern in value:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{attribute.name}: {pattern!r} is not a regular expression: {error}") from error


def _names(_: object, attribute: attrs.Attribute[Any], value: dict[str, str]) -> None:
    """What the kernel can carry: a name without `=`, and no NUL anywhere."""
    for name, content in value.items():
        if not name or "=" in name or "\0" in name + content:
            raise ValueError(
                f"{attribute.name}: {name!r} cannot be the name of a variable, or its value has a NUL"
            )


@frozen
class Config:
    """Which of the target's environment variables the program gets, and which are changed."""

    include: list[str] = key(
        factory=list,
        env="OVERRIDE_ENV_VARS_INCLUDE",
        flags=[Flag(("-s", "--override-env-vars-include"), help="Only these variables, `;` between them.")],
        help="Names to take from the target (wildcards * and ?); all others stay as they are here.",
    )
    exclude: list[str] = key(
        factory=list,
        env="OVERRIDE_ENV_VARS_EXCLUDE",
        flags=[Flag(("-x", "--override-env-vars-exclude"), help="Variables not to take, `;` between them.")],
        help="Names not to take from the target (wildcards * and ?). Not together with include.",
    )
    override: dict[str, str] = key(
        factory=dict, validator=_names, help="Variables to set, whatever the target has."
    )
    unset: list[str] = key(
        factory=list, help="Names the program does not get at all, without regard to case."
    )
    mapping: dict[str, str] = key(
        factory=dict,
        validator=_regexes,
        help="Regular expression searched in the name: the value that variable gets, literally; "
        "the first in this order counts.",
    )
    env_file: str | None = key(
        default=None,
        env="OVERRIDE_ENV_VARS_FILE",
        flags=[Flag(("--env-file",))],
        help="A dotenv file whose variables beat the target's.",
    )
    load_from_process: bool = key(
        default=False,
        env="ENV_LOAD_FROM_PROCESS",
        help="Accepted; no effect: the environment is always there before the program starts.",
    )

    aws: bool = key(
        False,
        at="feature.magic.aws",
        help="This machine's variables that say who one is to AWS (`AWS_PROFILE`, `AWS_ACCESS_KEY_ID` and "
        "their like) are not the program's; the target's are.",
    )

    def __attrs_post_init__(self) -> None:
        if self.include and self.exclude:
            raise ValueError("include and exclude cannot be given together: include leaves all others out")

    @classmethod
    def from_short(cls, value: bool) -> Config | None:
        """`true`: the defaults; `false`: the environment stays as it is here."""
        return cls() if value else None

    @classmethod
    def when_off(cls, named: set[str]) -> dict[str, Any]:
        """Turned off in the file, but variables set the fields `named`: nothing else crosses."""
        return {} if named & {"include", "exclude"} else {"exclude": ["*"]}

    def warnings(self) -> list[str]:
        """Accepted, without effect."""
        if not self.load_from_process:
            return []
        return [
            "feature.env.load_from_process has no effect: the environment is there before the program starts"
        ]
