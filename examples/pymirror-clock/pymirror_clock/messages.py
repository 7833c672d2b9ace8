"""What the halves of `clock` say to each other, and what the user may choose."""

from __future__ import annotations

from attrs import frozen

from pymirror.core.config import Flag, key
from pymirror.core.message import message


@frozen
class Config:
    """feature.clock. zone: use this one and do not ask the target (empty: ask)."""

    zone: str = key("", env="CLOCK_ZONE", help="Use this time zone.", flags=[Flag(("--zone",))])


@message("clock")
class AskZone:
    """Which time zone does the target live in?"""


@message("clock")
class Zone:
    """name: as TZ takes it, empty if nothing tells it. source: where it was found."""

    name: str
    source: str
