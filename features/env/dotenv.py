"""A small parser of dotenv files, after what docker compose and python-dotenv agree on.

`NAME=value`, an optional `export` before it, `#` comments; values bare (a ` #` ends them),
'literal' or "with \\n \\t \\r \\" \\\\ escapes" over several lines. Nothing is expanded: `$NAME`
stays as it is, because the file says what the program gets, whoever runs it.
A library (python-dotenv) was left out: it skips lines it cannot read, with a warning.
"""

from __future__ import annotations

import re

_ENTRY = re.compile(
    r"""[^\S\n]*(?:export[^\S\n]+)?
    (?P<name>[A-Za-z_][A-Za-z0-9_.-]*)[^\S\n]*=[^\S\n]*
    (?: '(?P<literal>[^']*)'
      | "(?P<escaped>(?:[^"\\]|\\.)*)"
      | (?P<bare>[^'"\s#][^\n]*?|)(?=[^\S\n]+\#|[^\S\n]*(?:\n|\Z))
    )
    [^\S\n]*(?:\#[^\n]*)?(?:\n|\Z)""",
    re.VERBOSE | re.DOTALL,
)
_EMPTY = re.compile(r"[^\S\n]*(?:#[^\n]*)?(?:\n|\Z)")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_SIGNS = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$", "\n": ""}


def parse(text: str) -> dict[str, str]:
    """Names and values in file order; of a repeated name the last. ValueError names the line."""
    text = text.replace("\r\n", "\n").removeprefix("\ufeff")
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        empty = _EMPTY.match(text, at)
        if empty is not None:
            at = empty.end()
            continue
        entry = _ENTRY.match(text, at)
        if entry is None:
            raise ValueError(f"line {text.count(chr(10), 0, at) + 1}: not of the form NAME=value")
        found[entry["name"]] = _value(entry)
        at = entry.end()
    return found


def _value(entry: re.Match[str]) -> str:
    if entry["literal"] is not None:
        return entry["literal"]
    if entry["escaped"] is not None:
        return _ESCAPE.sub(lambda sign: _SIGNS.get(sign[1], sign[0]), entry["escaped"])
    return entry["bare"]
