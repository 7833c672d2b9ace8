"""Why a connection to an agent may be lost: what became of its target and of itself. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymirror.runtimes.kubernetes.target import Chosen, status_of

Json = Mapping[str, Any]


def of_target(pod: Json | None, target: Chosen) -> str:
    """What happened to the target; "" if it is there and the same."""
    name = f"the target pod/{target.pod}"
    if pod is None or pod["metadata"].get("uid") != target.uid or _deleted(pod):
        return f"{name} was deleted"
    status = pod.get("status", {})
    if status.get("phase") == "Failed" and status.get("reason"):
        return f"{name} failed ({status['reason']}): {status.get('message', '')}"
    found = status_of(pod, target.container) or {}
    if ended := (found.get("state") or {}).get("terminated"):
        return f"the target's container {target.container} ended{_how(ended)}"
    if str(found.get("containerID") or "").rpartition("://")[2] != target.container_id:
        last = (found.get("lastState") or {}).get("terminated") or {}
        return f"the target's container {target.container} ended{_how(last)} and was started again"
    return ""


def of_agent(pod: Json | None, name: str, container: str) -> str:
    """What happened to the agent; "" if it runs."""
    if pod is None or _deleted(pod):
        return f"the agent's pod/{name} was deleted"
    status = pod.get("status", {})
    if status.get("phase") == "Failed" and status.get("reason"):
        return f"the agent's pod/{name} failed ({status['reason']}): {status.get('message', '')}"
    ended = ((status_of(pod, container) or {}).get("state") or {}).get("terminated")
    return f"the agent ended{_how(ended)}" if ended else ""


def _deleted(pod: Json) -> bool:
    """By somebody, though it may be there for a while yet."""
    return bool(pod["metadata"].get("deletionTimestamp"))


def _how(ended: Json) -> str:
    """Its exit status, and the reason where that says more."""
    if "exitCode" not in ended:
        return ""
    why = ended.get("reason") or ""
    return f" (exit status {ended['exitCode']}{'' if why in ('', 'Error', 'Completed') else f', {why}'})"
