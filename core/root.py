"""The keys at the top of a configuration that are core's own."""

from __future__ import annotations

from typing import Any

from attrs import Attribute, frozen

from pymirror.core import memory
from pymirror.core.flags import Flag
from pymirror.core.structure import key, positive
from pymirror.core.windows import SMALLEST, TO_AGENT, TO_LAYER

AUTO = "auto"
"""The engine that the installation names first."""

BUILD_TOOLS = frozenset(
    "as cc ld go air asm cc1 cgo dlv gcc git link math cargo hpack rustc compile collect2 cargo-watch "
    "debugserver jspawnhelper bazel-real clang".split()
)
"""Not served, because they read what is built here (mirrord: 2.3 skip_build_tools)."""


def _pool(_: object, attribute: Attribute[Any], value: int) -> None:
    if value < SMALLEST:
        raise ValueError(f"{attribute.name}: must be at least {SMALLEST} ({SMALLEST >> 20} MiB), got {value}")


def _fits_here(_: object, attribute: Attribute[Any], value: int) -> None:
    if words := memory.too_much(value):
        raise ValueError(f"{attribute.name}: {value} is {words}")


@frozen
class Root:
    """Keys at the top of the file that are core's own."""

    target: str | None = key(
        None,
        env="IMPERSONATED_TARGET",
        at="target.path",
        help="What to run in the context of: pod/NAME, deployment/NAME/container/C, process/PID, …",
        flags=[Flag(("-t", "--target"))],
    )
    namespace: str | None = key(
        None,
        env="TARGET_NAMESPACE",
        at="target.namespace",
        help="The target's namespace.",
        flags=[Flag(("-n", "--target-namespace", "--namespace"), looking=True)],
    )
    session_key: str | None = key(
        None,
        env="KEY",
        at="key",
        help="Name of this session, for templates.",
        flags=[Flag(("-k", "--key"))],
    )
    engine: str = key(
        AUTO,
        env="ENGINE",
        help="How calls are caught: auto, or the name of an engine.",
        flags=[Flag(("--engine",))],
    )
    skip_processes: list[str] = key(
        factory=list,
        env="SKIP_PROCESSES",
        help="Program names to leave alone.",
        flags=[Flag(("--skip-processes",), help="Program names to leave alone, `;` between them.")],
    )
    skip_build_tools: bool = key(True, env="SKIP_BUILD_TOOLS", help="Leave compilers, linkers and git alone.")
    skip_extra_build_tools: list[str] = key(
        factory=list, env="SKIP_EXTRA_BUILD_TOOLS", help="More names beside the build tools."
    )
    heartbeat: float = key(
        3.0, at="session.heartbeat", validator=positive, help="Seconds between signs of life."
    )
    lease: float = key(30.0, at="session.lease", help="Seconds of silence after which each side gives up.")
    to_layer: int = key(
        TO_LAYER,
        at="session.in_flight_to_layer",
        validator=[_pool, _fits_here],
        help="Bytes of all connections that pymirror may keep here until the program reads them.",
    )
    to_agent: int = key(
        TO_AGENT,
        at="session.in_flight_to_agent",
        validator=_pool,
        help="Bytes of all connections that the agent may keep until the target's network takes them.",
    )

    def __attrs_post_init__(self) -> None:
        if self.lease < 3 * self.heartbeat:
            raise ValueError("lease: must be at least three heartbeats (session.heartbeat) long")

    def skip(self) -> frozenset[str]:
        """Names of programs to leave alone."""
        tools = BUILD_TOOLS if self.skip_build_tools else frozenset()
        return tools.union(self.skip_processes, self.skip_extra_build_tools)
