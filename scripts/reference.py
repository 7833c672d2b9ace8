"""Writes what is generated in docs/: pymirror.schema.json and the tables of configuration.md.

Run it after a change of a Config class: `.venv/bin/python scripts/reference.py`. A test compares.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from pymirror.cli import mirrord_keys
from pymirror.cli.common import vocabulary_of
from pymirror.core import registry
from pymirror.core.config import Vocabulary
from pymirror.core.root import Root
from pymirror.core.schema import schema_of
from pymirror.core.structure import hints, place_of

DOCS = Path(__file__).resolve().parent.parent / "docs"
IMAGE = "localhost/pymirror-agent:<version>"
NAMES = {bool: "true/false", int: "integer", float: "number", str: "text", Any: "any"}


def ours() -> Vocabulary:
    """What pymirror itself brings, whatever else is installed here."""
    halves = [half for half in registry.layer_halves().values() if half.distribution == registry.OURS]
    runtimes = [registry.runtime(name) for name in registry.runtime_names()]
    return vocabulary_of(
        features={half.name: half.cls.Config for half in halves},
        runtimes={each.name: each.cls.Config for each in runtimes if each.distribution == registry.OURS},
    )


def schema() -> str:
    return json.dumps(schema_of(ours()), indent=2) + "\n"


def tables() -> dict[str, str]:
    """Marker in the page → the lines that belong there."""
    known = ours()
    return {
        "session": _keys(Root, ""),
        **{f"feature.{name}": _keys(cls, f"feature.{name}.") for name, cls in known.features.items()},
        **{name: _keys(cls, "") for name, cls in known.runtimes.items() if attrs.fields(cls)},
        "absent": _reasons(mirrord_keys.ABSENT),
        "paid": _reasons(mirrord_keys.PAID),
        "ignored": _reasons(mirrord_keys.IGNORED),
    }


def filled(page: str) -> str:
    """The page with its tables replaced."""
    for name, text in tables().items():
        start, end = f"<!-- table: {name} -->\n", "<!-- end -->"
        head, found, rest = page.partition(start)
        if not found:
            raise SystemExit(f"configuration.md has no place for the table {name}")
        page = head + start + text + end + rest.partition(end)[2]
    return page


def _keys(cls: type, prefix: str) -> str:
    lines = ["| key | type | default | variable, flag | meaning |", "|---|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in _rows(cls, prefix)]
    return "\n".join(lines) + "\n"


def _rows(cls: type, prefix: str) -> Iterator[tuple[str, str, str, str, str]]:
    for a in attrs.fields(cls):
        kind, place = hints(cls)[a.name], place_of(a, prefix)
        inner = next(
            (k for k in (kind, *typing.get_args(kind)) if isinstance(k, type) and attrs.has(k)), None
        )
        if inner is not None and (inner is kind or any(b.metadata.get("env") for b in attrs.fields(inner))):
            yield from _rows(inner, f"{place}.")
            continue
        env = [a.metadata.get("env"), *(name for flag in a.metadata.get("flags", ()) for name in flag.names)]
        words = a.metadata.get("help", "").replace("|", "\\|")
        yield f"`{place}`", _kind(kind), _default(a), ", ".join(f"`{each}`" for each in env if each), words


def _kind(kind: Any) -> str:
    origin, inner = typing.get_origin(kind), [k for k in typing.get_args(kind) if k is not type(None)]
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_kind(each) for each in inner)
    if origin in (list, tuple):
        if typing.get_origin(inner[0]) is list:
            return "list of pairs"
        return f"list of {_kind(inner[0])}" if inner[0] in NAMES else "list of mappings"
    return "mapping" if origin is dict else NAMES.get(kind, "any")


def _default(a: attrs.Attribute[Any]) -> str:
    if a.name == "image":
        return f"`{IMAGE}`"
    if isinstance(a.default, attrs.Factory):  # type: ignore[arg-type]
        return "empty"
    return (
        ""
        if a.default is None
        else f"`{json.dumps(a.default) if not isinstance(a.default, str) else a.default}`"
    )


def _reasons(table: dict[str, str]) -> str:
    """Keys of one section that share a reason stand in one row."""
    rows: dict[tuple[str, str], list[str]] = {}
    for key, why in table.items():
        section, _, leaf = key.rpartition(".")
        rows.setdefault((section, why), []).append(leaf)
    lines = ["| section | keys | why |", "|---|---|---|"]
    for (section, why), leaves in rows.items():
        names = ", ".join(f"`{leaf}`" for leaf in leaves)
        lines.append(f"| {f'`{section}`' if section else '(top)'} | {names} | {why} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (DOCS / "pymirror.schema.json").write_text(schema())
    page = DOCS / "configuration.md"
    page.write_text(filled(page.read_text()))
