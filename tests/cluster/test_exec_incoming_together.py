"""Several developers on one target, its health probes, and what `pymirror dump` prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.exec_pod import START
from tests.cluster.incoming import IMAGE, SETTLE, Local, Scene, scene

pytestmark = pytest.mark.cluster

PORT = 8080
PROBED = "/healthz"


@pytest.fixture(scope="module")
def there(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(cluster, "incoming-together", tmp_path_factory.mktemp("together")) as made:
        yield made


def of(there: Scene, folder: Path, name: str, agent: str, **keys: Any) -> Local:
    """The session of the developer with that name, who has the requests that say so."""
    incoming = {"mode": "steal", "http_filter": {"header_filter": f"^x-user: {name}$"}, **keys}
    config = {"agent": {"ephemeral": agent == "ephemeral"}}
    return Local(there, folder, there.server, name, str(PORT), incoming=incoming, config=config)


def asked(there: Scene, *users: str) -> list[str]:
    """Who answered each, and whom it saw; all over one connection."""
    end = "Connection: close\r\n"
    requests = "".join(
        f"GET /{user} HTTP/1.1\r\nHost: web\r\nX-User: {user}\r\n{end * (number + 1 == len(users))}\r\n"
        for number, user in enumerate(users)
    )
    answers = there.ask("raw", there.at(PORT), given=requests.encode()).splitlines()
    return [line.split(" at ")[0] for line in answers if " GET /" in line]


# Several developers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("agents", [("job", "job"), ("ephemeral", "job"), ("job", "ephemeral")])
def test_each_has_its_own_requests_and_the_application_all_others(
    there: Scene, tmp_path: Path, agents: tuple[str, str]
) -> None:
    """However one ends, the other goes on."""
    users = ("ann", "eve", "bob", "ann")
    with of(there, tmp_path / "ann", "ann", agents[0]) as ann:
        ann.says("listens on")
        with of(there, tmp_path / "bob", "bob", agents[1]) as bob:
            bob.says("listens on")
            assert asked(there, *users) == [
                f"{who} GET /{user} from {there.client}"
                for who, user in zip(("ann", "app", "bob", "ann"), users, strict=True)
            ]
            ann.process.kill()
            ann.process.wait(40)
            for _ in range(SETTLE):
                assert asked(there, "bob", "eve")[0] == f"bob GET /bob from {there.client}"
                back = asked(there, "ann")  # until her agent knows, it resets what it cannot deliver
                if back:
                    break
                time.sleep(1)
            assert back == [f"app GET /ann from {there.client}"]
        assert [line.split()[0] for line in asked(there, "ann", "bob")] == ["app", "app"]


def test_whoever_would_take_what_another_has_is_refused_by_name(there: Scene, tmp_path: Path) -> None:
    with of(there, tmp_path / "ann", "ann", "job") as ann:
        ann.says("listens on")
        whole = Local(there, tmp_path / "whole", there.server, "whole", str(PORT), incoming="steal")
        with whole, of(there, tmp_path / "equal", "ann", "job") as equal:
            for other in (whole, equal):
                assert other.process.wait(60) == 1
                assert f"port {PORT} of the target is not to be had: " in other.errors()
                assert "header_filter" in other.errors() and "Traceback" not in other.errors()
        assert asked(there, "ann") == [f"ann GET /ann from {there.client}"]


# Health ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def probed(there: Scene) -> str:
    """Where a pod is whose container is restarted when it does not answer."""
    get = {"httpGet": {"path": PROBED, "port": PORT}, "periodSeconds": 1, "failureThreshold": 3}
    container = {
        "name": "main",
        "image": IMAGE,
        "command": ["/incoming_server", "app", str(PORT)],
        "livenessProbe": get,
        "readinessProbe": get,
    }
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container]}
    made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probed"}, "spec": spec}
    there.cluster.apply(made, there.namespace)
    there.cluster.kubectl(
        "wait", "-n", there.namespace, "--for=condition=Ready", "--timeout=50s", "pod/probed"
    )
    return str(described(there)["podIP"])


def described(there: Scene) -> Any:
    found = there.cluster.kubectl("get", "pod", "probed", "-n", there.namespace, "-o", "json")
    return json.loads(found)["status"]


def probes(there: Scene) -> int:
    """That the application answered."""
    said = there.cluster.kubectl("logs", "-n", there.namespace, "probed", "-c", "main")
    return sum(f"GET {PROBED}" in line for line in said.splitlines())


SILENT = f"""
import socket, time
listener = socket.create_server(("", {PORT}))
print("listens", flush=True)
while True:
    conn = listener.accept()[0]
    print(conn.recv(999).split()[1].decode(), flush=True)
    time.sleep(600)
"""


def test_probes_that_are_passed_on_keep_a_pod_alive_whose_program_says_nothing(
    there: Scene, tmp_path: Path, probed: str
) -> None:
    target = {"path": "pod/probed/container/main", "namespace": there.namespace}
    incoming, config = {"mode": "steal", "probes": "pass"}, {"target": target}
    with Local(there, tmp_path, "python3", "-c", SILENT, incoming=incoming, config=config) as local:
        local.says("listens")
        before = probes(there)
        assert "failed" in there.ask("get", "/mine", f"{probed}:{PORT}")
        local.says("/mine")
        for _ in range(SETTLE):
            if probes(there) >= before + 8:  # four of either kind, and three that fail are enough
                break
            time.sleep(1)
        assert probes(there) >= before + 8 and PROBED not in local.said()
        (container,) = described(there)["containerStatuses"]
        assert container["ready"] and not container["restartCount"]


def test_whoever_steals_a_probed_port_is_told(there: Scene, tmp_path: Path, probed: str) -> None:
    config = {"target": {"path": "pod/probed/container/main", "namespace": there.namespace}}
    with Local(there, tmp_path, there.server, "own", str(PORT), incoming="steal", config=config) as local:
        local.says("GET " + PROBED)
        said = local.errors()
    assert PROBED in said and f"port {PORT}" in said and "feature.network.incoming.probes" in said


# Dump -----------------------------------------------------------------------------------------------


def dumping(there: Scene, *words: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-c",
        START,
        "dump",
        "-n",
        there.namespace,
        "-t",
        "pod/web",
        "--progress",
        "off",
    ]
    environ = {**os.environ, **there.cluster.variables}
    return subprocess.Popen([*command, *words], env=environ, stdout=subprocess.PIPE, text=True)


def test_dump_prints_each_request_as_json(there: Scene) -> None:
    with dumping(there, "-p", str(PORT), "-p", str(PORT + 1), "--format", "http", "--count", "3") as dump:
        try:
            for number in range(SETTLE):
                there.ask("get", f"/{number}", there.at(PORT), there.at(PORT + 1))
                if dump.poll() is not None:
                    break
                time.sleep(1)
            assert dump.wait(40) == 0 and dump.stdout is not None
            lines = [json.loads(line) for line in dump.stdout]
        finally:
            dump.kill()
    assert len(lines) == 3
    for line in lines:
        assert line["method"] == "GET" and line["protocol"] == "HTTP/1.1"
        assert line["client"].startswith(there.client)


def test_dump_prints_text(there: Scene) -> None:
    with dumping(there, "-p", str(PORT), "--format", "text", "--count", "1") as dump:
        try:
            for _ in range(SETTLE):
                there.ask("get", "/words", there.at(PORT))
                if dump.poll() is not None:
                    break
                time.sleep(1)
            assert dump.wait(40) == 0 and dump.stdout is not None
            said = dump.stdout.read()
        finally:
            dump.kill()
    assert "GET /words HTTP/1.1" in said and there.client in said
