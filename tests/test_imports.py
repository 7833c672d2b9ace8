"""The import rules of CONTRIBUTING.md, read from the sources."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(
    p for top in ("core", "features", "agent", "layer", "runtimes", "cli") for p in (ROOT / top).rglob("*.py")
)
ONE_IMPORTER = {
    "zmq": "core/channel.py",
    "stevedore": "core/registry.py",
    "regex": "core/patterns.py",
    "httptools": "features/network/incoming/http1.py",
    "jq": "features/network/incoming/questions.py",
    "jsonpath": "features/network/incoming/questions.py",
    "kubernetes": "runtimes/kubernetes/connection.py",
    "hpack": "features/network/incoming/http2_headers.py",
    "cffi": "layer/engines/seccomp/build.py features/network/incoming/relay/build.py",
}


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def forbidden(name: str) -> tuple[str, ...]:
    """The prefixes a file of this name (relative to the checkout) must not import."""
    top, leaf = name.split("/")[0], name.rsplit("/", 1)[-1]
    outside = ("pymirror.features", "pymirror.agent", "pymirror.layer", "pymirror.runtimes", "pymirror.cli")
    if top == "core" or leaf == "messages.py":
        return outside
    if top == "agent":
        return ("pymirror.layer", "pymirror.features", "pymirror.cli")
    if top == "layer":
        return ("pymirror.agent", "pymirror.features", "pymirror.cli")
    if top == "cli" and leaf != "demo.py":  # the demo is the process runtime's by nature
        return ("pymirror.agent", "pymirror.features", "pymirror.runtimes")
    return ()


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports(path: Path) -> None:
    name, found = str(path.relative_to(ROOT)), imports(path)
    bad = {i for i in found for ban in forbidden(name) if i == ban or i.startswith(ban + ".")}
    if path.name in ("layer.py", "agent.py"):
        other = ".agent" if path.name == "layer.py" else ".layer"
        bad |= {i for i in found if i.startswith("pymirror.features.") and i.endswith(other)}
    bad |= {
        i
        for i in found
        for lib, home in ONE_IMPORTER.items()
        if i.split(".")[0] == lib and name not in home.split()
    }
    assert not bad


def feature_of(name: str) -> str:
    """The feature that a module (dotted, without `pymirror`) is part of; empty: none."""
    return next((each for each in FEATURES if f"{name}.".startswith(f"{each}.")), "")


FEATURES = sorted(
    ".".join(p.relative_to(ROOT).parts[:-1])
    for p in FILES
    if p.is_relative_to(ROOT / "features") and p.name == "layer.py"
)
"""What several of them use stands above them."""


def test_no_feature_imports_another() -> None:
    assert {"features.fs", "features.network.dns", "features.network.outgoing"} <= set(FEATURES)
    found = set()
    for path in FILES:
        own = feature_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
        others = {feature_of(i.removeprefix("pymirror.")) for i in imports(path)} - {"", own}
        found |= {(own, other) for other in others if own}
    assert not found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_waits_are_limited_by_what_keeps_cancellations(path: Path) -> None:
    calls = [node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)]
    assert "wait_for" not in calls, "use pymirror.core.limit.timeout: it says why"


PURE = [
    *(f"features/network/outgoing/{name}.py" for name in ("rules", "forms", "messages")),
    *(
        f"features/network/incoming/{name}.py"
        for name in (
            *("messages", "rules", "limits", "ruleset", "segments", "ordering", "reassembly", "bpf", "sniff"),
            *("http1", "http_filter", "http_rules", "questions", "body", "copy_http1", "http2_frames"),
            *("print_bytes", "print_http", "tls_hello", "needles"),
            *(
                "http2_headers",
                "http2_settings",
                "http2_flow",
                "http2_windows",
                "http2_sending",
                "http2_side",
            ),
            "http2_answers",
            "sharing",
        )
    ),
    "features/network/debuggers.py",
    *(
        f"features/network/dns/{name}.py"
        for name in ("names", "lookupfiles", "cache", "header", "packets", "messages")
    ),
    "features/network/names.py",
    "features/network/filter.py",
    *(
        f"core/{name}.py"
        for name in (
            "patterns",
            "wire",
            "mux",
            "message",
            "call",
            "hosts",
            "errors",
            "structure",
            "sieve",
            "arrivals",
            "room",
            "flags",
            "target",
            "capability",
            "dumping",
        )
    ),
    *(
        f"features/fs/{name}.py"
        for name in ("rules", "defaults", "presets", "volumes", "messages", "cache", "fuse")
    ),
    *(f"features/env/{name}.py" for name in ("select", "dotenv", "messages")),
    *(f"runtimes/kubernetes/{name}.py" for name in ("job", "ephemeral", "agentspec", "refusals", "progress")),
]
DOES = {"asyncio", "os", "pathlib", "selectors", "shutil", "socket", "subprocess", "threading", "time", "zmq"}


@pytest.mark.parametrize("name", PURE)
def test_what_decides_does_nothing(name: str) -> None:
    assert not {found.split(".")[0] for found in imports(ROOT / name)} & DOES


NAMES = {"kubernetes", "process", "seccomp", "fs"}
"""Plug-ins by name; `env` and `hostname` are also other words (a key's variable, a call)."""
NAMELESS = [p for p in FILES if p.relative_to(ROOT).parts[0] in ("core", "agent")] + [
    ROOT / "layer" / "main.py"
]


@pytest.mark.parametrize("path", NAMELESS, ids=lambda p: str(p.relative_to(ROOT)))
def test_what_carries_plug_ins_names_none(path: Path) -> None:
    strings = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
    assert not strings & NAMES
