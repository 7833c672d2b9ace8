"""gRPC's own interoperability tests against a stolen port: whole, by a filter's calls, by all others."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.exec_pod import PROBES, need, own_namespace
from tests.cluster.incoming import Local, Scene

pytestmark = pytest.mark.cluster

PORT = 9000
IMAGE = "localhost/grpc:1"
TIME_OUT = "time-out"
"""Of a millisecond: whether the server has said who it is by then is chance."""
NO_ANSWER = (TIME_OUT, "cancelled at the beginning")
"""Calls that end before a server has said who it is, or may."""


def _pod(name: str, *command: str) -> dict[str, Any]:
    metadata = {"name": name, "labels": {"app": name}}
    container = {"name": "main", "image": IMAGE, "command": list(command)}
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


class Calls(Scene):
    """pod/web serves gRPC, and pod/client calls it by its address."""

    def __init__(self, cluster: Any, namespace: str, program: Path) -> None:
        self.cluster, self.namespace, self.server = cluster, namespace, str(program)
        both = [_pod("web", "/grpc", "serve", "app", str(PORT)), _pod("client", "sleep", "1d")]
        cluster.apply({"apiVersion": "v1", "kind": "List", "items": both}, namespace)
        cluster.kubectl(
            "wait", "-n", namespace, "--for=condition=Ready", "--timeout=50s", "pod/web", "pod/client"
        )
        web = json.loads(cluster.kubectl("get", "pod", "web", "-n", namespace, "-o", "json"))
        self.web = web["status"]["podIP"]

    def answered(self, *who: str) -> list[tuple[str, str]]:
        """(kind of call, the server that answered)."""
        done = subprocess.run(
            ["kubectl", "exec", "-n", self.namespace, "client", "--", "/grpc", "ask", self.at(PORT), *who],
            env={**os.environ, **self.cluster.variables},
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        calls = [line.rstrip("]").partition(" [") for line in done.stdout.splitlines()]
        return [(kind, "" if kind == TIME_OUT else who) for kind, _, who in calls]

    def at(self, port: int) -> str:
        return f"{self.web}:{port}"


@pytest.fixture(scope="module")
def there(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calls]:
    need("go")
    folder = tmp_path_factory.mktemp("grpc")
    shutil.copytree(PROBES / "grpc", folder / "source")
    words = ["go", "build", "-o", str(folder / "grpc"), "."]
    environ = {**os.environ, "CGO_ENABLED": "0"}
    subprocess.run(words, cwd=folder / "source", env=environ, check=True, timeout=500)
    cluster.image(IMAGE, folder / "grpc")
    with own_namespace(cluster, "incoming-grpc", restricted=False) as namespace:
        yield Calls(cluster, namespace, folder / "grpc")


def by(calls: list[tuple[str, str]], name: str) -> list[tuple[str, str]]:
    return [(kind, name if who else "") for kind, who in calls]


@pytest.mark.timeout(700)  # the first time, the library is fetched and compiled
def test_all_kinds_of_calls_are_the_applications(there: Calls) -> None:
    calls = there.answered()
    assert len(calls) > 12 and {who for _, who in calls} == {"app", ""}
    assert [kind for kind, who in calls if not who and kind in NO_ANSWER] == list(NO_ANSWER)


def test_of_a_port_stolen_whole_they_are_the_programs(there: Calls, tmp_path: Path) -> None:
    without = there.answered()
    with Local(there, tmp_path, there.server, "serve", "local", str(PORT), incoming="steal") as local:
        local.says("listens on")
        assert there.answered() == by(without, "local")
    assert there.answered() == without


def test_a_filter_takes_the_calls_of_one_developer(there: Calls, tmp_path: Path) -> None:
    without = there.answered()
    incoming = {"mode": "steal", "http_filter": {"header_filter": "^x-who: me$"}}
    with Local(there, tmp_path, there.server, "serve", "local", str(PORT), incoming=incoming) as local:
        local.says("listens on")
        assert there.answered("you") == without
        assert [call for call in local.said() if "/" in call] == []
        assert there.answered("me") == by(without, "local")
        assert there.answered() == without


def test_a_mirror_has_a_copy_of_each_call(there: Calls, tmp_path: Path) -> None:
    without = there.answered()
    with Local(there, tmp_path, there.server, "serve", "local", str(PORT), incoming="mirror") as local:
        local.says("listens on")
        assert there.answered() == without
        local.says("UnaryCall")
