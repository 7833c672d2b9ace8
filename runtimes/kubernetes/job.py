"""The agent's Job. Pure: choices in, manifest out.

hostPID is how the agent sees the target; there is no hostPath, no host network, no token, no
privilege escalation and a read-only root. A finished Job removes itself after `agent.ttl`, so that
nothing is left when the layer was killed; the agent itself ends with its lease.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pymirror.core.session import AgentOrder
from pymirror.runtimes.kubernetes.agentspec import (
    APP,
    CONTAINER,
    DEFAULT_RESOURCES,
    LABEL,
    AgentSettings,
    arguments,
    capabilities,
    container,
    security,
)
from pymirror.runtimes.kubernetes.target import Chosen

Json = dict[str, Any]

HOSTNAME = "kubernetes.io/hostname"
GRACE = 3  # seconds to end in, beside what the agent goes on with for others
MESH_LABELS = {"kuma.io/sidecar-injection": "disabled", "sidecar.istio.io/inject": "false"}
MESH_ANNOTATIONS = {"sidecar.istio.io/inject": "false", "linkerd.io/inject": "disabled"}


def manifest(
    settings: AgentSettings, name: str, order: AgentOrder, target: Chosen | None, node_label: str | None
) -> Json:
    """The Job. target: None for a session without one. node_label: the node's kubernetes.io/hostname,

    None when the Node cannot be read: the pod is then bound to the node by name, past the scheduler.
    """
    mesh = settings.disable_mesh_sidecar_injection
    labels = {**APP, **(settings.labels or {}), **(MESH_LABELS if mesh else {}), LABEL: name}
    annotations = {**(MESH_ANNOTATIONS if mesh else {}), **(settings.annotations or {})}
    meta: Json = {"labels": labels}
    if annotations:
        meta["annotations"] = annotations
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, **meta},
        "spec": {
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": settings.ttl,
            "template": {"metadata": meta, "spec": _pod(settings, order, target, node_label)},
        },
    }


def _pod(settings: AgentSettings, order: AgentOrder, target: Chosen | None, node_label: str | None) -> Json:
    spec: Json = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": GRACE + math.ceil(order.lasting),
        "containers": [_container(settings, order, target)],
        **_placement(settings, target, node_label),
    }
    if target is not None:
        spec["hostPID"] = True
        spec["enableServiceLinks"] = False
    if settings.image_pull_secrets:
        spec["imagePullSecrets"] = list(settings.image_pull_secrets)
    if settings.service_account:
        spec["serviceAccountName"] = settings.service_account
    if settings.priority_class:
        spec["priorityClassName"] = settings.priority_class
    profiles = pod_profiles(settings.security_context)
    if profiles:
        spec["securityContext"] = profiles
    return spec


def _container(settings: AgentSettings, order: AgentOrder, target: Chosen | None) -> Json:
    if target is None:
        context = security((), privileged=False)
        place: Sequence[str] = ("--none",)
    else:
        context = security(capabilities(order.rights, settings.disabled_capabilities), settings.privileged)
        context["runAsUser"] = context["runAsGroup"] = 0
        place = (f"--container-id={target.container_id}",)
    if (settings.security_context or {}).get("seccomp_profile"):
        context.pop("seccompProfile", None)  # the pod's then holds
    made = container(settings, CONTAINER, arguments(settings, order, place), context)
    made["resources"] = settings.resources or DEFAULT_RESOURCES
    return made


def _placement(settings: AgentSettings, target: Chosen | None, node_label: str | None) -> Json:
    placed: Json = {}
    if target is None:
        if settings.node_selector:
            placed["nodeSelector"] = dict(settings.node_selector)
    elif node_label:
        placed["nodeSelector"] = {HOSTNAME: node_label}
    else:
        placed["nodeName"] = target.node
    tolerations = settings.tolerations
    if tolerations is None and target is not None:
        tolerations = [{"operator": "Exists"}]  # where the target may run, the agent may
    if tolerations:
        placed["tolerations"] = [dict(each) for each in tolerations]
    return placed


def pod_profiles(asked: Any) -> Json:
    """agent.security_context (snake case) as the API spells it."""
    found: Json = {}
    for key, name in (("app_armor_profile", "appArmorProfile"), ("seccomp_profile", "seccompProfile")):
        profile = (asked or {}).get(key)
        if profile:
            found[name] = {"type": profile["type"]}
            if profile.get("localhost_profile"):
                found[name]["localhostProfile"] = profile["localhost_profile"]
    return found
