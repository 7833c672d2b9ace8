"""From a target's words to one container of one pod: the API calls around target.py's choices."""

from __future__ import annotations

from attrs import frozen

from pymirror.core.errors import ClusterError, UserError
from pymirror.runtimes.kubernetes.api import Api, Json
from pymirror.runtimes.kubernetes.refusals import NotFound
from pymirror.runtimes.kubernetes.resources import NODES, PODS, WORKLOADS, Resource
from pymirror.runtimes.kubernetes.target import Chosen, Wanted, first_usable, nearest, selector


@frozen
class Node:
    """What the agent's placement needs to know. free: pod slots left; None where it may not be asked."""

    label: str | None = None
    slots: int | None = None
    free: int | None = None


async def resolve(api: Api, wanted: Wanted, namespace: str) -> tuple[Chosen, Json]:
    """The container and its pod. UserError with the nearest name, or with why no pod fits."""
    pods = await _pods(api, wanted, namespace)
    chosen, pod = first_usable(wanted, pods)
    return chosen, dict(pod)


async def _pods(api: Api, wanted: Wanted, namespace: str) -> list[Json]:
    if wanted.kind == "pod":
        return [await _get(api, PODS, wanted, namespace)]
    if wanted.kind == "label":
        return await api.items(PODS.at(namespace), labelSelector=wanted.name)
    workload = await _get(api, WORKLOADS[wanted.kind], wanted, namespace)
    reference = workload["spec"].get("workloadRef")
    if wanted.kind == "rollout" and not workload["spec"].get("selector") and reference:
        wanted = Wanted(reference["kind"].lower(), reference["name"], wanted.container)
        workload = await _get(api, WORKLOADS[wanted.kind], wanted, namespace)
    labels = selector(workload)
    if not labels:
        raise UserError(f"{wanted} selects no pods: it has no selector", "target one of its pods by name")
    return await api.items(PODS.at(namespace), labelSelector=labels)


async def _get(api: Api, resource: Resource, wanted: Wanted, namespace: str) -> Json:
    try:
        return await api.get(resource.at(namespace, wanted.name))
    except NotFound as error:
        try:
            names = [each["metadata"]["name"] for each in await api.items(resource.at(namespace))]
        except (ClusterError, NotFound):
            raise error from None
        raise UserError(
            f"namespace {namespace} has no {wanted.kind} {wanted.name}",
            nearest(wanted.name, names, f"its {resource.plural}"),
        ) from error


async def node(api: Api, name: str) -> Node:
    """Best effort: whoever may not read nodes gets an empty answer."""
    try:
        found = await api.get(NODES.at(name=name))
        label = (found["metadata"].get("labels") or {}).get("kubernetes.io/hostname")
    except (ClusterError, NotFound):
        return Node()
    slots = int((found.get("status", {}).get("allocatable") or {}).get("pods", 0)) or None
    try:
        running = await api.items(
            PODS.at(), fieldSelector=f"spec.nodeName={name},status.phase!=Succeeded,status.phase!=Failed"
        )
    except (ClusterError, NotFound):
        return Node(label, slots)
    return Node(label, slots, None if slots is None else slots - len(running))
