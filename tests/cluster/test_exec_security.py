"""The agent is alone: loopback only, one key, least rights, nothing secret in sight."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from pymirror.core.channel import Channel, Keys
from pymirror.core.errors import PeerError

pytestmark = pytest.mark.cluster

KEYS = Keys.generate()
"""The session's own, given to it by the test, so that the right key can be tried beside a wrong one."""
START = (
    "import sys; from pymirror.cli.main import main; from pymirror.core.channel import Keys\n"
    f"Keys.generate = lambda: Keys({KEYS.public!r}, {KEYS.secret!r})\n"
    "sys.exit(main())"
)


@pytest.fixture(scope="module", params=[(), ("-e",)], ids=["job", "ephemeral"])
def running(cluster: Any, request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """A session in full swing: where its agent is, its key and port, and its container's spec."""
    name = "security-" + ("ephemeral" if request.param else "job")
    cluster.kubectl("create", "namespace", name)
    cluster.pod(name, "web", env=[{"name": "PASSWORD", "value": "hunter2"}])
    cluster.pod(name, "other")
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", START, "exec", *request.param, "-n", name, "-t", "pod/web"),
            *("--", "sh", "-c", "echo ready; exec sleep 1000"),
        ],
        env={**os.environ, **cluster.variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    try:
        yield {"namespace": name, **agent_of(cluster, name, bool(request.param))}
    finally:
        process.terminate()
        process.communicate()
        cluster.kubectl("delete", "pods", "--all", "--now", "-n", name)
        cluster.kubectl("delete", "namespace", name, "--wait=false")


def agent_of(cluster: Any, namespace: str, ephemeral: bool) -> dict[str, Any]:
    pods = json.loads(cluster.kubectl("get", "pods", "-n", namespace, "-o", "json"))["items"]
    pod = next(p for p in pods if p["metadata"]["name"].startswith("web" if ephemeral else "pymirror-agent-"))
    container = pod["spec"]["ephemeralContainers" if ephemeral else "containers"][0]
    log = cluster.kubectl("logs", "-n", namespace, pod["metadata"]["name"], "-c", container["name"])
    ready = json.loads(next(line for line in log.splitlines() if "pymirror_agent" in line))
    return {
        "pod": pod["metadata"]["name"],
        "ip": pod["status"]["podIP"],
        "spec": pod["spec"],
        "container": container,
        "log": log,
        **ready,
    }


def test_another_pod_cannot_reach_its_port(cluster: Any, running: dict[str, Any]) -> None:
    probe = f"nc -w 2 {running['ip']} {running['port']} </dev/null >/dev/null 2>&1; echo status $?"
    assert cluster.exec(running["namespace"], "other", "sh", "-c", probe).strip() == "status 1"
    if running["pod"] == "web":  # the same port on the pod's own loopback answers: the probe can tell
        inside = f"sleep 1 | nc -w 3 127.0.0.1 {running['port']} | head -c 1 | wc -c"
        assert cluster.exec(running["namespace"], "web", "sh", "-c", inside).strip() == "1"


@pytest.fixture
def forwarded(cluster: Any, running: dict[str, Any]) -> Iterator[str]:
    """The agent's port on this machine, by kubectl's own port-forward."""
    forward = subprocess.Popen(
        [
            "kubectl",
            "port-forward",
            "-n",
            running["namespace"],
            f"pod/{running['pod']}",
            f":{running['port']}",
        ],
        env={**os.environ, **cluster.variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert forward.stdout is not None
        found = re.search(r"127\.0\.0\.1:(\d+)", forward.stdout.readline())
        assert found
        yield f"tcp://127.0.0.1:{found[1]}"
    finally:
        forward.terminate()
        forward.communicate()


async def test_another_key_gets_nothing_where_the_right_one_is_answered(
    forwarded: str, running: dict[str, Any]
) -> None:
    """The words are the agent's own in both cases: a forward that is dead gives none of them."""
    with pytest.raises(PeerError, match="refused this session's key"):
        await Channel.connect(forwarded, Keys.generate(), running["key"])
    with pytest.raises(PeerError, match="serves another connection already"):
        await Channel.connect(forwarded, KEYS, running["key"])


def test_least_rights(running: dict[str, Any]) -> None:
    context = running["container"]["securityContext"]
    assert context["allowPrivilegeEscalation"] is False
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"]["drop"] == ["ALL"]
    network = set() if running["pod"] == "web" else {"SYS_ADMIN"}  # a container of the pod is in it already
    assert set(context["capabilities"].get("add", [])) <= {"SYS_PTRACE", "DAC_OVERRIDE", *network}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    if running["pod"] != "web":
        assert running["spec"]["automountServiceAccountToken"] is False
        assert not [v for v in running["spec"].get("volumes", []) if "hostPath" in v or "projected" in v]


def test_nothing_secret_in_spec_or_log(running: dict[str, Any]) -> None:
    shown = json.dumps(running["container"]) + running["log"]
    assert "hunter2" not in shown
    assert "--layer-key=" in shown  # the public half, and the only key there
