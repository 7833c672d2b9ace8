"""The probes of a pod's containers that come to a port of its network. Pure: an API object in, facts out.

What the cluster says is not trusted: what cannot be read is left out, and sizes are bounded. Those of all
containers count, as they share the network. Not: `exec`, hooks (preStop, postStart), another host's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymirror.core.probe import GRPC, HTTP, LIVENESS, READINESS, STARTUP, TCP, Probe
from pymirror.runtimes.kubernetes.target import Json, containers

MOST = 100
"""Probes of a pod."""
LONGEST = 2048
"""Characters of a path or a User-Agent."""
AGENT = "kube-probe/"
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_FORMS = {"httpGet": HTTP, "grpc": GRPC, "tcpSocket": TCP}


def probes(pod: Json) -> tuple[Probe, ...]:
    hosts = _hosts(pod)
    found: list[Probe] = []
    for container in containers(pod):
        for kind in (STARTUP, LIVENESS, READINESS):
            probe = _probe(kind, container, hosts)
            if probe is not None:
                found.append(probe)
    return tuple(found[:MOST])


def _hosts(pod: Json) -> frozenset[str]:
    """By which a probe that names one still comes to the pod: the kubelet's loopback is the node's."""
    status, spec = pod.get("status") or {}, pod.get("spec") or {}
    named = [each.get("ip") for each in _mappings(status.get("podIPs"))]
    own = frozenset(each for each in ("", status.get("podIP"), *named) if isinstance(each, str))
    return own | LOOPBACK if spec.get("hostNetwork") is True else own


def _probe(kind: str, container: Json, hosts: frozenset[str]) -> Probe | None:
    asked = container.get(f"{kind}Probe")
    if not isinstance(asked, Mapping):
        return None
    for key, form in _FORMS.items():
        how = asked.get(key)
        if isinstance(how, Mapping):
            return _read(kind, form, how, container) if _text(how.get("host") or "") in hosts else None
    return None


def _read(kind: str, form: str, how: Json, container: Json) -> Probe | None:
    port, name = _port(how.get("port"), container), _text(container.get("name"))
    if port is None or name is None:
        return None
    if form != HTTP:
        return Probe(kind, form, port, agent=AGENT if form == GRPC else "", container=name)
    path, agent = _path(how.get("path")), _agent(how.get("httpHeaders"))
    if path is None or agent is None:
        return None
    return Probe(kind, form, port, path, agent, how.get("scheme") == "HTTPS", name)


def _port(value: Any, container: Json) -> int | None:
    """By number, or by name: of the container's own ports first, as the kubelet reads it."""
    if isinstance(value, str):
        named = [each for each in _mappings(container.get("ports")) if each.get("name") == value]
        digits = value if value.isascii() and value.isdigit() and len(value) < 6 else "0"
        value = named[0].get("containerPort") if named else int(digits)
    return value if type(value) is int and 0 < value < 1 << 16 else None


def _path(value: Any) -> str | None:
    path = _text("/" if value is None else value)
    return None if path is None else "/" + path.partition("#")[0].removeprefix("/")


def _agent(headers: Any) -> str | None:
    """The User-Agent, which its headers may say otherwise: the first one counts."""
    for each in _mappings(headers):
        if str(each.get("name")).lower() == "user-agent":
            return _text(each.get("value") or "")
    return AGENT


def _mappings(value: Any) -> list[Json]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def _text(value: Any) -> str | None:
    """As it is; JSON may hold halves of characters, which nothing can be done with."""
    if (
        not isinstance(value, str)
        or len(value) > LONGEST
        or any("\ud800" <= each < "\ue000" for each in value)
    ):
        return None
    return value
