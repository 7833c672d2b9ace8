"""What a starting agent's pod, container and events mean. Pure: API object in, news out.

`failed` news end the start at once: they do not mend by waiting. Everything else is shown and
waited for, until the start's own time limit, whose message then carries the last news.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from attrs import frozen

from pymirror.core.errors import PeerError
from pymirror.runtimes.kubernetes.refusals import EPHEMERAL_WAY, admission
from pymirror.runtimes.kubernetes.target import status_of

Json = Mapping[str, Any]
Kind = Literal["waiting", "running", "failed"]

IMAGE = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "RegistryUnavailable")
CREATE = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CreatePodSandboxError")
NO_ROOM = ("OutOfpods", "OutOfcpu", "OutOfmemory", "UnexpectedAdmissionError")


@frozen
class News:
    """One state of a start. quiet: nothing worth a line of its own, only to be told when time is over."""

    kind: Kind
    text: str = ""
    hint: str = ""
    quiet: bool = False


@frozen
class Ready:
    """What the agent's ready line says."""

    key: str
    port: int


def of_pod(pod: Json, container: str, ephemeral: bool = False) -> News:
    """Where the agent's pod stands."""
    status = pod.get("status", {})
    if not ephemeral:
        ended = _ended(pod["metadata"], status)
        if ended:
            return ended
    found = status_of(pod, container)
    if found:
        return of_container(found)
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            text = f"the agent's pod finds no place: {condition.get('message', condition.get('reason', ''))}"
            return News("waiting", text, EPHEMERAL_WAY)
    name, node = pod["metadata"]["name"], (pod.get("spec") or {}).get("nodeName")
    place = f"node {node} has not taken up its container yet" if node else "no node has been chosen yet"
    return News("waiting", f"pod/{name} is there, {place}", quiet=True)


def _ended(meta: Json, status: Json) -> News | None:
    reason, message = status.get("reason") or "", status.get("message") or ""
    if meta.get("deletionTimestamp"):
        return News("failed", f"the agent's pod was deleted while it started {message}", EPHEMERAL_WAY)
    if status.get("phase") == "Failed" and reason in NO_ROOM:
        return _no_room(reason, message)
    if status.get("phase") == "Failed" and reason:
        return News("failed", f"the agent's pod failed ({reason}): {message}", "`kubectl describe` its Job")
    return None


def _no_room(reason: str, message: str) -> News:
    return News("failed", f"the node has no room for the agent ({reason}): {message}", EPHEMERAL_WAY)


def of_container(status: Json) -> News:
    """Where the agent's container stands."""
    state = status.get("state") or {}
    if "running" in state:
        return News("running")
    if "terminated" in state:
        gone = state["terminated"]
        said = str(gone.get("message") or gone.get("reason") or "").strip()
        text = f"the agent ended before it was ready (exit status {gone.get('exitCode')}): {said}"
        return News("failed", text, "agent.log_level: debug says more")
    waiting = state.get("waiting") or {}
    reason, message = waiting.get("reason") or "", waiting.get("message") or ""
    if reason in IMAGE:
        return News(
            "failed",
            f"the agent's image {status.get('image')} cannot be had ({reason}): {message}",
            "set agent.image, agent.image_pull_policy or agent.image_pull_secrets; see docs/agent-image.md",
        )
    if reason in CREATE:
        return News("failed", f"the agent's container cannot be made ({reason}): {message}", _making(message))
    quiet = reason in ("", "ContainerCreating", "PodInitializing")
    return News("waiting", f"{reason or 'the container is waiting'} {message}".strip(), quiet=quiet)


def _making(message: str) -> str:
    if "runAsNonRoot" in message:
        return "the pod forbids root and names no user: set securityContext.runAsUser in the target's pod"
    return "look at agent.security_context and agent.privileged"


def of_event(event: Json) -> News | None:
    """What an event about the agent's Job or pod says; None for what is not worth a line."""
    reason, message = event.get("reason") or "", event.get("message") or ""
    if reason == "FailedCreate":
        refused = admission(message)
        if refused:
            return News("failed", refused.message, refused.hint)
        return News("failed", f"the agent's pod cannot be created: {message}", "`kubectl describe` its Job")
    if (
        reason in NO_ROOM
    ):  # the status may say so much later: a node's right to a new pod's comes a moment after the pod
        return _no_room(reason, message)
    if reason in ("Pulling", "FailedScheduling", "FailedMount", "FailedCreatePodSandBox", "Preempting"):
        return News("waiting", f"{reason}: {message}", EPHEMERAL_WAY if reason == "FailedScheduling" else "")
    return None


def of_target(pod: Json, uid: str) -> News | None:
    """Whether the target went away while the agent was starting."""
    meta = pod["metadata"]
    if meta.get("uid") != uid or meta.get("deletionTimestamp"):
        return News(
            "failed",
            f"the target pod/{meta['name']} was deleted while the agent was starting",
            "start again; a target such as deployment/NAME finds the pod's successor",
        )
    return None


def ready_line(line: bytes, ours: str) -> Ready | None:
    """The agent's ready line, or None for any other. PeerError for an agent of another version."""
    if not line.startswith(b"{"):
        return None
    try:
        found = json.loads(line)
    except ValueError:
        return None
    if "pymirror_agent" not in found:
        return None
    if found["pymirror_agent"] != ours:
        raise PeerError(
            f"the agent is pymirror {found['pymirror_agent']}, this side is {ours}",
            "set agent.image to the image of this version, see docs/agent-image.md",
        )
    return Ready(str(found["key"]), int(found["port"]))
