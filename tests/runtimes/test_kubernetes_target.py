"""Which pod and container a target means: tables over text and API objects."""

from __future__ import annotations

from typing import Any

import pytest

from pymirror.core.errors import UserError
from pymirror.runtimes.kubernetes.listing import of_pod, of_workload
from pymirror.runtimes.kubernetes.target import (
    Chosen,
    Wanted,
    check_namespace,
    choose,
    first_usable,
    is_agent,
    mesh,
    nearest,
    parse,
    pick,
    ports,
    selector,
)


def a_pod(name: str = "api", *containers: str, **changes: Any) -> dict[str, Any]:
    names = containers or ("web",)
    return {
        "metadata": {"name": name, "namespace": "shop", "uid": f"uid-{name}", **changes.get("metadata", {})},
        "spec": {
            "nodeName": "node1",
            "containers": [{"name": each} for each in names],
            **changes.get("spec", {}),
        },
        "status": {
            "phase": "Running",
            "containerStatuses": [
                {
                    "name": each,
                    "ready": True,
                    "containerID": f"containerd://id-{each}",
                    "state": {"running": {}},
                }
                for each in names
            ],
            **changes.get("status", {}),
        },
    }


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (None, None),
        ("targetless", None),
        ("pod/api", Wanted("pod", "api")),
        ("pod/api/container/web", Wanted("pod", "api", "web")),
        ("deploy/api", Wanted("deployment", "api")),
        ("deployment/api/container/web", Wanted("deployment", "api", "web")),
        ("statefulset/db", Wanted("statefulset", "db")),
        ("replicaset/x", Wanted("replicaset", "x")),
        ("daemonset/x", Wanted("daemonset", "x")),
        ("job/x", Wanted("job", "x")),
        ("service/x", Wanted("service", "x")),
        ("rollout/x", Wanted("rollout", "x")),
        ("label/app=api,tier=web", Wanted("label", "app=api,tier=web")),
        (
            "label/app.kubernetes.io/name=api/container/web",
            Wanted("label", "app.kubernetes.io/name=api", "web"),
        ),
    ],
)
def test_a_target_is_read(text: str | None, wanted: Wanted | None) -> None:
    assert parse(text) == wanted


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("api", "pod/api"),
        ("deploymant/api", "did you mean deployment/api?"),
        ("deploymant/api/container/c", "did you mean deployment/api/container/c?"),
        ("", "the target is empty"),
        ("zzz/api", "kinds: pod"),
        ("pod/", "KIND/NAME"),
        ("pod/a/b", "KIND/NAME"),
        ("pod/a/container/", "KIND/NAME"),
        ("pod/a/container/b/c", "KIND/NAME"),
        ("label/app", "key=value"),
        ("pod/../secrets", "cannot be read"),
        ("pod/Web", "'Web' is no name"),
        ("pod/web?x=1", "is no name"),
        ("pod/web/container/-x", "'-x' is no name"),
    ],
)
def test_a_wrong_target_says_what_to_write(text: str, part: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(text)
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("workload", "text"),
    [
        ({"kind": "Service", "spec": {"selector": {"app": "a"}}}, "app=a"),
        ({"kind": "Service", "spec": {}}, ""),
        ({"spec": {"selector": {"matchLabels": {"a": "1", "b": "2"}}}}, "a=1,b=2"),
        (
            {
                "spec": {
                    "selector": {
                        "matchLabels": {"a": "1"},
                        "matchExpressions": [
                            {"key": "b", "operator": "In", "values": ["x", "y"]},
                            {"key": "c", "operator": "NotIn", "values": ["z"]},
                            {"key": "d", "operator": "Exists"},
                            {"key": "e", "operator": "DoesNotExist"},
                        ],
                    }
                }
            },
            "a=1,b in (x,y),c notin (z),d,!e",
        ),
    ],
)
def test_selectors_keep_their_expressions(workload: dict[str, Any], text: str) -> None:
    assert selector(workload) == text


@pytest.mark.parametrize(
    ("pod", "reason"),
    [
        (a_pod(status={"phase": "Pending"}), "it is Pending, not Running"),
        (a_pod(metadata={"deletionTimestamp": "now"}), "it is being deleted"),
        (a_pod(spec={"nodeName": None}), "it has no node yet"),
        (a_pod(status={"containerStatuses": []}), "its container web has no status yet"),
        (
            a_pod(
                status={
                    "containerStatuses": [
                        {"name": "web", "ready": False, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
                    ]
                }
            ),
            "its container web is not ready (waiting: CrashLoopBackOff)",
        ),
        (
            a_pod(status={"containerStatuses": [{"name": "web", "ready": True}]}),
            "its container web has no container id yet",
        ),
        (
            a_pod(status={"containerStatuses": [{"name": "web", "ready": True, "containerID": "rkt://x"}]}),
            "its container web runs under rkt, which is not one of containerd, cri-o, docker",
        ),
    ],
)
def test_a_pod_that_cannot_be_a_target_says_why(pod: dict[str, Any], reason: str) -> None:
    assert choose(pod, None) == reason


def test_a_running_pod_is_chosen() -> None:
    found = choose(a_pod(), None)
    assert found == Chosen("api", "shop", "uid-api", "node1", "web", "id-web")


@pytest.mark.parametrize(
    ("pod", "asked", "name", "warned"),
    [
        (a_pod("a", "web", "log"), "log", "log", False),
        (a_pod("a", "web", "log"), None, "web", True),
        (a_pod("a", "istio-proxy", "web"), None, "web", False),
        (a_pod("a", "istio-proxy"), None, "istio-proxy", False),
        (
            a_pod(
                "a",
                "web",
                "log",
                metadata={"annotations": {"kubectl.kubernetes.io/default-container": "log"}},
            ),
            None,
            "log",
            False,
        ),
        (
            a_pod("a", "web", metadata={"annotations": {"kubectl.kubernetes.io/default-container": "gone"}}),
            None,
            "web",
            False,
        ),
        (
            a_pod("a", "web", spec={"initContainers": [{"name": "side", "restartPolicy": "Always"}]}),
            "side",
            "side",
            False,
        ),
        (a_pod("a", "web", spec={"ephemeralContainers": [{"name": "debug"}]}), "debug", "debug", False),
    ],
)
def test_the_container_is_chosen(pod: dict[str, Any], asked: str | None, name: str, warned: bool) -> None:
    # a pod made with spec= has no containers of its own there: keep them
    pod["spec"].setdefault("containers", [{"name": "web"}])
    found, warning = pick(pod, asked)
    assert found == name
    assert bool(warning) is warned


def test_an_init_container_that_ends_is_no_target() -> None:
    pod = a_pod(spec={"initContainers": [{"name": "setup"}]})
    with pytest.raises(UserError, match="has no container setup"):
        pick(pod, "setup")


def test_the_first_usable_pod_by_name_is_taken() -> None:
    pods = [a_pod("c"), a_pod("a", status={"phase": "Pending"}), a_pod("b")]
    assert first_usable(Wanted("deployment", "x"), pods)[0].pod == "b"


def test_no_usable_pod_lists_the_reasons() -> None:
    with pytest.raises(UserError, match="pod/a: it is Pending, not Running"):
        first_usable(Wanted("deployment", "x"), [a_pod("a", status={"phase": "Pending"})])
    with pytest.raises(UserError, match="has no pods"):
        first_usable(Wanted("deployment", "x"), [])


def test_the_nearest_name_comes_first() -> None:
    assert nearest("apo", ["api", "zzz"], "pods") == "did you mean api? pods: api, zzz"
    assert nearest("apo", [], "pods") == "pods: none"


@pytest.mark.parametrize(
    ("pod", "name"),
    [
        (a_pod("a", "web"), None),
        (a_pod("a", "web", "istio-proxy"), "istio"),
        (a_pod("a", "web", "linkerd-proxy"), "linkerd"),
        (a_pod("a", "web", "kuma-sidecar"), "kuma"),
        (a_pod("a", metadata={"annotations": {"ambient.istio.io/redirection": "enabled"}}), "istio-ambient"),
    ],
)
def test_the_mesh_is_seen_without_init_containers(pod: dict[str, Any], name: str | None) -> None:
    assert mesh(pod) == name


@pytest.mark.parametrize("name", ["", "Shop", "a/b", "../x", "a.b", "-a", "a-", "a" * 64])
def test_what_cannot_be_a_namespace(name: str) -> None:
    with pytest.raises(UserError, match="cannot be the name of a namespace"):
        check_namespace(name)


def test_a_namespaces_name() -> None:
    check_namespace("kube-system")
    check_namespace("a" * 63)


@pytest.mark.parametrize(
    ("labels", "agent"),
    [
        ({"app": "pymirror"}, True),
        ({"app": "mirrord"}, True),
        ({"app": "mine", "pymirror.io/agent": "pymirror-agent-x"}, True),
        ({"app": "web"}, False),
        (None, False),
    ],
)
def test_agents_are_told_from_targets(labels: dict[str, str] | None, agent: bool) -> None:
    assert is_agent({"metadata": {"name": "x", "labels": labels}}) is agent


def test_an_ephemeral_agent_is_no_target() -> None:
    names = ("pymirror-agent-0123456789", "mirrord-agent-abc", "debugger")
    added = {"spec": {"nodeName": "n", "containers": [{"name": "web"}]}}
    added["spec"]["ephemeralContainers"] = [{"name": name} for name in names]
    pod = a_pod(**added)
    assert [row["path"] for row in of_pod(pod)] == ["pod/api/container/web", "pod/api/container/debugger"]
    with pytest.raises(UserError) as caught:
        pick(pod, "wep")
    assert "agent" not in caught.value.hint
    with pytest.raises(UserError, match="has no container pymirror-agent"):
        pick(pod, names[0])


def test_listing_names_containers_only_where_there_are_several() -> None:
    assert [row["path"] for row in of_pod(a_pod("a", "web"))] == ["pod/a"]
    rows = of_pod(a_pod("a", "web", "log", "istio-proxy"))
    assert [row["path"] for row in rows] == ["pod/a/container/web", "pod/a/container/log"]
    assert all(row["available"] for row in rows)


@pytest.mark.parametrize(
    ("kind", "item", "available"),
    [
        ("deployment", {"status": {"availableReplicas": 1}}, True),
        ("deployment", {"status": {}}, False),
        ("statefulset", {"status": {"readyReplicas": 2}}, True),
        ("daemonset", {"status": {"numberReady": 0}}, False),
        ("job", {"status": {"active": 1}}, True),
        ("service", {"spec": {"selector": {"a": "b"}}}, True),
        ("service", {"spec": {}}, False),
    ],
)
def test_listing_tells_what_is_available(kind: str, item: dict[str, Any], available: bool) -> None:
    row = of_workload(kind, {"metadata": {"name": "x"}, **item})
    assert (row["path"], row["available"]) == (f"{kind}/x", available)


def test_the_ports_that_a_container_declares() -> None:
    told = [
        {"containerPort": 80},
        {"containerPort": 53, "protocol": "UDP"},
        {"containerPort": 81, "protocol": "TCP"},
    ]
    web = {"name": "web", "ports": [*told, {"containerPort": 80, "hostPort": 8080}]}
    pod = a_pod(
        spec={"containers": [web, {"name": "proxy", "ports": [{"containerPort": 15001}]}, {"name": "bare"}]}
    )
    assert ports(pod, "web") == (80, 81)
    assert ports(pod, "proxy") == (15001,)
    assert ports(pod, "bare") == ()
