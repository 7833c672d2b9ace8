"""Refusals and news: what the cluster said, as an error or a line with a next step."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pymirror.core.errors import PeerError, PymirrorError
from pymirror.runtimes.kubernetes import progress
from pymirror.runtimes.kubernetes.api import Retry, repeatable
from pymirror.runtimes.kubernetes.refusals import (
    Busy,
    Conflict,
    Expired,
    Forbidden,
    NotFound,
    Unreachable,
    translate,
    unreachable,
)
from pymirror.runtimes.kubernetes.resources import JOBS, NODES, PODS, ROLLOUTS, Place
from pymirror.runtimes.kubernetes.runtime import needed, review


@pytest.mark.parametrize(
    ("place", "path"),
    [
        (PODS.at("shop", "api"), "/api/v1/namespaces/shop/pods/api"),
        (PODS.at("shop", "api", "log"), "/api/v1/namespaces/shop/pods/api/log"),
        (PODS.at(), "/api/v1/pods"),
        (JOBS.at("shop"), "/apis/batch/v1/namespaces/shop/jobs"),
        (NODES.at(name="n"), "/api/v1/nodes/n"),
    ],
)
def test_places_have_paths(place: Place, path: str) -> None:
    assert place.path == path


def status(message: str) -> bytes:
    return json.dumps({"kind": "Status", "message": message}).encode()


RBAC = 'pods is forbidden: User "dev" cannot list resource "pods" in API group "" in the namespace "shop"'
SECURITY = 'pods "x" is forbidden: violates PodSecurity "restricted:latest": host namespaces (hostPID=true)'


ENDING = 'jobs.batch "x" is forbidden: unable to create new content in namespace shop because it is being terminated'


@pytest.mark.parametrize(
    ("verb", "place", "code", "body", "kind", "parts"),
    [
        (
            "create",
            JOBS.at("shop"),
            403,
            status(ENDING),
            Forbidden,
            ["namespace shop is being deleted", "choose another"],
        ),
        (
            "list",
            PODS.at("shop"),
            403,
            status(RBAC),
            Forbidden,
            ['resources: ["pods"], verbs: ["list"]', "dev"],
        ),
        (
            "create",
            JOBS.at("shop"),
            403,
            status('User "dev" cannot create resource "jobs" in API group "batch"'),
            Forbidden,
            ['apiGroups: ["batch"]'],
        ),
        ("create", JOBS.at("shop"), 403, status(SECURITY), PymirrorError, ["hostPID", "agent.ephemeral"]),
        ("patch", PODS.at("shop", "a"), 403, status(SECURITY), PymirrorError, ["hostPID", "runAsUser"]),
        (
            "create",
            JOBS.at("s"),
            403,
            status("exceeded quota: q"),
            PymirrorError,
            ["quota", "agent.resources"],
        ),
        (
            "create",
            JOBS.at("s"),
            400,
            status('admission webhook "w" denied the request: no'),
            PymirrorError,
            ["admission policy", "denied"],
        ),
        ("get", PODS.at("s", "a"), 401, status("Unauthorized"), PymirrorError, ["log in again", "ctx"]),
        ("get", PODS.at("s", "a"), 404, status("gone"), NotFound, ["pod/a in namespace s"]),
        (
            "get",
            ROLLOUTS.at("s", "a"),
            404,
            b"404 page not found\n",
            NotFound,
            ["this cluster has no rollouts (API argoproj.io/v1alpha1)", "kubectl api-resources"],
        ),
        ("watch", PODS.at("s"), 410, status("too old"), Expired, ["too old"]),
        ("create", JOBS.at("s"), 409, status("exists"), Conflict, ["exists"]),
        ("create", JOBS.at("s"), 422, status("bad image"), PymirrorError, ["bad image", "agent.*"]),
        ("get", PODS.at("s", "a"), 503, b"<html>down</html>", Busy, ["busy (503)", "down"]),
        ("create", JOBS.at("s"), 500, b"", PymirrorError, ["500"]),
    ],
)
def test_refusals_have_a_next_step(
    verb: str, place: Place, code: int, body: bytes, kind: type[PymirrorError], parts: list[str]
) -> None:
    error = translate(verb, place, code, body, "ctx")
    assert isinstance(error, kind)
    assert error.hint
    for part in parts:
        assert part in str(error)


def test_only_what_is_safe_is_repeated() -> None:
    assert repeatable("get", unreachable("h", "c", OSError("refused")))
    assert repeatable("create", unreachable("h", "c", OSError("refused"), sent=False))
    assert not repeatable("create", unreachable("h", "c", OSError("reset")))
    assert repeatable("review", unreachable("h", "c", OSError("reset")))
    assert not repeatable("get", unreachable("h", "c", OSError("CERTIFICATE_VERIFY_FAILED")))
    assert repeatable("list", Busy("later"))
    assert not repeatable("create", Busy("later"))
    assert repeatable("watch", Expired("too old"))
    assert not repeatable("get", NotFound("no"))
    assert isinstance(unreachable("h", "c", OSError()), Unreachable)


def test_retries_wait_longer_each_time_and_not_too_long() -> None:
    retry = Retry(0.5, 5.0, 2)
    assert [retry.wait(attempt, 1.0) for attempt in range(5)] == [0.5, 1.0, 2.0, 4.0, 5.0]
    assert retry.wait(0, 0.0) == 0.25


def a_pod(state: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    found = [{"name": "agent", "image": "agent:1", "state": state}] if state is not None else []
    status = {"phase": "Pending", "containerStatuses": found, **changes.pop("status", {})}
    return {"metadata": {"name": "p", "uid": "u", **changes}, "spec": {}, "status": status}


@pytest.mark.parametrize(
    ("pod", "kind", "part"),
    [
        (a_pod(), "waiting", "pod/p is there, no node has been chosen yet"),
        (a_pod({"waiting": {"reason": "ContainerCreating"}}), "waiting", "ContainerCreating"),
        (a_pod({"running": {}}), "running", ""),
        (
            a_pod({"waiting": {"reason": "ErrImagePull", "message": "no such"}}),
            "failed",
            "agent:1 cannot be had",
        ),
        (a_pod({"waiting": {"reason": "InvalidImageName"}}), "failed", "InvalidImageName"),
        (
            a_pod({"waiting": {"reason": "CreateContainerConfigError", "message": "runAsNonRoot"}}),
            "failed",
            "made",
        ),
        (a_pod({"terminated": {"exitCode": 3, "message": "boom"}}), "failed", "exit status 3): boom"),
        (a_pod(deletionTimestamp="now"), "failed", "deleted while it started"),
        (a_pod(status={"phase": "Failed", "reason": "OutOfpods", "message": "full"}), "failed", "no room"),
        (a_pod(status={"phase": "Failed", "reason": "Evicted", "message": "disk"}), "failed", "Evicted"),
        (
            a_pod(
                status={
                    "conditions": [{"type": "PodScheduled", "status": "False", "message": "Too many pods"}]
                }
            ),
            "waiting",
            "finds no place: Too many pods",
        ),
    ],
)
def test_news_of_the_agents_pod(pod: dict[str, Any], kind: str, part: str) -> None:
    news = progress.of_pod(pod, "agent")
    assert news.kind == kind
    assert part in news.text
    assert news.kind != "failed" or news.hint


@pytest.mark.parametrize(
    ("pod", "quiet"),
    [
        (a_pod(), True),
        ({**a_pod(), "spec": {"nodeName": "node2"}}, True),
        (a_pod({"waiting": {}}), True),
        (a_pod({"waiting": {"reason": "PodInitializing"}}), True),
        (a_pod({"waiting": {"reason": "CrashLoopBackOff"}}), False),
    ],
)
def test_what_is_usual_is_told_only_when_time_is_over(pod: dict[str, Any], quiet: bool) -> None:
    news = progress.of_pod(pod, "agent")
    assert news.quiet == quiet
    assert news.text


ACCOUNT = (
    'Error creating: pods "pymirror-agent-x-" is forbidden: error looking up service account shop/nope:'
    ' serviceaccount "nope" not found'
)


@pytest.mark.parametrize(
    ("reason", "message", "kind"),
    [
        ("FailedCreate", SECURITY, "failed"),
        ("FailedCreate", ACCOUNT, "failed"),
        ("OutOfpods", "Node didn't have enough resource: pods", "failed"),
        ("Pulling", 'Pulling image "x"', "waiting"),
        ("FailedScheduling", "0/1 nodes", "waiting"),
        ("Scheduled", "", None),
    ],
)
def test_news_of_events(reason: str, message: str, kind: str | None) -> None:
    news = progress.of_event({"reason": reason, "message": message})
    assert (news.kind if news else None) == kind


def test_a_target_that_goes_is_noticed() -> None:
    assert progress.of_target(a_pod(), "u") is None
    assert progress.of_target(a_pod(), "other") is not None
    assert progress.of_target(a_pod(deletionTimestamp="now"), "u") is not None


def test_the_ready_line_is_told_from_noise() -> None:
    line = b'{"pymirror_agent": "1", "key": "k", "port": 7}'
    assert progress.ready_line(line, "1") == progress.Ready("k", 7)
    for noise in (b"", b"hello", b"{broken", b'{"level": "info"}'):
        assert progress.ready_line(noise, "1") is None
    with pytest.raises(PeerError, match="the agent is pymirror 1, this side is 2"):
        progress.ready_line(line, "2")


def test_what_starting_needs_is_asked_for() -> None:
    asked = {(verb, place.role_resource) for verb, place in needed("shop", ephemeral=False)}
    assert ("create", "jobs") in asked
    assert ("patch", "pods/ephemeralcontainers") not in asked
    asked = {(verb, place.role_resource) for verb, place in needed("shop", ephemeral=True)}
    assert ("patch", "pods/ephemeralcontainers") in asked
    assert ("create", "jobs") not in asked
    body = review("get", PODS.at("shop", subresource="log"))
    assert body["spec"]["resourceAttributes"] == {
        "verb": "get",
        "group": "",
        "resource": "pods",
        "namespace": "shop",
        "subresource": "log",
    }
