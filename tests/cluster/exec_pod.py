"""A pod as a target for programs of many languages: asked by kubectl, and by `pymirror exec`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

START = "import sys; from pymirror.cli.main import main; sys.exit(main())"
PROBES = Path(__file__).parent / "programs"
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "runAsGroup": 1000,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def need(*tools: str) -> None:
    """A missing toolchain skips, except in CI, where it fails."""
    lacks = [tool for tool in tools if shutil.which(tool) is None]
    if lacks and os.environ.get("CI") == "true":
        pytest.fail(f"CI must run this test, and this machine lacks: {', '.join(lacks)}")
    if lacks:
        pytest.skip(f"needs {', '.join(lacks)}")


@contextmanager
def own_namespace(cluster: Any, name: str, restricted: bool) -> Iterator[str]:
    """A namespace for a module's tests; its pods are ended at once afterwards."""
    cluster.kubectl("create", "namespace", name)
    if restricted:
        cluster.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    try:
        yield name
    finally:
        cluster.kubectl("delete", "pods", "--all", "--now", "-n", name)
        cluster.kubectl("delete", "namespace", name, "--wait=false")


class Place:
    """A pod laid out for the tests, and how its agent is started."""

    def __init__(self, cluster: Any, namespace: str, flags: tuple[str, ...]) -> None:
        self.cluster, self.namespace, self.flags = cluster, namespace, flags

    def in_pod(self, *command: str, given: bytes = b"") -> bytes:
        done = subprocess.run(
            ["kubectl", "exec", "-i", "-n", self.namespace, "web", "-c", "main", "--", *command],
            env={**os.environ, **self.cluster.variables},
            input=given,
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def words(self, *command: str, config: str | None = None) -> list[str]:
        chosen = (
            ["-f", config] if config else ["-n", self.namespace, "-t", "pod/web/container/main", *self.flags]
        )
        return [sys.executable, "-c", START, "exec", *chosen, "--progress", "off", "--", *command]

    def exec(
        self, *command: str, folder: Path | None = None, config: str | None = None, given: bytes = b""
    ) -> bytes:
        done = subprocess.run(
            self.words(*command, config=config),
            env={**os.environ, **self.cluster.variables},
            cwd=folder,
            input=given,
            capture_output=True,
            timeout=110,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.words(*command),
            env={**os.environ, **self.cluster.variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
