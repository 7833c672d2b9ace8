"""Selection and merging of variables, as tables."""

from __future__ import annotations

import pytest

from pymirror.core.errors import ConfigError
from pymirror.features.env.select import DEFAULT_EXCLUDES, choose, first_match, mapped, merge, unpack


@pytest.mark.parametrize(
    ("name", "include", "exclude", "taken", "reason"),
    [
        ("DB_URL", [], [], True, "env default: all variables"),
        ("PATH", [], [], False, "env default exclude PATH"),
        ("DB_URL", ["DB_*"], [], True, "env.include DB_*"),
        ("API_URL", ["DB_*"], [], False, "env.include: no pattern matches"),
        ("PATH", ["PATH"], [], True, "env.include PATH"),
        ("JAVA_HOME", ["JAVA_*"], [], True, "env.include JAVA_*"),
        ("PATH", ["*"], [], False, "env default exclude PATH"),
        ("PATH", ["*", "PATH"], [], True, "env.include PATH"),
        ("DB_URL", ["*"], [], True, "env.include *"),
        ("DB_URL", [], ["DB_???"], False, "env.exclude DB_???"),
        ("DB_URLS", [], ["DB_???"], True, "env default: all variables"),
        ("DB_URL", [], ["*"], False, "env.exclude *"),
        ("db_url", [], ["DB_*"], True, "env default: all variables"),
        ("A[1]", ["A[1]"], [], True, "env.include A[1]"),
        ("A1", ["A[1]"], [], False, "env.include: no pattern matches"),
    ],
)
def test_choose(name: str, include: list[str], exclude: list[str], taken: bool, reason: str) -> None:
    choice = choose(name, include, exclude)
    assert (choice.taken, choice.reason) == (taken, reason)


def test_only_the_default_list_counts_as_default() -> None:
    assert choose("PATH", [], []).by_default
    assert not choose("PATH", [], ["PATH"]).by_default


def test_default_list_is_complete() -> None:
    assert len(DEFAULT_EXCLUDES) == 39 + 2  # mirrord: 4.2, and two of ours
    assert {"HOME", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "DOTNET_EnableDiagnostics"} <= DEFAULT_EXCLUDES


def test_wildcards_are_whole_names() -> None:
    assert first_match("XDB", ["DB*", "*DB"]) == "*DB"
    assert first_match("A\nB", ["A*"]) == "A*"


def test_wildcards_take_no_time() -> None:
    """As `.*` for each star, this one would run for years."""
    assert first_match("A" * 60 + "B", ["*A" * 30 + "C", "*A" * 30 + "?"]) == "*A" * 30 + "?"


def test_a_mapping_that_takes_for_ever_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"feature\.env\.mapping: .*\(A\|AA\)\+\$.* \(in A+B\)"):
        mapped("A" * 60 + "B", {"(A|AA)+$": "x"})


def _merge(target: dict[str, str], **rules: object) -> dict[str, str]:
    return _merged(target, **rules).environ


def _merged(target: dict[str, str], **rules: object):  # type: ignore[no-untyped-def]
    given = {"env_file": {}, "mapping": {}, "override": {}, "unset": [], **rules}
    return merge({"HERE": "h", "BOTH": "h", "AWS_PROFILE": "mine"}, target, **given)  # type: ignore[arg-type]


HERE = {"HERE": "h", "BOTH": "h", "AWS_PROFILE": "mine"}


@pytest.mark.parametrize(
    ("rules", "changed"),
    [
        ({}, {}),
        ({"env_file": {"BOTH": "f"}}, {"BOTH": "f"}),
        ({"env_file": {"NEW": "f"}, "mapping": {"NEW": "m"}}, {"NEW": "m"}),
        ({"mapping": {"OT": "$1"}}, {"BOTH": "$1"}),
        ({"mapping": {"^B": "first", "BOTH": "second"}}, {"BOTH": "first"}),
        ({"mapping": {"BOTH": "first", "^B": "second"}}, {"BOTH": "first"}),
        ({"mapping": {"HERE": "m"}}, {}),
        ({"mapping": {"BOTH": "m"}, "override": {"BOTH": "o"}}, {"BOTH": "o"}),
        ({"override": {"HERE": "o"}}, {"HERE": "o"}),
        ({"unset": ["aws_profile"]}, {"AWS_PROFILE": None}),
        ({"unset": ["both"], "override": {"BOTH": "o"}}, {"BOTH": None}),
    ],
)
def test_merge_order(rules: dict[str, object], changed: dict[str, str | None]) -> None:
    expected = {**HERE, "BOTH": "t", "ONLY": "t", **changed}
    assert _merge({"BOTH": "t", "ONLY": "t"}, **rules) == {
        name: value for name, value in expected.items() if value is not None
    }


def test_sources_tell_the_rule() -> None:
    merged = _merged({"A": "t", "B": "t"}, mapping={"A": "m"}, override={"C": "o"}, unset=["here"])
    assert merged.sources == {
        "A": "env.mapping A",
        "B": "the target",
        "C": "env.override",
        "HERE": "env.unset",
    }


def test_hidden_names_are_the_targets_or_nobodys() -> None:
    hidden = frozenset({"AWS_PROFILE", "NOWHERE"})
    merged = _merged({"A": "t"}, hidden=hidden)
    assert merged.environ == {"HERE": "h", "BOTH": "h", "A": "t"}
    assert merged.sources == {"A": "the target", "AWS_PROFILE": "env.magic aws"}
    assert _merge({"AWS_PROFILE": "pod"}, hidden=hidden)["AWS_PROFILE"] == "pod"
    assert _merge({}, hidden=hidden, override={"AWS_PROFILE": "set"})["AWS_PROFILE"] == "set"
    assert _merge({}, hidden=hidden, env_file={"AWS_PROFILE": "file"})["AWS_PROFILE"] == "file"


def test_unpack_keeps_any_bytes() -> None:
    values = unpack(b"A=1\0B=x=y\nz\0C=\0\xffN=\xfe\0")
    assert values == {"A": "1", "B": "x=y\nz", "C": "", "\udcffN": "\udcfe"}
    assert unpack(b"") == {}
