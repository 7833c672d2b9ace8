"""The layer half of `clock`: sets TZ before the program starts."""

from __future__ import annotations

from typing import ClassVar

from pymirror.core.feature import Launch, LayerFeature
from pymirror_clock.messages import AskZone, Zone
from pymirror_clock.messages import Config as ClockConfig


class Layer(LayerFeature):
    name = "clock"
    Config: ClassVar[type] = ClockConfig
    config: ClockConfig

    async def prepare(self, launch: Launch) -> None:
        zone = Zone(self.config.zone, "feature.clock.zone")
        if not zone.name and launch.has_target:
            zone = await self.peer.request(AskZone())
        if zone.name:
            launch.environ["TZ"] = zone.name
            launch.notes.append(f"time zone: {zone.name} ({zone.source})")
