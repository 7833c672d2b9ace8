"""JSON Schema (draft 2020-12) of the configuration file, made from the Config classes. Pure.

For editors: it knows every key, its type, default and help. What validators check beyond a fixed
set of words (regular expressions, ranges, keys that exclude each other) only `resolve` knows.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

import attrs

from pymirror.core.root import AUTO, Root
from pymirror.core.sieve import Vocabulary
from pymirror.core.structure import hints, place_of

Json = dict[str, Any]

PLAIN: Mapping[Any, Json] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    type(None): {"type": "null"},
    Any: {},
}
TARGET: Json = {
    "description": "What to run in the context of: text like pod/NAME/container/C, "
    "{path, namespace}, or one kind: {pod: NAME, container: C}.",
    "anyOf": [{"type": "string"}, {"type": "object"}, {"type": "null"}],
}


def schema_of(vocabulary: Vocabulary) -> Json:
    """The schema of a file that this installation understands."""
    top = _mapping()
    top["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    top["title"] = "pymirror's configuration"
    top["properties"]["$schema"] = {"type": "string"}
    for cls in (Root, *(vocabulary.runtimes[name] for name in sorted(vocabulary.runtimes))):
        for attribute in attrs.fields(cls):
            _put(top, place_of(attribute), _property(cls, attribute))
    top["properties"]["target"] = TARGET
    engine = top["properties"]["engine"]
    top["properties"]["engine"] = {"enum": [AUTO, *vocabulary.engines], **engine}
    del top["properties"]["engine"]["type"]
    for name in sorted(vocabulary.features):
        _put(top, f"feature.{name}", _feature(vocabulary.features[name]))
        for attribute in attrs.fields(vocabulary.features[name]):
            if attribute.metadata.get("at"):
                _put(top, place_of(attribute), _property(vocabulary.features[name], attribute))
    for table, words in (
        (vocabulary.absent, "Not in this version of pymirror"),
        (vocabulary.paid, "Needs mirrord's paid operator"),
        (vocabulary.ignored, "Accepted, without effect"),
    ):
        for path, why in table.items():
            if not vocabulary.installed(path):
                _put(top, path, {"deprecated": True, "description": f"{words}: {why}."})
    return top


def _mapping() -> Json:
    return {"type": "object", "properties": {}, "additionalProperties": False}


def _put(top: Json, path: str, schema: Json) -> None:
    """Place a key's schema below the sections it stands in, which are made on the way."""
    *parents, leaf = path.split(".")
    section = top
    for number, parent in enumerate(parents):
        whole = section["properties"].setdefault(parent, _mapping())
        if parents[: number + 1] != ["feature"] and parents[0] == "feature" and "type" in whole:
            # Sections of what is not served have short forms: `feature.network: false`.
            whole = section["properties"][parent] = {
                "anyOf": [whole, {"type": ["boolean", "string", "null"]}]
            }
        section = whole["anyOf"][0] if "anyOf" in whole else whole
    section["properties"][leaf] = schema


def _feature(cls: type) -> Json:
    short = getattr(cls, "from_short", None)
    kind = typing.get_type_hints(short).get("value", Any) if short else bool
    said: Json = {"anyOf": [_object(cls), _kind(kind), PLAIN[type(None)]]}
    return {**said, "description": _first_line(cls)}


def _object(cls: type) -> Json:
    made = _mapping()
    for attribute in attrs.fields(cls):
        if not attribute.metadata.get("at"):
            made["properties"][attribute.name] = _property(cls, attribute)
    required = [a.name for a in attrs.fields(cls) if a.default is attrs.NOTHING]
    return {**made, "required": required} if required else made


def _property(cls: type, attribute: attrs.Attribute[Any]) -> Json:
    said = _kind(hints(cls)[attribute.name])
    allowed = getattr(attribute.validator, "allowed", None)
    if allowed is not None:
        said = {"enum": list(allowed)}
    words = attribute.metadata.get("help")
    if words:
        said = {**said, "description": words}
    if attribute.default is not attrs.NOTHING and not isinstance(attribute.default, attrs.Factory):  # type: ignore[arg-type]
        said = {**said, "default": attribute.default}
    return said


def _kind(kind: Any) -> Json:
    """The schema of a type; a list takes one value too."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_kind(each) for each in inner]}
    if origin is Literal:
        return {"enum": list(inner)}
    if origin in (list, tuple):
        one = _kind(inner[0])
        return {"anyOf": [{"type": "array", "items": one}, one]}
    if origin is dict:
        return {"type": "object", "additionalProperties": _kind(inner[1]) or True}
    if isinstance(kind, type) and attrs.has(kind):
        return _object(kind)
    return dict(PLAIN.get(kind, {}))


def _first_line(cls: type) -> str:
    return (cls.__doc__ or "").strip().partition("\n")[0]
