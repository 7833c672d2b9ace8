from __future__ import annotations

from typing import Any, Literal

import attrs
import pytest
from attrs import frozen

from pymirror.core.errors import ConfigError
from pymirror.core.structure import (
    build,
    convert,
    every,
    key,
    nearest,
    not_negative,
    one_of,
    parse,
    positive,
    regex,
    structure,
)


@frozen
class Inner:
    size: int = key(1, validator=positive)

    @classmethod
    def from_short(cls, value: bool | int) -> Inner:
        return cls(int(value))


@frozen
class Outer:
    name: str = key()
    mode: str = key("a", validator=one_of("a", "b"))
    patterns: list[str] = key(factory=list, validator=regex)
    inner: Inner = key(factory=Inner)
    wait: float | None = key(None, validator=not_negative)


@pytest.mark.parametrize(
    ("kind", "value", "made"),
    [
        (bool, True, True),
        (int, 3, 3),
        (float, 3, 3.0),
        (str, "x", "x"),
        (str | None, None, None),
        (int | str, 3, 3),
        (int | str, "3", "3"),
        (str | dict[str, str], {"a": "b"}, {"a": "b"}),
        (list[str], "one", ["one"]),
        (list[str], ["a", "b"], ["a", "b"]),
        (tuple[int, ...], [1, 2], (1, 2)),
        (list[dict[str, str]], {"name": "x"}, [{"name": "x"}]),
        (dict[str, int], {"a": 1}, {"a": 1}),
        (Literal["x", "y"], "x", "x"),
        (Any, object, object),
        (Inner, {"size": 4}, Inner(4)),
        (Inner, 5, Inner(5)),
    ],
)
def test_convert(kind: Any, value: Any, made: Any) -> None:
    assert convert(kind, value, "k") == made


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (bool, "true", "k: expected true or false, got the text 'true'"),
        (bool, 1, "k: expected true or false, got the number 1"),
        (int, True, "k: expected a whole number, got True"),
        (int, 1.5, "k: expected a whole number, got the number 1.5"),
        (float, float("inf"), "k: expected a finite number, got inf"),
        (str, 5, "k: expected text, got the number 5"),
        (str, ["a"], "k: expected text, got a list ['a']"),
        (list[str], ["a", 2], "k[1]: expected text, got the number 2"),
        (list[str], {"a": 1}, "k: expected text, got a mapping {'a': 1}"),
        (dict[str, str], "x", "k: expected a mapping, got the text 'x'"),
        (dict[str, str], {"a": 1}, "k.a: expected text, got the number 1"),
        (str | None, 1, "k: expected text, got the number 1"),
        (int | str, [], "k: expected a whole number or text, got a list []"),
        (Literal["x", "y"], "z", "k: expected one of x, y, got 'z'"),
        (Inner, "x", "k: expected true or false, a whole number or a mapping, got the text 'x'"),
        (Inner, -1, "k.size: must be above 0, got -1"),
        (Inner, {"sise": 1}, "k.sise: unknown key"),
    ],
)
def test_what_does_not_fit_is_named(kind: Any, value: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        convert(kind, value, "k")
    assert caught.value.message == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"name": "x", "mode": "c"}, "f.mode: 'c' is not one of a, b"),
        ({"name": "x", "patterns": "(("}, "f.patterns: '((' is not a regular expression"),
        ({"name": "x", "patterns": ["ok", "*"]}, "f.patterns: '*' is not a regular expression"),
        ({"name": "x", "wait": -1}, "f.wait: must not be negative, got -1"),
        ({"name": "x", "inner": {"size": 0}}, "f.inner.size: must be above 0, got 0"),
        ({}, "f.name: this key is required"),
        ({"nam": "x"}, "f.nam: unknown key"),
    ],
)
def test_a_class_from_a_mapping(value: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        structure(Outer, value, "f")
    assert caught.value.message.startswith(words)


def test_null_means_not_there() -> None:
    assert structure(Outer, {"name": "x", "mode": None}, "f") == Outer("x")


def test_validators_of_attrs_itself_are_worded() -> None:
    @frozen
    class Plain:
        size: int = attrs.field(validator=attrs.validators.instance_of(int))

    with pytest.raises(ConfigError, match=r"^f: 'size' must be"):
        build(Plain, {"size": "x"}, "f")


@pytest.mark.parametrize(
    ("kind", "text", "made"),
    [
        (str, "a;b", "a;b"),
        (list[str], "a;b;", ["a", "b"]),
        (list[int], "1;2", [1, 2]),
        (bool, "true", True),
        (bool | None, "false", False),
        (int, "7", 7),
        (float, "1.5", 1.5),
        (list[str] | None, "a", ["a"]),
    ],
)
def test_parse(kind: Any, text: str, made: Any) -> None:
    assert parse(kind, text, "V") == made


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        (bool, "True", "V: expected exactly true or false, got 'True'"),
        (bool, "1", "V: expected exactly true or false, got '1'"),
        (int, "x", "V: expected a whole number, got 'x'"),
        (float, "nan", "V: expected a finite number, got nan"),
        (list[int], "1;x", "V: expected a whole number, got 'x'"),
    ],
)
def test_parse_refuses(kind: Any, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(kind, text, "V")
    assert caught.value.message == words


def test_nearest() -> None:
    assert nearest("inclde", ["include", "exclude"]) == "did you mean 'include'?"
    assert nearest("zzz", ["b", "a"]) == "known here: a, b"
    assert nearest("zzz", []) == ""


@frozen
class Bounds:
    least: int = key(1, validator=positive)
    most: int = key(2, validator=[positive, not_negative])
    step: int = key(1, validator=positive)

    def __attrs_post_init__(self) -> None:
        if self.least > self.most:
            raise ValueError(f"least: must be at most {self.most}")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"least": -3, "most": -2}, ["f.least: must be above 0, got -3", "f.most: must be above 0, got -2"]),
        ({"least": 1, "most": 1, "step": 0}, ["f.step: must be above 0, got 0"]),
        ({"least": 9, "most": 1}, ["f.least: must be at most 1"]),
        (  # the class itself refuses as well, of a field that is told
            {"least": 0, "most": -2},
            ["f.least: must be above 0, got 0", "f.most: must be above 0, got -2"],
        ),
        (
            {"least": 9, "most": 1, "step": 0},
            ["f.step: must be above 0, got 0", "f.least: must be at most 1"],
        ),
    ],
)
def test_all_wrong_values_of_a_class_are_told(values: dict[str, int], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        build(Bounds, values, "f")
    assert [each.message for each in caught.value.all()] == words


def short(text: str) -> None:
    if len(text) > 2:
        raise ValueError(f"{text!r} is too long", "two letters are enough")
    if not text:
        raise ValueError("is empty")


@frozen
class Listed:
    words: list[str] = key(factory=list, validator=every(short))
    count: int = key(1, validator=positive)


def test_every_bad_item_of_a_list_is_told_with_its_number_and_what_else_is_wrong() -> None:
    with pytest.raises(ConfigError) as caught:
        structure(Listed, {"words": ["abc", "ab", ""], "count": 0}, "f")
    assert [(each.message, each.hint) for each in caught.value.all()] == [
        ("f.words: entry 1, 'abc' is too long", "two letters are enough"),
        ("f.words: entry 3, is empty", ""),
        ("f.count: must be above 0, got 0", ""),
    ]


def test_what_has_the_wrong_type_hides_nothing_else() -> None:
    with pytest.raises(ConfigError) as caught:
        structure(Listed, {"words": [1, "ab", 2], "count": 0, "cuont": 1}, "f")
    assert [each.message for each in caught.value.all()] == [
        "f.words[0]: expected text, got the number 1",
        "f.words[2]: expected text, got the number 2",
        "f.cuont: unknown key",
        "f.count: must be above 0, got 0",
    ]
