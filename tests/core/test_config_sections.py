"""Keys of a feature that stand in other sections, and keys within a key that have variables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from pymirror.core.config import Vocabulary, key, positive, resolve, variables
from pymirror.core.errors import ConfigError
from pymirror.core.feature import NoConfig


@frozen
class Glass:
    thick: int = key(1, validator=positive)
    tint: str = key("none", env="GLASS_TINT")


@frozen
class Window:
    open: bool = key(False)
    glass: Glass | None = key(None)
    draught: float = key(2.0, at="house.draught", env="DRAUGHT", validator=positive)

    @classmethod
    def from_short(cls, value: bool) -> Window:
        return cls(open=value)


HOUSE = Vocabulary({"window": Window}, {"none": NoConfig}, default_runtime="none")


@pytest.fixture
def window(tmp_path: Path) -> Any:
    def settled(values: Any, **environ: str) -> Window:
        (tmp_path / "c.json").write_text(json.dumps(values))
        made: Window = resolve(str(tmp_path / "c.json"), {}, environ, HOUSE).features["window"]
        return made

    return settled


def test_a_feature_has_keys_of_other_sections(window: Any) -> None:
    for short in (True, {"open": True}):
        file = {"feature": {"window": short}, "house": {"draught": 3}}
        assert window(file) == Window(open=True, draught=3.0)
        assert window(file, PYMIRROR_DRAUGHT="4.5").draught == 4.5
    assert window({"house": {"draught": 3}}) == Window(draught=3.0)
    for file, words in (
        ({"house": {"draught": 0}}, "house.draught: must be above 0"),
        ({"house": {"draugth": 1}}, "house.draugth: unknown key"),
        ({"feature": {"window": {"draught": 1}}}, "feature.window.draught: unknown key"),
    ):
        with pytest.raises(ConfigError, match=words):
            window(file)


def test_a_variable_sets_a_key_within_a_key(window: Any) -> None:
    tinted = {"PYMIRROR_GLASS_TINT": "blue"}
    file = {"feature": {"window": {"glass": {"thick": 3}}}}
    assert window(file, **tinted).glass == Glass(3, "blue")
    for short in (True, {"open": True}, {"open": True, "glass": False}):
        assert window({"feature": {"window": short}}, **tinted) == Window(open=True, glass=Glass(1, "blue"))
    for glass, words in (
        ({"thick": 0}, r"feature\.window\.glass\.thick: must be above 0"),
        ({"thik": 1}, r"feature\.window\.glass\.thik: unknown key"),
        ("x", r"feature\.window\.glass: expected true or false or a mapping"),
    ):
        with pytest.raises(ConfigError, match=words):
            window({"feature": {"window": {"glass": glass}}}, **tinted)
    assert "GLASS_TINT" in variables(HOUSE)


@frozen
class Door:
    """Shares a key, and a section of its own, with Wall."""

    wide: bool = key(False)
    light: bool = key(False, at="feature.glow.light")
    warm: bool = key(False, at="feature.glow.warm")


@frozen
class Wall:
    light: bool = key(False, at="feature.glow.light")

    @classmethod
    def from_short(cls, value: bool) -> Wall | None:
        return cls() if value else None


@pytest.fixture
def glow(tmp_path: Path) -> Any:
    def settled(feature: Any) -> Any:
        known = Vocabulary({"door": Door, "wall": Wall}, {"none": NoConfig}, default_runtime="none")
        (tmp_path / "c.json").write_text(json.dumps({"feature": feature}))
        return resolve(str(tmp_path / "c.json"), {}, {}, known)

    return settled


@pytest.mark.parametrize(
    ("feature", "door", "wall"),
    [
        ({"glow": {"light": True}}, Door(light=True), Wall(light=True)),
        ({"glow": {"warm": True}, "door": True}, Door(warm=True), Wall()),
        ({"glow": True}, Door(light=True, warm=True), Wall(light=True)),
        ({"glow": True, "door": {"wide": True}}, Door(True, True, True), Wall(light=True)),
        ({"glow": False}, Door(), Wall()),
        ({"glow": None}, Door(), Wall()),
        ({"glow": {}}, Door(), Wall()),
    ],
)
def test_a_key_of_several_features_and_a_section_of_such_keys(
    glow: Any, feature: Any, door: Door, wall: Wall
) -> None:
    settings = glow(feature)
    assert settings.features == {"door": door, "wall": wall}
    assert settings.warnings == ()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"light": 1}, r"feature\.glow\.light: expected true or false, got the number 1"),
        ({"lihgt": True}, r"feature\.glow\.lihgt: unknown key"),
        ("on", r"feature\.glow: expected true or false or a mapping, got the text 'on'"),
    ],
)
def test_what_is_wrong_in_such_a_section_is_told_once(glow: Any, value: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        glow({"glow": value})
    assert len(caught.value.all()) == 1


def test_a_key_has_no_effect_on_a_feature_that_is_off(glow: Any) -> None:
    settings = glow({"glow": True, "wall": False})
    assert settings.features == {"door": Door(light=True, warm=True)}
    assert settings.warnings == ("feature.glow.light has no effect on feature.wall, which is off",)
    assert glow({"glow": False, "wall": False}).warnings == ()
