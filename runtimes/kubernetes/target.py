"""Which pod and which container a target means. Pure: text and API objects in, choice and reason out.

Words: `kind/name[/container/NAME]`, `label/k=v[,k=v…]`, `targetless` (mirrord: 3.1). Of several
pods the first that passes the checks is taken (mirrord: 3.2), sorted by name so that two sessions agree.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import frozen

from pymirror.core.errors import UserError
from pymirror.runtimes.kubernetes.agentspec import LABEL, PREFIX
from pymirror.runtimes.kubernetes.resources import WORKLOADS

Json = Mapping[str, Any]

KINDS = ("pod", *WORKLOADS, "label")
SHORT = {"deploy": "deployment", "po": "pod", "sts": "statefulset", "rs": "replicaset", "ds": "daemonset"}
SHORT |= {"svc": "service"}
SIDECARS = frozenset(
    "kuma-sidecar kuma-init istio-proxy istio-init linkerd-proxy linkerd-init vault-agent vault-agent-init "
    "queue-proxy traffic-agent".split()
)
AGENT_APPS = ("mirrord", "pymirror")  # `app` labels of agents, which are nobody's targets
AGENT_PREFIXES = ("mirrord-agent-", PREFIX)  # of ephemeral agents' names
NAMES = "names are of lower-case letters, digits and '-'"
OBJECT = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")  # a DNS subdomain
NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")  # a DNS label
SCHEMES = ("containerd", "cri-o", "docker")
DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


@frozen
class Wanted:
    """A target as it was asked for. name: for `label`, the selector `k=v,k=v`."""

    kind: str
    name: str
    container: str | None = None

    def __str__(self) -> str:
        tail = f"/container/{self.container}" if self.container else ""
        return f"{self.kind}/{self.name}{tail}"


@frozen
class Chosen:
    """A container that can be a target. notes: what the person should be told about the choice."""

    pod: str
    namespace: str
    uid: str
    node: str
    container: str
    container_id: str
    notes: tuple[str, ...] = ()


def parse(text: str | None) -> Wanted | None:
    """None for a session without a target. UserError naming the part that is wrong."""
    if text is None or text == "targetless":
        return None
    if not text:
        raise UserError("the target is empty", "write pod/NAME or another KIND/NAME, or targetless for none")
    parts = text.split("/")
    kind = SHORT.get(parts[0], parts[0])
    if len(parts) == 1:
        raise UserError(
            f"target {text!r} names no kind", f"write pod/{text}, or another of: {', '.join(KINDS)}"
        )
    if kind not in KINDS:
        near = difflib.get_close_matches(kind, KINDS, 1)
        raise UserError(
            f"target {text!r}: unknown kind {kind!r}",
            f"did you mean {'/'.join([near[0], *parts[1:]])}?"
            if near
            else f"kinds: {', '.join(KINDS)}, targetless",
        )
    selector = kind == "label"
    # a label's key may hold a slash (app.kubernetes.io/name=api): the selector reaches to /container/
    at = len(parts) - 2 if len(parts) >= 4 and parts[-2] == "container" else len(parts)
    name, tail = "/".join(parts[1:at]), parts[at:]
    if not name or (not selector and at != 2) or (tail and not tail[1]):
        raise UserError(f"target {text!r} cannot be read", "write KIND/NAME or KIND/NAME/container/CONTAINER")
    if selector and not all("=" in term for term in name.split(",")):
        raise UserError(f"target {text!r}: a label needs a value", "write label/key=value[,key=value]")
    for word in [*tail[1:], *([] if selector else [name])]:
        if not OBJECT.fullmatch(word):
            raise UserError(f"target {text!r}: {word!r} is no name of Kubernetes'", NAMES)
    return Wanted(kind, name, tail[1] if tail else None)


def check_namespace(name: str) -> None:
    """UserError for what cannot be a namespace's name."""
    if not NAMESPACE.fullmatch(name):
        raise UserError(f"{name!r} cannot be the name of a namespace", NAMES)


def is_agent(item: Json) -> bool:
    """Whether a Job or pod is an agent, ours or mirrord's."""
    labels = item["metadata"].get("labels") or {}
    return LABEL in labels or labels.get("app") in AGENT_APPS


def selector(workload: Json) -> str:
    """A workload's selector as the API's labelSelector text; matchExpressions as well as matchLabels."""
    found = workload.get("spec", {}).get("selector") or {}
    if workload.get("kind") == "Service":
        return _labels(found)
    terms = [_labels(found["matchLabels"])] if found.get("matchLabels") else []
    for expression in found.get("matchExpressions") or ():
        terms.append(_expression(expression))
    return ",".join(terms)


def _labels(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in labels.items())


def _expression(expression: Json) -> str:
    key, operator = expression["key"], expression["operator"]
    values = ",".join(expression.get("values") or ())
    if operator == "In":
        return f"{key} in ({values})"
    if operator == "NotIn":
        return f"{key} notin ({values})"
    if operator == "Exists":
        return str(key)
    if operator == "DoesNotExist":
        return f"!{key}"
    raise UserError(f"a selector uses the operator {operator}, which is unknown", "target a pod by name")


def obstacle(pod: Json) -> str | None:
    """Why the pod cannot be a target at all; None when it can."""
    phase = pod.get("status", {}).get("phase", "Unknown")
    if pod["metadata"].get("deletionTimestamp"):
        return "it is being deleted"
    if phase != "Running":
        return f"it is {phase}, not Running"
    if not pod["spec"].get("nodeName"):
        return "it has no node yet"
    return None


def containers(pod: Json) -> list[Json]:
    """Specs that may be targets: containers, native sidecars (init, restartPolicy Always), ephemeral ones.

    Not the agents among the ephemeral ones, which stay in the pod for as long as it lives.
    """
    spec = pod["spec"]
    sidecars = [each for each in spec.get("initContainers") or () if each.get("restartPolicy") == "Always"]
    added = spec.get("ephemeralContainers") or ()
    others = [each for each in added if not each["name"].startswith(AGENT_PREFIXES)]
    return [*(spec.get("containers") or ()), *sidecars, *others]


def status_of(pod: Json, name: str) -> Json | None:
    """The status of the container `name`, of whichever sort it is."""
    status = pod.get("status", {})
    for sort in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        for each in status.get(sort) or ():
            if each["name"] == name:
                return dict(each)
    return None


def pick(pod: Json, asked: str | None) -> tuple[str, str | None]:
    """(container, warning): the one asked for, the annotated, the first that is no sidecar, the first."""
    names = [each["name"] for each in containers(pod)]
    if asked is not None:
        if asked not in names:
            raise UserError(
                f"pod/{pod['metadata']['name']} has no container {asked}",
                nearest(asked, names, "its containers"),
            )
        return asked, None
    annotated = (pod["metadata"].get("annotations") or {}).get(DEFAULT_CONTAINER)
    if annotated in names:
        return str(annotated), None
    own = [each["name"] for each in pod["spec"].get("containers") or ()]
    candidates = [name for name in own if name not in SIDECARS] or own
    warning = None
    if len(candidates) > 1:
        others = ", ".join(name for name in candidates if name != candidates[0])
        warning = f"no container was named: {candidates[0]} is used (also there: {others})"
    return candidates[0], warning


def choose(pod: Json, asked: str | None) -> Chosen | str:
    """The container to use, or why this pod cannot be used. UserError for a container that is not in it."""
    refused = obstacle(pod)
    if refused:
        return refused
    name, warning = pick(pod, asked)
    status = status_of(pod, name)
    if status is None:
        return f"its container {name} has no status yet"
    ephemeral = any(each["name"] == name for each in pod["spec"].get("ephemeralContainers") or ())
    if not status.get("ready") and not (ephemeral and "running" in (status.get("state") or {})):
        return f"its container {name} is not ready ({state(status)})"
    scheme, _, container_id = str(status.get("containerID") or "").partition("://")
    if not container_id:
        return f"its container {name} has no container id yet"
    if scheme not in SCHEMES:
        return f"its container {name} runs under {scheme}, which is not one of {', '.join(SCHEMES)}"
    notes = [warning] if warning else []
    if "traffic-agent" in [each["name"] for each in containers(pod)]:
        notes.append("the pod has Telepresence's traffic-agent, which may interfere with incoming traffic")
    meta = pod["metadata"]
    return Chosen(
        pod=meta["name"],
        namespace=meta["namespace"],
        uid=meta["uid"],
        node=pod["spec"]["nodeName"],
        container=name,
        container_id=container_id,
        notes=tuple(notes),
    )


def state(status: Json) -> str:
    """A container's state in a word or two: `waiting: CrashLoopBackOff`."""
    for name, detail in (status.get("state") or {}).items():
        reason = (detail or {}).get("reason")
        return f"{name}: {reason}" if reason else str(name)
    return "no state"


def first_usable(wanted: Wanted, pods: Iterable[Json]) -> tuple[Chosen, Json]:
    """The first pod, by name, that passes the checks. UserError listing why none does."""
    reasons: list[str] = []
    for pod in sorted(pods, key=lambda each: str(each["metadata"]["name"])):
        found = choose(pod, wanted.container)
        if isinstance(found, Chosen):
            return found, pod
        reasons.append(f"pod/{pod['metadata']['name']}: {found}")
    if not reasons:
        raise UserError(f"{wanted} has no pods", "scale it up, or choose another target: `pymirror ls`")
    shown = "; ".join(reasons[:5]) + (f"; and {len(reasons) - 5} more" if len(reasons) > 5 else "")
    raise UserError(
        f"{wanted} cannot be the target: {shown}", "wait until it is ready: `kubectl describe` says why"
    )


def nearest(name: str, existing: Sequence[str], what: str) -> str:
    """A hint: the closest existing name first, then the list."""
    if not existing:
        return f"{what}: none"
    near = difflib.get_close_matches(name, existing, 1)
    shown = ", ".join(sorted(existing)[:20]) + (", …" if len(existing) > 20 else "")
    return (f"did you mean {near[0]}? " if near else "") + f"{what}: {shown}"


def ports(pod: Json, container: str) -> tuple[int, ...]:
    """Those of TCP that a container declares."""
    told = [port for each in containers(pod) if each["name"] == container for port in each.get("ports") or ()]
    numbers = (port["containerPort"] for port in told if port.get("protocol", "TCP") == "TCP")
    return tuple(dict.fromkeys(numbers))


def mesh(pod: Json) -> str | None:
    """The service mesh the pod is in (mirrord: 3.4, without its need for init container statuses)."""
    names = {each["name"] for each in (*containers(pod), *(pod["spec"].get("initContainers") or ()))}
    annotations = pod["metadata"].get("annotations") or {}
    if "istio-proxy" in names:
        return "istio-cni" if "istio-validation" in names else "istio"
    if annotations.get("ambient.istio.io/redirection") == "enabled":
        return "istio-ambient"
    if "linkerd-proxy" in names:
        return "linkerd"
    return "kuma" if "kuma-sidecar" in names else None
