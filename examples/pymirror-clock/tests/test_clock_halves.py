"""Both halves of `clock`, with a folder as the target and no network."""

from __future__ import annotations

from pathlib import Path

import pytest
from pymirror_clock.agent import Agent
from pymirror_clock.layer import Layer
from pymirror_clock.messages import AskZone, Config

from pymirror.core.feature import Launch
from pymirror.core.testing import FakeTarget, conformance, pair


@pytest.mark.parametrize(
    ("environ", "timezone", "link", "override", "wanted", "asked"),
    [
        ({"TZ": "Asia/Tokyo"}, "", "", "", "Asia/Tokyo", 1),
        ({}, "Europe/Rome\n", "", "", "Europe/Rome", 1),
        ({}, "", "/usr/share/zoneinfo/Europe/Oslo", "", "Europe/Oslo", 1),
        ({}, "", "", "", None, 1),
        ({"TZ": "Asia/Tokyo"}, "", "", "UTC", "UTC", 0),
    ],
)
async def test_zone(
    tmp_path: Path,
    environ: dict[str, str],
    timezone: str,
    link: str,
    override: str,
    wanted: str | None,
    asked: int,
) -> None:
    (tmp_path / "etc").mkdir()
    if timezone:
        (tmp_path / "etc/timezone").write_text(timezone)
    if link:
        (tmp_path / "etc/localtime").symlink_to(link)
    launch = Launch(["date"], {}, "/nowhere")
    with FakeTarget(tmp_path, environ) as target:
        async with pair(Layer, Agent, Config(zone=override), target) as both:
            before = both.link.round_trips
            await both.layer.prepare(launch)
            assert both.link.round_trips - before == asked
    assert launch.environ.get("TZ") == wanted


async def test_a_link_cannot_lead_out_of_the_target(tmp_path: Path) -> None:
    (tmp_path / "etc").symlink_to("/etc")
    with FakeTarget(tmp_path) as target:
        async with pair(Layer, Agent, Config(), target) as both:
            with pytest.raises(OSError):
                await both.layer.peer.request(AskZone())


async def test_it_keeps_the_rules_of_a_feature() -> None:
    await conformance(Layer, Agent, Config())
