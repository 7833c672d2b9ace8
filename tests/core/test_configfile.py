from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from pymirror.core import configfile
from pymirror.core.errors import ConfigError, UserError

BRANCH = {"PYMIRROR_BRANCH_NAME": "main"}


def load(folder: Path, text: str, name: str = "c.json", key: str | None = None, **environ: str) -> Any:
    path = folder / name
    path.write_text(text)
    return configfile.load(str(path), {**BRANCH, **environ}, key)


def fails(folder: Path, text: str, name: str = "c.json") -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, name)
    assert caught.value.place == str(folder / name)
    return caught.value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.json", '{"a": {"b": [1, true]}}'),
        ("c", '{"a": {"b": [1, true]}}'),
        ("c.JSON", '// why\n{"a": {"b": [1, true,],}, /* end */}'),
        ("c.json", '\ufeff{"a": {"b": [1, true]}}'),
        ("c.yaml", "a:\n  b: [1, true]\n"),
        ("c.yml", "a: {b: [1, true]}"),
        ("c.toml", "[a]\nb = [1, true]\n"),
        ("c.json", '{"$schema": "x", "a": {"b": [1, true]}}'),
    ],
)
def test_formats(tmp_path: Path, name: str, text: str) -> None:
    assert load(tmp_path, text, name) == ({"a": {"b": [1, True]}}, None)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("c.json", '{"a": 1,\n "b": }', "is not JSON: line 2, column "),
        ("c.json", "\n", "is empty"),
        ("c.json", '{"a": 1', "is not JSON: line 1"),
        ("c.json", '{"a": 1, "a": 2}', "the key 'a' is there twice"),
        ("c.json", '{"a": 1, /**/ "a": 2}', "the key 'a' is there twice"),
        ("c.yaml", "a: 1\na: 2\n", "is not YAML: line 2, column 1: the key 'a' is there twice"),
        ("c.json", "[" * 100_000, "is nested too deeply"),
        ("c.json", "[1]", "the file must hold a mapping at its top"),
        ("c.yaml", "a: [1\nb: 2", "is not YAML: line 2, column "),
        ("c.yaml", "!!python/object/apply:os.getpid []", "is not YAML: line 1, column 1"),
        ("c.yaml", "", "the file must hold a mapping at its top"),
        ("c.toml", "a = \n", "is not TOML: "),
        ("c.ini", "a", "the ending .ini is not known"),
        ("c.json", '{"a": "{{ nothing }}"}', "the template fails in line 1: 'nothing' is undefined"),
        ("c.json", '{\n"a": "{{ nothing }}"}', "the template fails in line 2: "),
        ("c.json", '{"a": "{% if %}"}', "the template fails in line 1: "),
        ("c.json", '{"a": "{{ 1 / 0 }}"}', "the template fails in line 1: division by zero"),
        ("c.json", '{"a": "{{ get_env(name=\'NO\') }}"}', "the template fails in line 1: "),
        ("c.json", '{"a": "{{ \'\'.__class__.__mro__ }}"}', "the template fails in line 1: "),
    ],
)
def test_malformed(tmp_path: Path, name: str, text: str, words: str) -> None:
    error = fails(tmp_path, text, name)
    assert error.message.startswith(f"{tmp_path / name}: {words}"), error.message


def test_unreadable(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.json: cannot be read: No such file"):
        configfile.load(str(tmp_path / "none.json"), {})
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(ConfigError, match="cannot be read: not UTF-8 text"):
        configfile.load(str(tmp_path / "bytes.json"), {})
    (tmp_path / "big.json").write_text(" " * (configfile.MAX_SIZE + 1))
    with pytest.raises(ConfigError, match="is larger than 4 MiB"):
        configfile.load(str(tmp_path / "big.json"), {})


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"a": 1}'))
    assert configfile.load("-", {}) == ({"a": 1}, None)


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("{{ git_branch }}", "main"),
        ("{{ get_env(name='USERNAME') }}", "ann"),
        ("{{ get_env(name='NO', default='x') }}", "x"),
        ("{{ nothing | default(value='y') }}", "y"),
        ("{{ nothing | default('z') }}", "z"),
        ("{{ git_branch | upper }}", "MAIN"),
        ("{% if git_branch == 'main' %}trunk{% endif %}", "trunk"),
    ],
)
def test_templates(tmp_path: Path, text: str, made: str) -> None:
    values, _ = load(tmp_path, f'{{"a": "{text}"}}', USERNAME="ann")
    assert values == {"a": made}


@pytest.mark.parametrize(
    ("text", "said", "key"),
    [
        ('{"key": "file", "a": "{{ key }}"}', None, "file"),
        ('{"key": "x-{{ git_branch }}", "a": "{{ key }}"}', None, "x-main"),
        ('{"key": "file", "a": "{{ key }}"}', "flag", "flag"),
    ],
)
def test_the_key_in_templates(tmp_path: Path, text: str, said: str | None, key: str) -> None:
    values, used = load(tmp_path, text, key=said)
    assert (values["a"], used) == (key, key)


def test_a_random_key_is_the_same_everywhere(tmp_path: Path) -> None:
    values, used = load(tmp_path, '{"a": "{{ key }}", "b": "{{ key }}"}')
    assert values == {"a": used, "b": used}
    assert len(used) == 5
    int(used, 16)


def test_git_branch_by_variable_then_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert configfile.git_branch({"MIRRORD_BRANCH_NAME": "b"}) == "b"
    assert configfile.git_branch({"PYMIRROR_BRANCH_NAME": "a", "MIRRORD_BRANCH_NAME": "b"}) == "a"
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert configfile.git_branch({}) is None
    monkeypatch.setenv("PATH", "")
    assert configfile.git_branch({}) is None


def test_discovery(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found no configuration file"):
        configfile.discover(str(tmp_path))
    for name in reversed(configfile.DISCOVERED):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
        assert configfile.discover(str(tmp_path)) == str(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("n", "n"),
        ("True", True),
        ("false", False),
        ("12:30", "12:30"),
        ("2026-01-31", "2026-01-31"),
        ("0o17", 15),
        ("0755", 755),
        ("0x1f", 31),
        ("-3", -3),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("~", None),
        ("", None),
        ("1.2.3", "1.2.3"),
    ],
)
def test_plain_words_of_yaml_are_those_of_1_2(tmp_path: Path, text: str, value: Any) -> None:
    found = load(tmp_path, f"a: {text}\n", "c.yaml")[0]["a"]
    assert found == value and type(found) is type(value)


def test_merge_keys_of_yaml(tmp_path: Path) -> None:
    assert load(tmp_path, "x: &x {a: 1}\ny: {<<: *x, b: 2}\n", "c.yaml")[0]["y"] == {"a": 1, "b": 2}


def test_what_is_not_a_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, words in (
        (tmp_path / "fifo", "not a regular file"),
        (Path("/dev/zero"), "not a regular file"),
        (tmp_path, "is a directory"),
    ):
        with pytest.raises(ConfigError, match=f"{path}: cannot be read: {words}"):
            configfile.read(str(path))
