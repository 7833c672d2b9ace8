from __future__ import annotations

from typing import Any

import pytest
from attrs import frozen

from pymirror.core.errors import ConfigError
from pymirror.core.sieve import Vocabulary, off, sift, unknown
from pymirror.core.structure import key


@frozen
class Empty:
    pass


@frozen
class Served:
    mode: str = key("off")
    flush: bool = key(False, at="agent.flush")


KNOWN = Vocabulary(
    features={"env": Empty},
    runtimes={},
    absent={
        "feature.net.in.mode": "later",
        "feature.net.in.ports": "later",
        "feature.net.six": "later",
        "agent.flush": "later",
        "whole": "later",
    },
    paid={"feature.copy": "a copy"},
    ignored={"telemetry": "nothing is sent", "proxy.wait": "no proxy"},
    neutral={"feature.net.six": True},
)


@pytest.mark.parametrize(
    "values",
    [
        {"feature": {"net": False}},
        {"feature": {"net": None}},
        {"feature": {"net": {"in": "off"}}},
        {"feature": {"net": {"in": {"mode": "off", "ports": [80]}}}},
        {"feature": {"net": {"enabled": False, "in": {"ports": [80]}}}},
        {"feature": {"net": {"in": {"ports": []}, "six": True}}},
        {"feature": {"net": {"six": None}}},
        {"feature": {"copy": {"enabled": False, "scale": True}}},
        {"feature": {"copy": False}},
        {"agent": {"flush": False}},
        {"whole": {"a": False, "b": {"c": 0}}},
    ],
)
def test_what_only_turns_off_is_accepted(values: dict[str, Any]) -> None:
    assert sift(values, KNOWN) == []


@pytest.mark.parametrize(
    ("values", "place", "words"),
    [
        ({"feature": {"net": True}}, "feature.net", "not in this version"),
        ({"feature": {"net": {"in": "steal"}}}, "feature.net.in", "not in this version"),
        ({"feature": {"net": {"in": {"mode": "on"}}}}, "feature.net.in.mode", "not in this version"),
        ({"feature": {"net": {"in": {"ports": [1]}}}}, "feature.net.in.ports", "not in this version"),
        ({"feature": {"net": {"six": False}}}, "feature.net.six", "not in this version"),
        ({"feature": {"copy": {}, "env": 1}, "whole": 1}, "whole", "not in this version"),
        ({"feature": {"copy": True}}, "feature.copy", "paid operator (a copy)"),
        ({"agent": {"flush": True}}, "agent.flush", "not in this version"),
    ],
)
def test_what_would_be_needed_is_refused_by_name(values: dict[str, Any], place: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        sift(values, KNOWN)
    assert caught.value.place == place
    assert words in caught.value.message
    assert caught.value.hint


def test_what_has_no_effect_is_said_and_the_rest_is_left() -> None:
    values = {"telemetry": True, "proxy": {"wait": 3, "x": 1}, "agent": {"ttl": 1, "flush": False}}
    assert sift(values, KNOWN) == [
        "telemetry has no effect: nothing is sent",
        "proxy.wait has no effect: no proxy",
    ]
    assert values == {"proxy": {"x": 1}, "agent": {"ttl": 1}}


def test_an_installed_feature_beats_the_tables() -> None:
    known = Vocabulary(features={"net.in": Served}, runtimes={}, absent=KNOWN.absent)
    values = {"feature": {"net": {"in": {"mode": "on"}}}, "agent": {"flush": True}}
    assert sift(values, known) == []
    assert values == {"feature": {"net": {"in": {"mode": "on"}}}, "agent": {"flush": True}}
    for short in (True, "on"):
        assert sift({"feature": {"net": {"in": short}}}, known) == []
    with pytest.raises(ConfigError, match=r"feature\.net\.six"):
        sift({"feature": {"net": {"six": True, "in": True}}}, known)


def test_the_tables_beat_a_feature_that_does_not_have_the_key() -> None:
    known = Vocabulary(features={"net.in": Served}, runtimes={}, absent=KNOWN.absent)
    with pytest.raises(ConfigError, match=r"feature\.net\.in\.ports: not in this version"):
        sift({"feature": {"net": {"in": {"mode": "on", "ports": [1]}}}}, known)
    assert sift({"feature": {"net": {"in": {"mode": "off", "ports": [1]}}}}, known) == []


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        (False, True),
        (None, True),
        ("off", True),
        (0, True),
        ([], True),
        ({}, True),
        ({"a": False}, True),
        ({"enabled": False, "a": 1}, True),
        (True, False),
        ("", False),
        ("local", False),
        (1, False),
        ([0], False),
        ({"a": {"b": 1}}, False),
    ],
)
def test_off(value: Any, answer: bool) -> None:
    assert off(value) is answer


@pytest.mark.parametrize("values", [{}, {"a": {}}, {"a": None}, {"a": {"b": {}}}])
def test_empty_sections_are_nothing(values: dict[str, Any]) -> None:
    unknown(values, {"a.b.c", "d"})


@pytest.mark.parametrize(
    ("values", "place", "words", "hint"),
    [
        ({"xyz": 1}, "xyz", "unknown key", "known here: a, feature, target"),
        ({"targt": {}}, "targt", "unknown key", "did you mean 'target'?"),
        ({"a": 3}, "a", "expected a mapping, got the number 3", ""),
        (
            {"feature": {"net": 3}},
            "feature.net",
            "expected true or false or a mapping, got the number 3",
            "known here: dns",
        ),
        ({"a": {"long_nam": 1}}, "a.long_nam", "unknown key", "did you mean 'long_name'?"),
        ({"a": {"sub": {"deepp": 1}}}, "a.sub.deepp", "unknown key", "did you mean 'deep'?"),
        (
            {"feature": {"fz": {}}},
            "feature.fz",
            "unknown key",
            "known here: fs, net; a third-party feature must be",
        ),
        ({3: 4}, "3", "unknown key", "known here: "),
    ],
)
def test_unknown(values: dict[str, Any], place: str, words: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        unknown(values, {"a.long_name", "a.sub.deep", "target.path", "feature.fs", "feature.net.dns"})
    assert caught.value.message == f"{place}: {words}"
    assert caught.value.hint.startswith(hint)
