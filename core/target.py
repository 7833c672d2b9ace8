"""`target` of a configuration file in all its forms. Pure."""

from __future__ import annotations

from typing import Any

from pymirror.core.errors import ConfigError


def target_form(value: Any) -> Any:
    """`target` in all its forms as {path: text, namespace: text} (mirrord: 2.2, 3.1)."""
    if isinstance(value, str):
        return {"path": value}
    if not isinstance(value, dict):
        raise ConfigError("target", "expected text like pod/NAME, or a mapping with path and namespace")
    inner = value.get("path")
    if isinstance(inner, dict):
        return {**value, "path": _spelled(inner, "target.path")}
    if "path" in value or set(value) <= {"namespace"}:
        return dict(value)
    rest = {k: v for k, v in value.items() if k != "namespace"}
    return {
        "path": _spelled(rest, "target"),
        **({"namespace": value["namespace"]} if "namespace" in value else {}),
    }


def _spelled(value: dict[str, Any], place: str) -> str:
    """{"pod": "x", "container": "c"} → pod/x/container/c."""
    kinds = [k for k in value if k != "container"]
    if len(kinds) != 1:
        raise ConfigError(place, "expected exactly one kind (pod, deployment, …), and perhaps container")
    kind, name = kinds[0], value[kinds[0]]
    if kind == "labels" and isinstance(name, dict):
        if not name or not all(isinstance(v, str) for v in name.values()):
            raise ConfigError(f"{place}.labels", "expected at least one label, each with text as its value")
        kind, name = "label", ",".join(f"{k}={v}" for k, v in name.items())
    if not isinstance(name, str):
        raise ConfigError(f"{place}.{kind}", "expected a name")
    text = f"{str(kind).replace('_', '')}/{name}"
    container = value.get("container")
    if container is not None and not isinstance(container, str):
        raise ConfigError(f"{place}.container", "expected a name")
    return text if container is None else f"{text}/container/{container}"
