"""The test cluster for this tier: started once, a namespace per test, pods that end at once.

PYMIRROR_TEST_CLUSTER=keep uses one that runs already, and leaves the one it starts running.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
AGENT_IMAGE = "localhost/pymirror-agent:0.1.0"
BUSYBOX = "localhost/busybox:1"
Json = dict[str, Any]


class Cluster:
    """The running cluster, as its tests use it."""

    def __init__(self, variables: dict[str, str]) -> None:
        self.variables = variables
        self.kubeconfig = Path(variables["KUBECONFIG"])

    def kubectl(self, *words: str, given: str | None = None, limit: float = 60) -> str:
        """Runs kubectl; returns its output; raises with its words when it fails."""
        done = subprocess.run(
            ["kubectl", *words],
            env={**os.environ, **self.variables},
            input=given,
            text=True,
            capture_output=True,
            timeout=limit,
            check=False,
        )
        assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr}"
        return done.stdout

    def apply(self, thing: Json, namespace: str) -> None:
        self.kubectl("apply", "-n", namespace, "-f", "-", given=json.dumps(thing))

    def pod(self, namespace: str, name: str, **container: Any) -> None:
        """Creates a pod of one container `main` (busybox, asleep, unless said); waits until it is Ready."""
        described = {"name": "main", "image": BUSYBOX, "command": ["sleep", "infinity"], **container}
        spec = {"terminationGracePeriodSeconds": 0, "containers": [described]}
        metadata = {"name": name, "labels": {"app": name}}
        self.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}, namespace)
        self.kubectl("wait", "-n", namespace, "--for=condition=Ready", f"pod/{name}", "--timeout=50s")

    def exec(self, namespace: str, pod: str, *command: str) -> str:
        return self.kubectl("exec", "-n", namespace, pod, "--", *command)


def manage(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, str(HERE / "cluster.py"), *words], text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, f"cluster.py {' '.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout


def variables() -> dict[str, str]:
    words = manage("env").removeprefix("export ").split()
    found = dict(word.split("=", 1) for word in words)
    return {**found, "PATH": found["PATH"].replace("$PATH", os.environ["PATH"])}


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The cluster, with the agent's image of this checkout in every node."""
    keep = os.environ.get("PYMIRROR_TEST_CLUSTER") == "keep"
    found = variables()
    try:
        if not (keep and Path(found["KUBECONFIG"]).exists()):
            manage("start")
        archive = ROOT / "dist/pymirror-agent.tar"
        assert archive.exists(), "the agent's image is not there: run scripts/build"
        manage("load", str(archive))
        yield Cluster(found)
    finally:
        if not keep:
            manage("stop")


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of this test's own; its pods are ended at once afterwards."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    try:
        yield name
    finally:
        cluster.kubectl("delete", "pods", "--all", "--now", "-n", name)
        cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def make_pod(cluster: Cluster, namespace: str) -> Callable[..., None]:
    def make(name: str, **container: Any) -> None:
        cluster.pod(namespace, name, **container)

    return make
