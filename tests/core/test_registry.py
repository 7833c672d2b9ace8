"""Plug-ins are found in order, and a broken one is refused by name before it can do harm."""

from __future__ import annotations

import re
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from stevedore.extension import ExtensionManager

from pymirror.core import registry
from pymirror.core.call import Call
from pymirror.core.errors import PluginError
from pymirror.core.feature import AgentFeature, LayerFeature, handles, intercepts
from pymirror.core.message import message


@message("sound")
class Ask:
    """A message of the feature under test."""


@message("alien")
class Foreign:
    """A message of another feature."""


class Sound(LayerFeature):
    name = "sound"

    @handles(Ask)
    async def ask(self, _: Ask) -> None: ...

    @intercepts("open", pure=True)
    def opened(self, _: Call) -> None: ...


class Misnamed(Sound):
    name = "noise"


class Unversioned(Sound):
    version = "1"  # type: ignore[assignment]


class Untyped(Sound):
    Config = dict


class Twice(Sound):
    @handles(Ask)
    async def again(self, _: Ask) -> None: ...


class Stranger(LayerFeature):
    name = "sound"

    @handles(Foreign)
    async def ask(self, _: Foreign) -> None: ...


class NoMessage(LayerFeature):
    name = "sound"

    @handles(int)
    async def ask(self, _: int) -> None: ...


class BadCall(LayerFeature):
    name = "sound"

    @intercepts("teleport")
    def teleport(self, _: Call) -> None: ...


def test_a_sound_half_has_no_faults() -> None:
    assert registry.faults("sound", Sound, LayerFeature) == []


@pytest.mark.parametrize(
    ("half", "words"),
    [
        (Misnamed, "'noise'.*entry point 'sound'"),
        (Unversioned, "not an integer"),
        (Untyped, "not an attrs class"),
        (Twice, "ask and again both handle sound/Ask"),
        (Stranger, "alien/Foreign, a message of another feature"),
        (NoMessage, "not a message"),
        (BadCall, "'teleport'.*there are: access, bind, change, connect, hostname, listen, open"),
        (AgentFeature, "not a subclass of LayerFeature"),
        (7, "7 is not a subclass"),
    ],
)
def test_a_fault_is_named(half: Any, words: str) -> None:
    wrong = registry.faults("sound", half, LayerFeature)
    assert any(re.search(words, fault) for fault in wrong), wrong


@frozen
class Origin:
    """As much of a distribution as the registry looks at."""

    name: str
    version: str = "1"


def point(name: str, distribution: str) -> EntryPoint:
    made = EntryPoint(name, "nowhere:Nothing", registry.LAYER)
    vars(made)["dist"] = Origin(distribution)
    return made


def test_own_features_come_first_and_the_others_by_name() -> None:
    points = [point("z", "b"), point("env", "pymirror"), point("a", "c"), point("cat", "pymirror")]
    assert registry.in_order(points) == ["env", "cat", "a", "z"]


def test_a_duplicate_names_both_distributions_also_when_others_lie_between() -> None:
    points = [point("env", "one"), point("fs", "one"), point("env", "two")]
    with pytest.raises(PluginError, match=r"two: brings env in pymirror.layer, and so does one"):
        registry.unique(registry.LAYER, points)


def install(folder: Path, body: str) -> None:
    """A distribution `broken-thing` with the layer half `broken`."""
    (folder / "broken_thing.py").write_text(body)
    metadata = folder / "broken_thing-3.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-thing\nVersion: 3\n")
    (metadata / "entry_points.txt").write_text("[pymirror.layer]\nbroken = broken_thing:Layer\n")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("import missing_module_of_broken", "ModuleNotFoundError.*missing_module_of_broken"),
        ("assert False, 'not here'", "AssertionError: not here"),
        ("Layer = 3", "not a subclass of LayerFeature"),
    ],
)
def test_a_broken_plugin_stops_with_its_distribution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, words: str
) -> None:
    install(tmp_path, body)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_thing", raising=False)
    # stevedore keeps what a group held for the life of the process: an earlier test's scan has no such half
    monkeypatch.setattr(ExtensionManager, "ENTRY_POINT_CACHE", {})
    with pytest.raises(PluginError, match=words) as caught:
        registry._load_half(registry.LAYER, registry.scan(registry.LAYER)["broken"], LayerFeature)
    assert caught.value.distribution == "broken-thing"
    assert "pip uninstall broken-thing" in caught.value.hint


def test_what_is_not_installed_is_named_with_the_next_step() -> None:
    with pytest.raises(PluginError, match="feature clokk: no agent half") as caught:
        registry.agent_halves(["clokk"])
    assert "agent image" in caught.value.hint
    with pytest.raises(PluginError, match="no runtime named moon") as caught:
        registry.runtime("moon")
    assert "kubernetes" in caught.value.hint
    with pytest.raises(PluginError, match="no engine named steam"):
        registry.engine("steam")


def test_runtimes_are_listed_without_importing_them() -> None:
    assert {"kubernetes", "process"} <= set(registry.runtime_names())


def half(name: str, *before: str) -> registry.Half:
    return registry.Half(name, type(name, (LayerFeature,), {"name": name, "before": before}), "x", "1")


@pytest.mark.parametrize(
    ("given", "order"),
    [
        ([("a",), ("b",), ("c",)], "abc"),
        ([("a",), ("b",), ("c", "b")], "acb"),
        ([("a",), ("b",), ("c", "b", "a")], "cab"),
        ([("a", "c"), ("b",), ("c",)], "abc"),
        ([("a",), ("b", "not-here")], "ab"),
        ([("a",), ("b", "a"), ("c", "a")], "bca"),
    ],
)
def test_a_half_stands_before_those_it_names(given: list[tuple[str, ...]], order: str) -> None:
    assert "".join(registry.precede({name: half(name, *before) for name, *before in given})) == order
