"""Where an agent goes and where it may not: nodes, free slots, quotas, admission policies."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.cluster

SPARE = "node2"  # has room for two pods
FULL = {"agent": {"check_out_of_pods": False}}
POLICY = "no-agents"
RULES = [
    {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]},
    {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["UPDATE"],
        "resources": ["pods/ephemeralcontainers"],
    },
]


@pytest.fixture
def target(cluster: Any, namespace: str) -> str:
    cluster.pod(namespace, "web", node=SPARE)
    return namespace


@pytest.fixture
def full(cluster: Any, target: str) -> str:
    """The namespace of a target on a node that has no room for another pod."""
    cluster.pod(target, "filler", node=SPARE)
    return target


def refused(session: Callable[..., Any], *words: str, **more: Any) -> str:
    one = session(*words, program=("true",), **more)
    status, said = one.rest()
    assert status == 125, said
    assert "Traceback" not in said
    one.nothing_here()
    return str(said)


def test_the_agent_goes_to_its_targets_node(
    cluster: Any, session: Callable[..., Any], target: str, nothing_there: Callable[..., None]
) -> None:
    one = session(program=("sh", "-c", "hostname; read end"))
    assert one.line() == "web"
    pods = json.loads(cluster.kubectl("get", "pods", "-n", target, "-o", "json"))["items"]
    assert [pod["spec"]["nodeName"] for pod in pods] == [SPARE, SPARE]
    assert len(pods) == 2
    assert one.rest()[0] == 1  # `read` at the end of its input
    nothing_there(target)


def test_a_full_node_is_told_before_anything_is_made(
    cluster: Any, session: Callable[..., Any], full: str
) -> None:
    before = cluster.there(full)
    said = refused(session)
    assert "node2 has no free pod slot for the agent (all 2 are taken)" in said
    assert "agent.ephemeral" in said
    assert cluster.there(full) == before


def test_an_ephemeral_agent_needs_no_slot(cluster: Any, session: Callable[..., Any], full: str) -> None:
    one = session("-e", program=("hostname",))
    assert one.line() == "web"
    assert one.rest()[0] == 0


def test_a_full_node_that_is_not_looked_at(
    session: Callable[..., Any], full: str, nothing_there: Callable[..., None]
) -> None:
    said = refused(session, "--agent-startup-timeout", "4", config=FULL)
    assert "the agent was not ready after" in said
    assert "Too many pods" in said.partition("last seen:")[2]
    nothing_there(full, pods=("filler", "web"))


def test_a_full_node_that_may_not_be_looked_at(
    cluster: Any, session: Callable[..., Any], full: str, nothing_there: Callable[..., None], tmp_path: Path
) -> None:
    """Without the right to read nodes the pod is bound past the scheduler: the node itself refuses it."""
    cluster.kubectl("create", "serviceaccount", "dev", "-n", full)
    bound = ("--clusterrole=admin", f"--serviceaccount={full}:dev", "-n", full)
    cluster.kubectl("create", "rolebinding", "dev", *bound)
    described = json.loads(cluster.kubectl("config", "view", "--raw", "-o", "json"))
    token = cluster.kubectl("create", "token", "dev", "-n", full).strip()
    described["users"] = [{"name": described["users"][0]["name"], "user": {"token": token}}]
    file = tmp_path / "kubeconfig"
    file.write_text(json.dumps(described))
    said = refused(session, KUBECONFIG=str(file))
    assert "the node has no room for the agent (OutOfpods)" in said
    assert "agent.ephemeral" in said
    nothing_there(full, pods=("filler", "web"))


@pytest.mark.parametrize("limit", ["count/jobs.batch=0", "pods=1"])
def test_a_quota(
    cluster: Any, session: Callable[..., Any], target: str, nothing_there: Callable[..., None], limit: str
) -> None:
    """Of Jobs: refused at once. Of pods: the Job is made and its pod refused, which an event tells."""
    cluster.kubectl("create", "quota", "small", f"--hard={limit}", "-n", target)
    counted = "--for=jsonpath={.status.hard}"
    cluster.kubectl("wait", "quota", "small", "-n", target, counted, "--timeout=20s")
    said = refused(session)
    assert "the namespace's quota refuses the agent" in said
    assert "exceeded quota: small" in said
    nothing_there(target)


@pytest.fixture
def policy(cluster: Any, target: str) -> Iterator[str]:
    """A policy that refuses agents in the target's namespace, in force."""
    chosen = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": target}}}
    words = [{"expression": "false", "message": "agents are not welcome"}]
    api = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": POLICY}}
    spec = {"matchConstraints": {**chosen, "resourceRules": RULES}, "validations": words}
    binding = {"policyName": POLICY, "validationActions": ["Deny"]}
    cluster.apply({**api, "kind": "ValidatingAdmissionPolicy", "spec": spec}, target)
    cluster.apply({**api, "kind": "ValidatingAdmissionPolicyBinding", "spec": binding}, target)
    asked = ("create", "job", "x", "--image=x", "-n", target, "--dry-run=server")
    try:
        cluster.until_refused(*asked)
        yield target
    finally:
        for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
            cluster.kubectl("delete", kind, POLICY)


@pytest.mark.parametrize("agent", [(), ("-e",)], ids=["job", "ephemeral"])
def test_an_admission_policy(cluster: Any, session: Callable[..., Any], policy: str, agent: Any) -> None:
    before = cluster.there(policy)
    said = refused(session, *agent)
    assert "an admission policy refuses the agent" in said
    assert "agents are not welcome" in said
    assert "agent.labels" in said
    assert cluster.there(policy) == before
