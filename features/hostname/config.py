"""The key `feature.hostname`: true or false."""

from __future__ import annotations

from attrs import frozen

from pymirror.core.config import key


@frozen
class Config:
    """Whether the program sees the target's host name."""

    enabled: bool = key(default=True, help="The program sees the target's host name.")

    @classmethod
    def from_short(cls, value: bool) -> Config | None:
        """`true`: the defaults; `false`: this machine's name."""
        return cls() if value else None
