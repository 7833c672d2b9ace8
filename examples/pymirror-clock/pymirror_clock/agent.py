"""The agent half of `clock`: finds the target's zone in TZ, /etc/timezone or /etc/localtime.

The target's /etc is opened without following links, and so are the names in it: a link made
by the target cannot lead to the agent's own files.
"""

from __future__ import annotations

import os
from typing import ClassVar

from pymirror.core.feature import AgentFeature, Target, handles
from pymirror_clock.messages import AskZone, Zone
from pymirror_clock.messages import Config as ClockConfig

_NO_LINKS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Agent(AgentFeature):
    name = "clock"
    Config: ClassVar[type] = ClockConfig

    async def start(self, target: Target) -> None:
        self.target = target

    @handles(AskZone)
    async def zone(self, _: AskZone) -> Zone:
        if name := self.target.environ().get(b"TZ", b""):
            return Zone(os.fsdecode(name), "TZ")
        etc = os.open("etc", _NO_LINKS | os.O_DIRECTORY, dir_fd=self.target.root)
        try:
            return zone_in(etc)
        finally:
            os.close(etc)


def zone_in(etc: int) -> Zone:
    """The zone that the folder `etc` is open on tells. OSError other than "no such file"."""
    try:
        with open(os.open("timezone", _NO_LINKS, dir_fd=etc), encoding="utf-8") as file:
            return Zone(file.read(256).strip(), "/etc/timezone")
    except FileNotFoundError:
        pass  # Debian's file; the others have only the link
    try:
        link = os.readlink("localtime", dir_fd=etc)
    except FileNotFoundError:
        return Zone("", "nothing in the target tells it")
    return Zone(link.partition("zoneinfo/")[2], "/etc/localtime")
