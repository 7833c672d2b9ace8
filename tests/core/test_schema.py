from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from attrs import frozen

from pymirror.cli.common import vocabulary_of
from pymirror.core.config import key, one_of
from pymirror.core.schema import schema_of

ROOT = Path(__file__).resolve().parents[2]


@frozen
class Clock:
    """The clock's keys."""

    zone: str = key(help="The zone.")
    style: str = key("long", validator=one_of("long", "short"))
    ticks: list[int] = key(factory=list)


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "scripts" / "reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def at(schema: dict[str, Any], path: str) -> dict[str, Any]:
    for name in path.split("."):
        section = schema["anyOf"][0] if "anyOf" in schema else schema
        schema = section["properties"][name]
    return schema


def test_the_schema_in_the_docs_is_the_generated_one(reference: ModuleType) -> None:
    assert (ROOT / "docs" / "pymirror.schema.json").read_text() == reference.schema(), (
        "run scripts/reference.py"
    )


def test_the_tables_in_the_docs_are_the_generated_ones(reference: ModuleType) -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert page == reference.filled(page), "run scripts/reference.py"


def test_a_third_partys_keys_are_in_it() -> None:
    schema = schema_of(vocabulary_of({"clock": Clock}, {}))
    assert at(schema, "feature.clock") == {
        "description": "The clock's keys.",
        "anyOf": [
            {
                "type": "object",
                "properties": {
                    "zone": {"type": "string", "description": "The zone."},
                    "style": {"enum": ["long", "short"], "default": "long"},
                    "ticks": {
                        "anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "integer"}]
                    },
                },
                "additionalProperties": False,
                "required": ["zone"],
            },
            {"type": "boolean"},
            {"type": "null"},
        ],
    }
    json.dumps(schema)


def test_every_section_is_strict_and_unserved_keys_are_marked(reference: ModuleType) -> None:
    schema = schema_of(reference.ours())
    for path in ("feature", "agent", "session", "startup_retry", "feature.fs", "feature.network.incoming"):
        found = at(schema, path)
        assert (found["anyOf"][0] if "anyOf" in found else found)["additionalProperties"] is False
    assert schema["additionalProperties"] is False
    assert at(schema, "feature.network.incoming.on_concurrent_steal")["deprecated"] is True
    assert at(schema, "feature.db_branches")["description"].startswith("Needs mirrord's paid operator")
    assert at(schema, "feature.fs.mode")["enum"] == ["local", "localwithoverrides", "read", "write"]
    assert {"type": "boolean"} in at(schema, "feature.env")["anyOf"]
