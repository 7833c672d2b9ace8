"""Finds plug-ins by entry point and refuses the broken ones by name; stevedore's only importer.

Groups: pymirror.layer, pymirror.agent (halves of features, same names in both),
pymirror.runtime, pymirror.engine. Names are counted across distributions before anything is
loaded, because stevedore lets a later duplicate win silently. Each side loads only its own
group: a half missing on the other side is found at the handshake.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import Distribution, EntryPoint, entry_points
from typing import Any

import attrs
from attrs import frozen

from pymirror.core.call import CALLS
from pymirror.core.errors import PluginError
from pymirror.core.feature import HANDLES, INTERCEPTS, AgentFeature, LayerFeature, marked
from pymirror.core.message import feature_of, tag_of

LAYER, AGENT = "pymirror.layer", "pymirror.agent"
RUNTIME, ENGINE = "pymirror.runtime", "pymirror.engine"
OURS = "pymirror"
"""The distribution whose features come before all others."""


@frozen
class Half:
    """One loaded plug-in: entry-point name, class, and the distribution that brought it."""

    name: str
    cls: Any
    distribution: str
    version_of_distribution: str


def layer_halves() -> dict[str, Half]:
    """Every layer half installed: pymirror's own in their metadata's order, then others by name;
    one that names others in `before` stands before them.

    PluginError for the first that is broken, so that no session starts beside a broken plug-in.
    """
    found = scan(LAYER)
    return precede({name: _load_half(LAYER, found[name], LayerFeature) for name in in_order(found.values())})


def agent_halves(names: Sequence[str]) -> dict[str, Half]:
    """The agent halves of `names`, in that order; nothing else is imported.

    PluginError for one that is broken or not installed here.
    """
    found = scan(AGENT)
    for name in names:
        if name not in found:
            raise PluginError(
                "",
                f"feature {name}: no agent half is installed beside the target",
                f"add the package that brings {name} to the agent image (FROM the agent image, "
                "RUN pip install …), see docs/agent-image.md",
            )
    return {name: _load_half(AGENT, found[name], AgentFeature) for name in names}


def runtime(name: str) -> Half:
    """The runtime `name`; PluginError lists those installed."""
    return _one(RUNTIME, name)


def engine(name: str) -> Half:
    """The engine `name`; PluginError lists those installed."""
    return _one(ENGINE, name)


def runtime_names() -> list[str]:
    """Names of the runtimes installed, none of them imported."""
    return sorted(scan(RUNTIME))


def engine_names() -> list[str]:
    """Names of the engines installed, none of them imported."""
    return sorted(scan(ENGINE))


def scan(group: str) -> dict[str, EntryPoint]:
    """The entry points of a group by name, nothing imported. PluginError for a name given twice."""
    return unique(group, _installed(tuple(sys.path)).select(group=group))


@functools.cache
def _installed(_path: tuple[str, ...]) -> Any:
    """Every entry point there is, read once for a search path: each look costs milliseconds."""
    return entry_points()


def unique(group: str, points: Iterable[EntryPoint]) -> dict[str, EntryPoint]:
    """By name; PluginError naming both distributions when two bring the same one."""
    found: dict[str, EntryPoint] = {}
    for point in points:
        other = found.setdefault(point.name, point)
        if other is not point:
            first, second = _origin(other)[0], _origin(point)[0]
            raise PluginError(
                second,
                f"brings {point.name} in {group}, and so does {first}",
                f"uninstall one of them: pip uninstall {second}",
            )
    return found


def in_order(points: Iterable[EntryPoint]) -> list[str]:
    """Names: pymirror's own as they come, then the others sorted."""
    listed = list(points)
    own = [point.name for point in listed if _origin(point)[0] == OURS]
    return own + sorted({point.name for point in listed} - set(own))


def precede(halves: Mapping[str, Half]) -> dict[str, Half]:
    """As they come, but each layer half before those that its class names in `before`."""
    order = list(halves)
    for name, half in halves.items():
        later = min((order.index(other) for other in half.cls.before if other in halves), default=len(order))
        if later < order.index(name):
            order.remove(name)
            order.insert(later, name)
    return {name: halves[name] for name in order}


def faults(name: str, half: Any, base: type, calls: frozenset[str] = CALLS) -> list[str]:
    """What is wrong with the class an entry point `name` gave; empty if nothing is."""
    if not isinstance(half, type) or not issubclass(half, base):
        return [f"{half!r} is not a subclass of {base.__name__}"]
    found: list[str] = []
    named, version, config = (getattr(half, key) for key in ("name", "version", "Config"))
    if named != name:
        found.append(f"the class is named {named!r} (attribute `name`), its entry point {name!r}")
    if isinstance(version, bool) or not isinstance(version, int):
        found.append(f"version is {version!r}, not an integer")
    if not isinstance(config, type) or not attrs.has(config):
        found.append("Config is not an attrs class: decorate it with attrs.frozen")
    return found + _handler_faults(name, half) + _call_faults(half, calls)


def _handler_faults(name: str, half: type) -> list[str]:
    found: list[str] = []
    taken: dict[str, str] = {}
    for method, message in marked(half, HANDLES):
        try:
            tag = tag_of(message)
        except (TypeError, AttributeError):
            found.append(f"{method} handles {message!r}, which is not a message: use @message({name!r})")
            continue
        if feature_of(tag) != name:
            found.append(f"{method} handles {tag}, a message of another feature")
        if (other := taken.setdefault(tag, method)) != method:
            found.append(f"{other} and {method} both handle {tag}")
    return found


def _call_faults(half: type, calls: frozenset[str]) -> list[str]:
    return [
        f"{method} intercepts {call!r}, which no engine offers; there are: {', '.join(sorted(calls))}"
        for method, (names, _pure) in marked(half, INTERCEPTS)
        for call in names
        if call not in calls
    ]


def _load_half(group: str, point: EntryPoint, base: type) -> Half:
    half = _load(group, point)
    if wrong := faults(half.name, half.cls, base):
        raise PluginError(
            half.distribution,
            f"feature {half.name} ({group}): {'; '.join(wrong)}",
            f"update the package, or remove it: pip uninstall {half.distribution}",
        )
    return half


def _one(group: str, name: str) -> Half:
    found: Mapping[str, EntryPoint] = scan(group)
    if name not in found:
        kind = group.rpartition(".")[2]
        raise PluginError(
            "",
            f"there is no {kind} named {name}",
            f"installed: {', '.join(sorted(found)) or 'none'}; others come with packages of their own",
        )
    return _load(group, found[name])


def _load(group: str, point: EntryPoint) -> Half:
    """Import what an entry point names. PluginError names the distribution and the cause."""
    from stevedore.named import NamedExtensionManager  # late: costs more than the whole scan

    def failed(_manager: Any, _point: Any, error: BaseException) -> None:
        raise error  # by default stevedore would log it and go on without

    distribution, version = _origin(point)
    try:
        manager = NamedExtensionManager(
            group,
            [point.name],
            on_load_failure_callback=failed,
            on_missing_entrypoints_callback=_missing,
        )
    except Exception as error:
        raise PluginError(
            distribution,
            f"{point.name} in {group} ({point.value}) cannot be imported: {type(error).__name__}: {error}",
            f"install what it needs, or remove it: pip uninstall {distribution}",
        ) from error
    for extension in manager:
        return Half(point.name, extension.plugin, distribution, version)
    raise PluginError(
        distribution,
        f"{point.name} in {group} is listed, but stevedore's cache does not know it",
        "remove the folder python-entrypoints in the user's cache folder",
    )


def _missing(_names: Iterable[str]) -> None:
    """Keeps stevedore from warning; `_load` finds the manager empty and says more."""


def _origin(point: EntryPoint) -> tuple[str, str]:
    """(name, version) of the distribution an entry point comes from."""
    if point.dist is None:
        return "an unknown distribution", ""
    return _named(point.dist)


@functools.cache
def _named(dist: Distribution) -> tuple[str, str]:
    """Each look parses the metadata anew, and there is one for every entry point."""
    return dist.name, dist.version
