"""From a target's words to one container of one pod: the API calls around target.py's choices."""

from __future__ import annotations

from attrs import frozen

from pymirror.core.errors import ClusterError, UserError
from pymirror.runtimes.kubernetes.api import Api, Json
from pymirror.runtimes.kubernetes.refusals import NotFound
from pymirror.runtimes.kubernetes.resources import ACCOUNTS, NAMESPACES, NODES, PODS, WORKLOADS, Resource
from pymirror.runtimes.kubernetes.target import Chosen, Wanted, first_usable, is_agent, nearest, selector


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
        return await _selected(api, wanted.name, namespace)
    workload = await _get(api, WORKLOADS[wanted.kind], wanted, namespace)
    reference = workload["spec"].get("workloadRef")
    if wanted.kind == "rollout" and not workload["spec"].get("selector") and reference:
        wanted = Wanted(reference["kind"].lower(), reference["name"], wanted.container)
        workload = await _get(api, WORKLOADS[wanted.kind], wanted, namespace)
    labels = selector(workload)
    if not labels:
        raise UserError(f"{wanted} selects no pods: it has no selector", "target one of its pods by name")
    return await _selected(api, labels, namespace)


async def _selected(api: Api, labels: str, namespace: str) -> list[Json]:
    """Pods of these labels; an agent may carry them too (agent.labels), and is no target."""
    found = [pod for pod in await api.items(PODS.at(namespace), labelSelector=labels) if not is_agent(pod)]
    if not found:
        await there_is(api, namespace)
    return found


async def _get(api: Api, resource: Resource, wanted: Wanted, namespace: str) -> Json:
    try:
        return await api.get(resource.at(namespace, wanted.name))
    except NotFound as error:
        await there_is(api, namespace)
        try:
            items = await api.items(resource.at(namespace))
        except (ClusterError, NotFound):
            raise error from None
        names = [each["metadata"]["name"] for each in items if not is_agent(each)]
        raise UserError(
            f"namespace {namespace} has no {wanted.kind} {wanted.name}",
            nearest(wanted.name, names, f"its {resource.plural}"),
        ) from error


async def there_is(api: Api, namespace: str) -> None:
    """UserError if the namespace is known not to be there."""
    try:
        await api.get(NAMESPACES.at(name=namespace))
    except NotFound as error:
        raise UserError(
            f"there is no namespace {namespace} (context {api.connection.context})",
            "check -n, agent.namespace and the kubeconfig's context: `kubectl get namespaces`",
        ) from error
    except ClusterError:
        return  # it may not be asked


async def one_pod(api: Api, namespace: str, name: str) -> Json | None:
    """A pod by what starting may do anyway, listing; None if it is not there."""
    found = await api.items(PODS.at(namespace), fieldSelector=f"metadata.name={name}")
    return found[0] if found else None


async def has_account(api: Api, namespace: str, name: str) -> None:
    """UserError if the agent's service account is known not to be there: its pod would never be made."""
    try:
        await api.get(ACCOUNTS.at(namespace, name))
    except NotFound as error:
        raise UserError(
            f"agent.service_account: namespace {namespace} has no service account {name}",
            f"`kubectl get serviceaccounts -n {namespace}` lists them; most agents need none",
        ) from error
    except ClusterError:
        return  # it may not be asked: an event tells, once the Job is made


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
