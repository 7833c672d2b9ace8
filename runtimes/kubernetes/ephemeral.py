"""The agent as an ephemeral container of the target's pod. Pure: pod and choices in, patch out.

It shares the target's process and network namespaces. As the target's own user and without any
capability it may read that user's processes, so Pod Security `restricted` admits it; a target that
runs as root is read with capabilities, or with those the target itself was given. Kubernetes keeps the ended
container in the pod's status: that line cannot be removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from pymirror.core.session import AgentOrder
from pymirror.runtimes.kubernetes.agentspec import (
    ENTERING,
    AgentSettings,
    arguments,
    capabilities,
    container,
    security,
)
from pymirror.runtimes.kubernetes.target import Chosen, containers, status_of

Json = dict[str, Any]


@frozen
class User:
    """Whom the target's container runs as, as far as the API tells. None: the image decides."""

    uid: int | None
    gid: int | None


def user_of(pod: Mapping[str, Any], name: str) -> User:
    """From the container's securityContext, the pod's, and what the runtime reported in the status."""
    spec: Mapping[str, Any] = next((each for each in containers(pod) if each["name"] == name), {})
    own, shared = spec.get("securityContext") or {}, pod["spec"].get("securityContext") or {}
    seen = ((status_of(pod, name) or {}).get("user") or {}).get("linux") or {}

    def first(key: str, reported: str) -> int | None:
        for source, word in ((own, key), (shared, key), (seen, reported)):
            if source.get(word) is not None:
                return int(source[word])
        return None

    return User(first("runAsUser", "uid"), first("runAsGroup", "gid"))


def context(settings: AgentSettings, pod: Mapping[str, Any], target: Chosen, order: AgentOrder) -> Json:
    """The securityContext the agent needs to read this target."""
    user = user_of(pod, target.container)
    if settings.privileged:
        return security((), privileged=True)
    if user.uid:
        made = {**security((), privileged=False), "runAsUser": user.uid, "runAsNonRoot": True}
    else:  # root, or a user that only the image knows: to read it takes rights
        without = [*settings.disabled_capabilities, ENTERING]
        made = security(capabilities(order.rights, without), privileged=False)
        if user.uid == 0:
            made["runAsUser"] = 0
    if user.gid is not None:
        made["runAsGroup"] = user.gid
    return made


def _patch(
    settings: AgentSettings, name: str, order: AgentOrder, pod: Mapping[str, Any], target: Chosen, made: Json
) -> Json:
    shared = bool(pod["spec"].get("shareProcessNamespace"))
    place = (f"--container-id={target.container_id}",) if shared else ("--pid=1",)
    agent = container(settings, name, arguments(settings, order, place), made)
    agent["targetContainerName"] = target.container
    return {"spec": {"ephemeralContainers": [agent]}}


def patch(
    settings: AgentSettings, name: str, order: AgentOrder, pod: Mapping[str, Any], target: Chosen
) -> Json:
    """A strategic merge patch for pods/ephemeralcontainers: adds one container, touches nothing else."""
    return _patch(settings, name, order, pod, target, context(settings, pod, target, order))


def second_patch(
    settings: AgentSettings, name: str, order: AgentOrder, pod: Mapping[str, Any], target: Chosen
) -> Json | None:
    """For a target that runs, or may run, as root where Pod Security refuses SYS_PTRACE; None for any other.

    Root may look at root whose capabilities it has too, so the agent takes the target's own:
    these were admitted before. A user that only the image knows is taken for root.
    """
    if settings.privileged or user_of(pod, target.container).uid:
        return None
    spec = next(each for each in containers(pod) if each["name"] == target.container)
    made = {**security((), privileged=False), "runAsUser": 0}
    own = (spec.get("securityContext") or {}).get("capabilities")
    if own:
        made["capabilities"] = own
    else:
        del made["capabilities"]
    return _patch(settings, name, order, pod, target, made)
