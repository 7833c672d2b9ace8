"""What could be a target (`pymirror ls`; mirrord: 3.6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pymirror.runtimes.kubernetes.api import Api, Json
from pymirror.runtimes.kubernetes.connection import KubeSettings
from pymirror.runtimes.kubernetes.refusals import Forbidden, NotFound
from pymirror.runtimes.kubernetes.resolve import there_is
from pymirror.runtimes.kubernetes.resources import PODS, WORKLOADS
from pymirror.runtimes.kubernetes.target import (
    SIDECARS,
    Chosen,
    check_namespace,
    choose,
    containers,
    is_agent,
    parse,
)
from pymirror.runtimes.kubernetes.together import together


async def list_targets(
    config: KubeSettings, namespace: str | None, kinds: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """[{path, kind, name, container, available}], pods first; kinds: of target.KINDS, None for all.

    A kind that may not be listed, or that the cluster does not have, is left out.
    """
    api = await Api.open(config)
    try:
        where = namespace or api.connection.namespace
        check_namespace(where)
        wanted = [kind for kind in ("pod", *WORKLOADS) if not kinds or kind in kinds]
        found = await together(*(_of_kind(api, kind, where, bool(kinds)) for kind in wanted))
        listed = [row for rows in found for row in rows]
        if not listed:
            await there_is(api, where)
        return listed
    finally:
        await api.aclose()


async def _of_kind(api: Api, kind: str, namespace: str, asked: bool) -> list[dict[str, Any]]:
    resource = PODS if kind == "pod" else WORKLOADS[kind]
    try:
        items = await api.items(resource.at(namespace))
    except (Forbidden, NotFound):
        if asked or kind == "pod":
            raise
        return []
    rows: list[dict[str, Any]] = []
    for item in items:
        if not is_agent(item):
            rows += of_pod(item) if kind == "pod" else [of_workload(kind, item)]
    return rows


def of_pod(pod: Json) -> list[dict[str, Any]]:
    """One row, or one for each container when several could be meant. Pure."""
    name = pod["metadata"]["name"]
    usable = [each["name"] for each in containers(pod) if each["name"] not in SIDECARS]
    several = len(usable) > 1
    return [
        {
            "path": f"pod/{name}/container/{container}" if several else f"pod/{name}",
            "kind": "pod",
            "name": name,
            "container": container,
            "available": isinstance(choose(pod, container), Chosen),
        }
        for container in usable
    ]


def of_workload(kind: str, item: Json) -> dict[str, Any]:
    """Pure. A service is available when it selects anything; the others by their ready replicas."""
    status, spec = item.get("status", {}), item.get("spec", {})
    counts = {
        "deployment": "availableReplicas",
        "rollout": "availableReplicas",
        "daemonset": "numberReady",
        "job": "active",
    }
    if kind == "service":
        available = bool(spec.get("selector"))
    else:
        available = int(status.get(counts.get(kind, "readyReplicas")) or 0) > 0
    name = item["metadata"]["name"]
    path = f"{kind}/{name}"
    parse(path)  # what is listed can be given back
    return {"path": path, "kind": kind, "name": name, "container": None, "available": available}
