"""What the API server refused, in words with a next step. Pure: status and body in, error out.

A 403 is two different things: a missing permission (the message says who may not do what; the
answer is a Role rule) or an admission that refused the object (Pod Security, quota, a webhook).
"""

from __future__ import annotations

import json
from typing import Any

from pymirror.core.errors import ClusterError, PymirrorError, UserError
from pymirror.runtimes.kubernetes.resources import Place


class NotFound(UserError):
    """The object is not there."""


class Conflict(ClusterError):
    """The object changed under us, or is there already."""


class Busy(ClusterError):
    """The API server asks to come again later; safe to repeat."""


class Expired(ClusterError):
    """The place to go on from is too old for the API server: a new list is needed."""


class Unreachable(ClusterError):
    """No answer at all. sent: the request may have reached it. retry: asking again may help."""

    def __init__(self, message: str, hint: str = "", sent: bool = True, retry: bool = True) -> None:
        super().__init__(message, hint)
        self.sent, self.retry = sent, retry


class Forbidden(ClusterError):
    """A permission is missing."""


OWN_USER = "set securityContext.runAsUser in the target's pod: as that user the agent needs no rights"
EPHEMERAL_WAY = "set agent.ephemeral: true (`pymirror exec --ephemeral-container`), which needs none"


def status_of(body: bytes) -> dict[str, Any] | None:
    """The Status object an answer holds, if it does."""
    try:
        found = json.loads(body)
    except ValueError:
        return None
    return found if isinstance(found, dict) and found.get("message") else None


def words(body: bytes) -> str:
    """The message of a Status object, else the body's beginning."""
    found = status_of(body)
    if found:
        return str(found["message"])
    return body[:300].decode("utf-8", "replace").strip()


def rule(verb: str, place: Place) -> str:
    """The Role rule that would allow it, on one line of YAML."""
    return (
        f'{{apiGroups: ["{place.resource.group}"], resources: ["{place.role_resource}"], verbs: ["{verb}"]}}'
    )


def forbidden(verb: str, place: Place, said: str) -> Forbidden:
    """A missing permission, with the rule to add; or a namespace that takes nothing new any more."""
    if "being terminated" in said:
        return Forbidden(
            f"namespace {place.namespace} is being deleted: {said}",
            "choose another with -n or agent.namespace, or wait until it is gone and make it anew",
        )
    kind = "Role" if place.namespace else "ClusterRole"
    where = f" in namespace {place.namespace}" if place.namespace else ""
    return Forbidden(
        f"you may not {verb} {place.role_resource}{where}: {said}",
        f"ask for a {kind}{where} with the rule {rule(verb, place)}",
    )


def admission(said: str, verb: str = "create") -> ClusterError | None:
    """An object refused by admission, if `said` reads like that; else None. verb: `patch` for a container."""
    if "violates PodSecurity" in said:
        hint = OWN_USER if verb == "patch" else EPHEMERAL_WAY
        return ClusterError(f"Pod Security refuses the agent: {said}", hint)
    if "exceeded quota" in said:
        return ClusterError(
            f"the namespace's quota refuses the agent: {said}",
            "free some of it, set agent.resources, or another agent.namespace",
        )
    if "admission webhook" in said or "denied the request" in said or "ValidatingAdmissionPolicy" in said:
        return ClusterError(
            f"an admission policy refuses the agent: {said}",
            "agent.labels, agent.annotations, agent.image and agent.namespace are yours to set",
        )
    if "LimitRange" in said or "usage per Container" in said or "usage per Pod" in said:
        return ClusterError(f"the namespace's limits refuse the agent: {said}", "set agent.resources")
    return None


def translate(verb: str, place: Place, status: int, body: bytes, context: str) -> PymirrorError:
    """The error for an answer that is not 2xx."""
    said = words(body)
    if status == 401:
        return ClusterError(
            f"the API server does not know you (context {context}): {said}",
            "log in again; `kubectl auth whoami` must work",
        )
    if status == 403:
        refused = None if " cannot " in said and "resource" in said else admission(said, verb)
        return refused or forbidden(verb, place, said)
    if status == 404 and status_of(body) is None:  # no handler for the path: the API server has no such kind
        return NotFound(
            f"this cluster has no {place.resource.plural} (API {place.resource.api_version})",
            "`kubectl api-resources` lists what it has",
        )
    if status == 404:
        return NotFound(f"{place} was not found: {said}", "check the namespace; `pymirror ls` lists targets")
    if status == 409:
        return Conflict(f"cannot {verb} {place}: {said}", "try again")
    if status == 410:
        return Expired(f"cannot {verb} {place}: {said}", "try again")
    if status in (429, 502, 503, 504) or (status == 500 and verb in ("get", "list", "watch")):
        return Busy(f"cannot {verb} {place}: the API server is busy ({status}): {said}", "try again later")
    if status in (400, 422):
        return admission(said, verb) or ClusterError(
            f"the API server refuses to {verb} {place}: {said}",
            "look at the agent.* keys of the configuration",
        )
    return ClusterError(f"cannot {verb} {place}: {status} {said}", "`kubectl` must be able to do the same")


def unreachable(host: str, context: str, error: BaseException, sent: bool = True) -> Unreachable:
    """A connection that failed before there was an answer."""
    said = str(error) or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in said or "certificate" in said.lower():
        return Unreachable(
            f"the certificate of {host} is not trusted (context {context}): {said}",
            "check certificate-authority in the kubeconfig, or set accept_invalid_certificates: true",
            sent,
            retry=False,
        )
    return Unreachable(
        f"no answer from the API server {host} (context {context}): {said}",
        "check the cluster, VPN and proxy: `kubectl get pods` must work",
        sent,
    )
