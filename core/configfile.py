"""The configuration file's text to plain values: discovery, templating, four formats.

JSON is read strictly first; comments and trailing commas are tried only when that fails, so
that an ordinary file costs no import. Templating runs only where the text has a template in it.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import stat
import subprocess
import sys
import traceback
from collections.abc import Iterable, Mapping
from typing import Any

from pymirror.core.errors import ConfigError, UserError

DISCOVERED = (
    ".pymirror/pymirror.json",
    ".pymirror/pymirror.toml",
    ".pymirror/pymirror.yaml",
    ".pymirror/pymirror.yml",
    ".mirrord/mirrord.json",
)
"""Where `-f` without a path looks, in this order."""
MAX_SIZE = 4 << 20


def discover(directory: str = ".") -> str:
    """The file that a bare `-f` means; UserError naming all places when there is none."""
    for name in DISCOVERED:
        path = os.path.join(directory, name)
        if os.path.isfile(path):
            return os.path.normpath(path)
    raise UserError(
        "-f without a path found no configuration file",
        f"it looks for {', '.join(DISCOVERED)} in this directory",
    )


def read(path: str) -> str:
    """The text of `path`, `-` for standard input. ConfigError when it cannot be read."""
    try:
        if path == "-":
            text = sys.stdin.read(MAX_SIZE + 1)
        else:
            with open(path, encoding="utf-8-sig", opener=regular) as file:
                text = file.read(MAX_SIZE + 1)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(path, f"cannot be read: {reason}", "check the path given with -f") from error
    if len(text) > MAX_SIZE:
        raise ConfigError(path, f"is larger than {MAX_SIZE >> 20} MiB", "is this the right file?")
    return text


def regular(path: str, flags: int) -> int:
    """An opener for files the user names: OSError for a FIFO, which may hold us for ever, or a device."""
    found = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(found).st_mode
    if not stat.S_ISREG(mode):
        os.close(found)
        code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        words = "is a directory" if stat.S_ISDIR(mode) else "not a regular file"
        raise OSError(code, words)
    return found


def load(path: str, environ: Mapping[str, str], key: str | None = None) -> tuple[dict[str, Any], str | None]:
    """(the file's values, the session key its template was filled in with, if it was one).

    key: from flag or environment, beats the file's own `key`; without any it is random.
    """
    text = read(path)
    if "{{" in text or "{%" in text:
        variables = {"git_branch": git_branch(environ)}
        if key is None:
            key = _key_in(text, path, variables) or random_key()
        text = render(text, path, {**variables, "key": key}, environ)
    values = parse_text(text, path)
    if not isinstance(values, dict):
        raise ConfigError(path, "the file must hold a mapping at its top")
    values.pop("$schema", None)
    return values, key


def parse_text(text: str, path: str) -> Any:
    """By the file's ending: .json or none, .yaml, .yml, .toml. ConfigError with line and column."""
    ending = os.path.splitext(path)[1].lower() if path != "-" else ""
    if ending in ("", ".json"):
        return _json(text, path)
    if ending in (".yaml", ".yml"):
        return _yaml(text, path)
    if ending == ".toml":
        return _toml(text, path)
    raise ConfigError(path, f"the ending {ending} is not known", "use .json, .yaml, .yml or .toml")


def random_key() -> str:
    """Five hexadecimal digits (mirrord: 2.1 key)."""
    return secrets.token_hex(3)[:5]


def _json(text: str, path: str) -> Any:
    if not text.strip():
        raise ConfigError(path, "is empty", "an empty configuration is {}")
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_not_json)
    except _Twice as error:
        raise ConfigError(path, str(error), "keep one of them") from error
    except RecursionError as error:
        raise ConfigError(path, "is nested too deeply") from error
    except ValueError:
        return _json5(text, path)


def _json5(text: str, path: str) -> Any:
    import json5

    try:
        return json5.loads(text, object_pairs_hook=_once)
    except _Twice as error:
        raise ConfigError(path, str(error), "keep one of them") from error
    except RecursionError as error:
        raise ConfigError(path, "is nested too deeply") from error
    except ValueError as error:
        found = re.match(r"<string>:(\d+) (.*) at column (\d+)$", str(error), re.DOTALL)
        words = f"line {found[1]}, column {found[3]}: {found[2]}" if found else str(error)
        raise ConfigError(
            path, f"is not JSON: {words}", "comments and trailing commas are allowed"
        ) from error


class _Twice(Exception):
    """A key is there twice; every reader would keep another one."""


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    listed = list(pairs)
    made = dict(listed)
    if len(made) < len(listed):
        names = [name for name, _ in listed]
        raise _Twice(
            f"the key {next(n for n in names if names.count(n) > 1)!r} is there twice in one mapping"
        )
    return made


def _not_json(text: str) -> Any:
    raise ValueError(text)  # NaN and Infinity


def _yaml(text: str, path: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """Refuses a key that is there twice, as the JSON reader does; `on`, `yes` and 12:30 are text."""

    def mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
        seen: set[Any] = set()
        for name, _ in node.value:
            if name.value in seen:
                words = f"the key {name.value!r} is there twice"
                raise yaml.MarkedYAMLError(problem=words, problem_mark=name.start_mark)
            seen.add(name.value)
        return loader.construct_mapping(node, deep=True)

    Loader.yaml_implicit_resolvers = {}
    for tag, (pattern, first) in YAML_1_2.items():
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), list(first))
    Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: _whole(node.value))
    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    try:
        return yaml.load(text, Loader)
    except RecursionError as error:
        raise ConfigError(path, "is nested too deeply") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError(path, f"is not YAML: {where}{getattr(error, 'problem', None) or error}") from error


YAML_1_2 = {
    "bool": ("true|True|TRUE|false|False|FALSE", "tTfF"),
    "null": ("~|null|Null|NULL|", ["~", "n", "N", ""]),
    "int": ("[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
    "merge": ("<<", "<"),
}
"""What is not text in YAML 1.2's core schema: pattern, and the signs it may begin with."""


def _whole(text: str) -> int:
    return int(text, 0 if text[:2] in ("0x", "0o") else 10)


def _toml(text: str, path: str) -> Any:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(path, f"is not TOML: {error}") from error


def render(text: str, path: str, variables: Mapping[str, str | None], environ: Mapping[str, str]) -> str:
    """Fill in a template. An undefined variable is an error unless the template gives a default."""
    import jinja2
    from jinja2.sandbox import SandboxedEnvironment

    def get_env(name: str, default: str | None = None) -> Any:
        if name in environ:
            return environ[name]
        return default if default is not None else jinja2.StrictUndefined(name=f"get_env(name={name!r})")

    def default_filter(found: Any, other: Any = "", /, **named: Any) -> Any:
        """Also in Tera's spelling, default(value=…)."""
        return named.get("value", other) if isinstance(found, jinja2.Undefined) else found

    environment = SandboxedEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    environment.filters["default"] = default_filter
    try:
        template = environment.from_string(text)
        return template.render(get_env=get_env, **{n: v for n, v in variables.items() if v is not None})
    except Exception as error:  # a template can raise whatever its expressions do: 1/0, None + 1
        line = getattr(error, "lineno", None) or _line_of(error)
        raise ConfigError(path, f"the template fails{f' in line {line}' if line else ''}: {error}") from error


def _line_of(error: Exception) -> int | None:
    """The template's line in the traceback: jinja2 rewrites it to the template's own."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == "<template>"]
    return lines[-1] if lines else None


def _key_in(text: str, path: str, variables: Mapping[str, str | None]) -> str | None:
    """The root key `key`, read before the rest is rendered; only where the text parses as it stands."""
    try:
        values = parse_text(text, path)
    except ConfigError:
        return None
    found = values.get("key") if isinstance(values, dict) else None
    return render(found, path, variables, {}) if isinstance(found, str) else None


def git_branch(environ: Mapping[str, str]) -> str | None:
    """PYMIRROR_BRANCH_NAME or MIRRORD_BRANCH_NAME, else git's current branch, else None."""
    for name in ("PYMIRROR_BRANCH_NAME", "MIRRORD_BRANCH_NAME"):
        if environ.get(name):
            return environ[name]
    try:
        done = subprocess.run(["git", "branch", "--show-current"], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
