"""Pods whose containers run this machine's own programs, and programs run here in such a pod's context.

The cluster has no registry: a container mounts the machine read-only and changes its root to there. What it
writes goes to /srv, a folder of its pod; what it is given as a Secret lies in /mnt. A node covers /run, /var/lib
and /var/log of the machine: the checkout and its Python lie in none of these.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.cluster.exec_pod import START

Json = dict[str, Any]
BUSYBOX = "localhost/busybox:1"
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
OWN = (
    "AWS_",
    "CURL_",
    "GIT_",
    "GRPC_",
    "PG",
    "PIP_",
    "REDIS",
    "REQUESTS_",
    "SSL_",
)  # what a developer has set for the programs run here


def ready(*command: str) -> Json:
    """A probe: the container is ready when the command, of the container's own busybox, succeeds."""
    return {"exec": {"command": list(command)}, "periodSeconds": 1, "timeoutSeconds": 5}


def hosted(name: str, *command: str, port: int = 0, **more: Any) -> Json:
    """A container that runs a command of this machine, by root. port: where it listens once it is ready."""
    mounts = [
        ("machine", "/machine", True),
        ("scratch", "/machine/srv", False),
        ("given", "/machine/mnt", True),
    ]
    made = {
        "name": name,
        "image": BUSYBOX,
        "command": ["chroot", "/machine", *command],
        "env": [{"name": "PATH", "value": f"/bin:{PATH}"}, {"name": "HOME", "value": "/srv"}],
        "volumeMounts": [{"name": n, "mountPath": path, "readOnly": kept} for n, path, kept in mounts],
    }
    if port:
        made["readinessProbe"] = {"tcpSocket": {"port": port}, "periodSeconds": 1}
    return {**made, **more}


def pod(name: str, *containers: Json, given: str = "", **more: Any) -> Json:
    """given: the Secret shown in /mnt."""
    volumes = [
        {"name": "machine", "hostPath": {"path": "/"}},
        {"name": "scratch", "emptyDir": {}},
        {"name": "given", "secret": {"secretName": given}} if given else {"name": "given", "emptyDir": {}},
    ]
    spec = {"terminationGracePeriodSeconds": 0, "containers": list(containers), "volumes": volumes, **more}
    metadata = {"name": name, "labels": {"app": name}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def service(name: str, port: int, app: str) -> Json:
    spec = {"selector": {"app": app}, "ports": [{"port": port}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


class Context:
    """A namespace with the target. within: words before a command, to run it somewhere else here."""

    def __init__(
        self,
        cluster: Any,
        namespace: str,
        ephemeral: bool = False,
        within: tuple[str, ...] = (),
        target: str = "pod/web/container/main",
    ) -> None:
        self.cluster, self.namespace, self.ephemeral, self.within = cluster, namespace, ephemeral, within
        self.target = target

    def apply(self, *things: Json) -> None:
        """Makes them, and waits for the pods among them to be ready."""
        self.cluster.apply({"apiVersion": "v1", "kind": "List", "items": list(things)}, self.namespace)
        pods = [f"pod/{thing['metadata']['name']}" for thing in things if thing["kind"] == "Pod"]
        if pods:
            self.cluster.kubectl(
                "wait", "-n", self.namespace, "--for=condition=Ready", "--timeout=50s", *pods
            )

    def in_pod(self, *command: str, pod: str = "web", container: str = "main") -> str:
        words = ("exec", "-n", self.namespace, pod, "-c", container, "--", *command)
        return str(self.cluster.kubectl(*words))

    def exec(
        self,
        *program: str,
        network: Json | bool = True,
        fs: Json | str = "read",
        folder: Path | None = None,
    ) -> str:
        """What the program prints under `pymirror exec`; it must succeed. network, fs: keys of `feature`."""
        target = {"path": self.target, "namespace": self.namespace}
        feature = {"fs": fs, "network": network}
        config = {"target": target, "agent": {"ephemeral": self.ephemeral}, "feature": feature}
        words = [sys.executable, "-c", START, "exec", "-f", "-", "--progress", "off", "--", *program]
        environ = {name: value for name, value in os.environ.items() if not name.startswith(OWN)}
        done = subprocess.run(
            [*self.within, *words],
            env={**environ, **self.cluster.variables},
            cwd=folder,
            input=json.dumps(config),
            text=True,
            capture_output=True,
            timeout=110,
            check=False,
        )
        assert done.returncode == 0, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout
