"""The kubernetes runtime against a real cluster and the real agent: both forms, and every refusal."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from attrs import evolve

from pymirror.core.channel import Channel, Keys
from pymirror.core.errors import ClusterError, PymirrorError, UserError
from pymirror.core.handshake import greet
from pymirror.core.session import AgentOrder
from pymirror.features.env.layer import Layer as EnvLayer
from pymirror.features.env.messages import AskVariables
from pymirror.features.hostname.layer import Layer as HostnameLayer
from pymirror.features.hostname.messages import AskHostname
from pymirror.runtimes.kubernetes.config import Config
from pymirror.runtimes.kubernetes.listing import list_targets
from pymirror.runtimes.kubernetes.runtime import Runtime

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

HALVES = (EnvLayer, HostnameLayer)
RIGHTS = ("DAC_OVERRIDE", "SYS_PTRACE")
RESTRICTED = {
    "runAsUser": 1000,
    "runAsGroup": 1000,
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


class Words:
    """A Report that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.starting = asyncio.Event()

    def step(self, text: str) -> None:
        self.said.append(text)
        self.starting.set()

    def info(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.said.append(text)

    def ready(self, lines: Sequence[str]) -> None:
        self.said.extend(lines)

    def trace(self, call: Any, verdict: Any) -> None:
        self.said.append(f"{call} {verdict}")


@pytest.fixture
def config(cluster: Any) -> Config:
    return Config(kubeconfig=str(cluster.kubeconfig))


async def ask(config: Config, target: str | None, namespace: str) -> tuple[bytes, dict[bytes, bytes], str]:
    """A whole session as far as the runtime goes: (host name, environment, title)."""
    names = tuple(half.name for half in HALVES)
    keys = Keys.generate()
    async with AsyncExitStack() as undo:
        runtime = Runtime(config, target, namespace, Words())
        found = await runtime.check(names)
        endpoint = await runtime.start(found, AgentOrder(keys.public, names, 10.0, RIGHTS), undo)
        channel = await Channel.connect(endpoint.address, keys, endpoint.agent_key, heartbeat=3.0, lease=10.0)
        undo.push_async_callback(channel.aclose)
        await greet(channel, version("pymirror"), [(half, half.Config()) for half in HALVES])
        hostname = (await channel.peer("hostname").request(AskHostname())).name
        variables = await channel.peer("env").request(AskVariables([], []))
        pairs = (entry.split(b"=", 1) for entry in variables.block.split(b"\0") if entry)
        return hostname, {name: value for name, value in pairs}, found.title


async def refused(config: Config, target: str | None, namespace: str) -> PymirrorError:
    """The error a session ends in before it began."""
    with pytest.raises(PymirrorError) as caught:
        await ask(config, target, namespace)
    return caught.value


def agents(cluster: Any, namespace: str) -> list[str]:
    """Jobs and pods of agents that are there and not on their way out."""
    found = json.loads(
        cluster.kubectl("get", "jobs,pods", "-l", "app=pymirror", "-n", namespace, "-o", "json")
    )
    return [
        each["metadata"]["name"] for each in found["items"] if not each["metadata"].get("deletionTimestamp")
    ]


GREETING = [{"name": "GREETING", "value": "from the pod"}]


@pytest.mark.parametrize("form", ["job", "ephemeral"])
@pytest.mark.parametrize("user", [0, 1000])
async def test_an_agent_reads_its_target(
    cluster: Any, namespace: str, make_pod: Callable[..., None], config: Config, form: str, user: int
) -> None:
    make_pod("web", env=GREETING, securityContext={"runAsUser": user})
    hostname, variables, title = await ask(
        evolve(config, ephemeral=form == "ephemeral"), "pod/web", namespace
    )
    assert hostname == b"web"
    assert variables[b"GREETING"] == b"from the pod"
    assert title == f"pod/web/container/main in namespace {namespace}"
    assert agents(cluster, namespace) == []


async def test_restricted_namespaces_take_the_ephemeral_agent(
    cluster: Any, namespace: str, make_pod: Callable[..., None], config: Config
) -> None:
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    make_pod("web", env=GREETING, securityContext=RESTRICTED)
    hostname, variables, _ = await ask(evolve(config, ephemeral=True), "pod/web", namespace)
    assert (hostname, variables[b"GREETING"]) == (b"web", b"from the pod")
    error = await refused(config, "pod/web", namespace)
    assert isinstance(error, ClusterError)
    assert "violates PodSecurity" in error.message
    assert "agent.ephemeral" in error.hint
    assert agents(cluster, namespace) == []


async def test_a_root_target_where_no_right_may_be_added(
    cluster: Any, namespace: str, make_pod: Callable[..., None], config: Config
) -> None:
    """Pod Security `baseline` refuses SYS_PTRACE: the agent is root with the target's own capabilities.

    It opens the environment before it gives up the rest of its rights.
    """
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=baseline")
    make_pod("web", env=GREETING)
    hostname, variables, _ = await ask(evolve(config, ephemeral=True), "pod/web", namespace)
    assert (hostname, variables[b"GREETING"]) == (b"web", b"from the pod")
    pod = json.loads(cluster.kubectl("get", "pod", "web", "-n", namespace, "-o", "json"))
    (agent,) = pod["spec"]["ephemeralContainers"]
    assert "capabilities" not in agent["securityContext"]


async def test_an_ephemeral_agent_ends_with_its_session(
    cluster: Any, namespace: str, make_pod: Callable[..., None], config: Config
) -> None:
    make_pod("web", securityContext={"runAsUser": 1000})
    await ask(evolve(config, ephemeral=True), "pod/web", namespace)  # no goodbye: the lease ends it
    assert [row["path"] for row in await list_targets(config, namespace, None)] == ["pod/web"]
    cluster.kubectl(
        *("wait", "-n", namespace, "pod/web", "--timeout=30s"),
        "--for=jsonpath={.status.ephemeralContainerStatuses[0].state.terminated.reason}",
    )


async def test_without_a_target(cluster: Any, namespace: str, config: Config) -> None:
    hostname, _, title = await ask(config, None, namespace)
    assert hostname.startswith(b"pymirror-agent-")
    assert title == "no target"
    assert agents(cluster, namespace) == []
    error = await refused(evolve(config, ephemeral=True), None, namespace)
    assert "needs a target" in error.message


async def test_targets_of_every_kind(cluster: Any, namespace: str, config: Config) -> None:
    container = {"name": "main", "image": "localhost/busybox:1", "command": ["sleep", "infinity"]}
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container]}
    for kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"):
        labels = {"app": kind.lower(), "tier": "web"}
        expression = {"key": "tier", "operator": "In", "values": ["web", "api"]}
        body: dict[str, Any] = {
            "selector": {"matchLabels": {"app": kind.lower()}, "matchExpressions": [expression]},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        }
        if kind == "StatefulSet":
            body["serviceName"] = "x"
        cluster.apply(
            {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "x"}, "spec": body}, namespace
        )
    template = {"spec": {**spec, "restartPolicy": "Never"}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, "spec": {"template": template}}
    cluster.apply(job, namespace)
    service = {"selector": {"app": "deployment"}, "ports": [{"port": 80}]}
    cluster.apply(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": service}, namespace
    )
    for label in ("app=deployment", "app=statefulset", "app=daemonset", "app=replicaset", "job-name=x"):
        cluster.kubectl("wait", "-n", namespace, "pod", "-l", label, "--for=create", "--timeout=50s")
        cluster.kubectl("wait", "-n", namespace, "pod", "-l", label, "--for=condition=Ready", "--timeout=50s")
    for target in (
        *("deployment/x", "deploy/x/container/main", "statefulset/x", "daemonset/x", "replicaset/x"),
        *("job/x", "service/x", "label/app=deployment,tier=web"),
    ):
        found = await Runtime(config, target, namespace, Words()).check(["env"])
        assert "container/main" in found.title, target
    listed = {row["path"]: row["available"] for row in await list_targets(config, namespace, None)}
    for kind in ("deployment", "statefulset", "daemonset", "replicaset", "job", "service"):
        assert listed[f"{kind}/x"] is True, kind


async def test_unknown_targets_are_named(
    cluster: Any, namespace: str, make_pod: Callable[..., None], config: Config
) -> None:
    make_pod("web")
    error = await refused(config, "pod/wep", namespace)
    assert isinstance(error, UserError)
    assert "did you mean web?" in error.hint
    error = await refused(config, "pod/web/container/side", namespace)
    assert "its containers: main" in error.hint
    assert "no deployment web" in (await refused(config, "deployment/web", namespace)).message
    with pytest.raises(UserError, match="there is no namespace nosuch"):
        await list_targets(config, "nosuch")


async def test_an_image_that_cannot_be_pulled(
    cluster: Any, namespace: str, make_pod: Callable[..., None], config: Config
) -> None:
    make_pod("web")
    error = await refused(
        evolve(config, image="localhost/nobody:1", image_pull_policy="Never"), "pod/web", namespace
    )
    assert "localhost/nobody:1 cannot be had (ErrImageNeverPull)" in error.message
    assert agents(cluster, namespace) == []


async def test_a_target_that_is_deleted_while_starting(
    cluster: Any, namespace: str, make_pod: Callable[..., None], config: Config
) -> None:
    make_pod("web")
    words = Words()
    # the agent's pod fits no node, so the start waits
    stuck = evolve(config, resources={"requests": {"memory": "900Gi"}, "limits": {"memory": "900Gi"}})
    runtime = Runtime(stuck, "pod/web", namespace, words)
    found = await runtime.check(["env"])
    async with AsyncExitStack() as undo:
        order = AgentOrder(Keys.generate().public, ("env",), 10.0, RIGHTS)
        starting = asyncio.ensure_future(runtime.start(found, order, undo))
        cluster_side = asyncio.get_running_loop()
        await cluster_side.run_in_executor(None, waits_for_place, cluster, namespace)
        await cluster_side.run_in_executor(None, delete, cluster, namespace)
        with pytest.raises(ClusterError, match="pod/web was deleted while the agent was starting"):
            await asyncio.wait_for(starting, 30)
    assert any("Insufficient memory" in line for line in words.said)
    assert agents(cluster, namespace) == []


def waits_for_place(cluster: Any, namespace: str) -> None:
    agent = ("pod", "-n", namespace, "-l", "app=pymirror", "--timeout=30s")
    cluster.kubectl("wait", *agent, "--for=create")
    cluster.kubectl("wait", *agent, "--for=jsonpath={.status.conditions[0].reason}=Unschedulable")


def delete(cluster: Any, namespace: str) -> None:
    cluster.kubectl("delete", "pod", "web", "-n", namespace, "--now")


def account(cluster: Any, namespace: str, folder: Path, rules: list[dict[str, Any]]) -> Config:
    """A kubeconfig of a service account that has `rules` in the namespace and nothing else."""
    cluster.kubectl("create", "serviceaccount", "dev", "-n", namespace)
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "dev"}}
    cluster.apply({**role, "rules": rules}, namespace)
    bound = ("--role=dev", f"--serviceaccount={namespace}:dev", "-n", namespace)
    cluster.kubectl("create", "rolebinding", "dev", *bound)
    token = cluster.kubectl("create", "token", "dev", "-n", namespace).strip()
    kube = yaml.safe_load(cluster.kubeconfig.read_text())
    kube["users"] = [{"name": kube["users"][0]["name"], "user": {"token": token}}]
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(kube))
    return Config(kubeconfig=str(path))


READ = [
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": [""], "resources": ["pods/log", "pods/portforward"], "verbs": ["get", "create"]},
]


async def test_missing_rights_are_told_before_anything_is_made(
    cluster: Any, namespace: str, make_pod: Callable[..., None], tmp_path: Path
) -> None:
    make_pod("web")
    error = await refused(account(cluster, namespace, tmp_path, READ), "pod/web", namespace)
    assert 'apiGroups: ["batch"], resources: ["jobs"], verbs: ["create"]' in error.hint
    assert agents(cluster, namespace) == []


async def test_the_least_rights_are_enough(
    cluster: Any, namespace: str, make_pod: Callable[..., None], tmp_path: Path
) -> None:
    make_pod("web", env=GREETING)
    jobs = {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get", "delete"]}
    config = account(cluster, namespace, tmp_path, [*READ, jobs])
    _, variables, _ = await ask(config, "pod/web", namespace)
    assert variables[b"GREETING"] == b"from the pod"


async def test_a_user_without_any_right(
    cluster: Any, namespace: str, make_pod: Callable[..., None], tmp_path: Path
) -> None:
    make_pod("web")
    error = await refused(account(cluster, namespace, tmp_path, []), "pod/web", namespace)
    assert "may not" in error.message
    assert 'apiGroups: [""]' in error.hint


async def test_an_api_server_that_is_not_there(cluster: Any, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kube = yaml.safe_load(cluster.kubeconfig.read_text())
    kube["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(kube))
    error = await refused(Config(kubeconfig=str(path)), "pod/web", "default")
    assert f"no answer from the API server https://127.0.0.1:{port}" in error.message


async def test_a_certificate_of_another_authority(cluster: Any, tmp_path: Path) -> None:
    kube = yaml.safe_load(cluster.kubeconfig.read_text())
    entry = kube["clusters"][0]["cluster"]
    for key in ("certificate-authority", "certificate-authority-data"):
        entry.pop(key, None)
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(kube))
    error = await refused(Config(kubeconfig=str(path)), "pod/web", "default")
    assert "is not trusted" in error.message
    assert "accept_invalid_certificates" in error.hint
    kube["users"][0]["user"] = {"token": base64.b64encode(b"nobody").decode()}
    path.write_text(yaml.safe_dump(kube))
    error = await refused(
        Config(kubeconfig=str(path), accept_invalid_certificates=True), "pod/web", "default"
    )
    assert "does not know you" in error.message


async def test_a_killed_layer_leaves_nothing(
    cluster: Any, namespace: str, make_pod: Callable[..., None], config: Config
) -> None:
    make_pod("web")
    async with AsyncExitStack() as undo:
        runtime = Runtime(config, "pod/web", namespace, Words())
        found = await runtime.check(["env"])
        await runtime.start(found, AgentOrder(Keys.generate().public, ("env",), 3.0, RIGHTS), undo)
        assert agents(cluster, namespace) != []
        # nobody ever speaks to the agent, nobody deletes its Job: the lease and the TTL do it
        gone = ("wait", "-n", namespace, "jobs,pods", "-l", "app=pymirror", "--for=delete", "--timeout=40s")
        await asyncio.get_running_loop().run_in_executor(None, lambda: cluster.kubectl(*gone))
        assert agents(cluster, namespace) == []
