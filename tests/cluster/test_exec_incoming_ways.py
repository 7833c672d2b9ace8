"""Every way to the target's port: both IP versions, from inside the pod, through its node, old connections."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.incoming import IMAGE, SETTLE, Local, Scene, scene

pytestmark = pytest.mark.cluster

PORT = 8080
FILTER = {"mode": "steal", "http_filter": {"path_filter": "^/mine"}}
WAYS = ["a Service", "a Service's IPv6", "the pod", "the pod's IPv6", "itself", "localhost", "::1"]


def described(there: Scene, kind: str, name: str) -> Any:
    return json.loads(there.cluster.kubectl("get", kind, name, "-n", there.namespace, "-o", "json"))


def addresses(there: Scene, pod: str) -> list[str]:
    return [each["ip"] for each in described(there, "pod", pod)["status"]["podIPs"]]


@pytest.fixture(scope="module")
def there(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(cluster, "incoming-ways", tmp_path_factory.mktemp("ways")) as made:
        spec = {"selector": {"app": "web"}, "ports": [{"port": PORT}], "ipFamilyPolicy": "RequireDualStack"}
        both = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "both"}, "spec": spec}
        cluster.apply(both, made.namespace)
        yield made


@pytest.fixture(scope="module")
def ways(there: Scene) -> dict[str, tuple[str, str, str]]:
    """Of each way: the pod that asks, whom it asks, and as whom it is seen."""
    service, six = described(there, "service", "both")["spec"]["clusterIPs"]
    web, web6 = addresses(there, "web")
    client, client6 = addresses(there, "client")
    return {
        "a Service": ("client", service, client),
        "a Service's IPv6": ("client", f"[{six}]", client6),
        "the pod": ("client", web, client),
        "the pod's IPv6": ("client", f"[{web6}]", client6),
        "itself": ("web", web, web),
        "localhost": ("web", "127.0.0.1", "127.0.0.1"),
        "::1": ("web", "[::1]", "::1"),
    }


def told(there: Scene, way: tuple[str, str, str], path: str) -> str:
    """Who answered, and whom it saw."""
    pod, address, _ = way
    name, _, rest = there.ask("get", path, f"{address}:{PORT}", pod=pod).partition(f" GET {path} from ")
    return f"{name} saw {rest.split(' at ')[0]}"


@pytest.fixture(scope="module", params=["job", "ephemeral"])
def whole(there: Scene, request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Local]:
    folder, config = tmp_path_factory.mktemp("whole"), {"agent": {"ephemeral": request.param == "ephemeral"}}
    with Local(there, folder, there.server, "own", str(PORT), incoming="steal", config=config) as local:
        local.says("listens on")
        yield local


@pytest.mark.parametrize("way", WAYS)
def test_a_port_is_stolen_whichever_way_a_client_comes(
    there: Scene, ways: dict[str, tuple[str, str, str]], whole: Local, way: str
) -> None:
    assert told(there, ways[way], "/") == f"own saw {ways[way][2]}"


@pytest.fixture(scope="module")
def filtered(there: Scene, whole: Local, tmp_path_factory: Any) -> Iterator[Local]:
    whole.end()
    with Local(there, tmp_path_factory.mktemp("f"), there.server, "own", str(PORT), incoming=FILTER) as local:
        local.says("listens on")
        yield local


@pytest.mark.parametrize("way", WAYS)
def test_the_application_sees_who_asks_whichever_way_he_comes(
    there: Scene, ways: dict[str, tuple[str, str, str]], filtered: Local, way: str
) -> None:
    assert told(there, ways[way], "/mine") == f"own saw {ways[way][2]}"
    assert told(there, ways[way], "/other") == f"app saw {ways[way][2]}"


@pytest.fixture(scope="module")
def mirrored(there: Scene, filtered: Local, tmp_path_factory: Any) -> Iterator[Local]:
    filtered.end()
    with Local(
        there, tmp_path_factory.mktemp("m"), there.server, "own", str(PORT), incoming="mirror"
    ) as local:
        local.says("listens on")
        yield local


@pytest.mark.parametrize("way", WAYS)
def test_a_port_is_copied_once_whichever_way_a_client_comes(
    there: Scene, ways: dict[str, tuple[str, str, str]], mirrored: Local, way: str
) -> None:
    path = f"/{WAYS.index(way)}"
    assert told(there, ways[way], path) == f"app saw {ways[way][2]}"
    mirrored.says(f"GET {path} from {ways[way][2]} at ")
    assert told(there, ways[way], f"{path}/again").startswith("app")
    mirrored.says(f"{path}/again")
    assert sum(f"GET {path} " in line for line in mirrored.said()) == 1


# Connections that were there before -----------------------------------------------------------------


@pytest.mark.parametrize("flush", [False, True])
def test_old_connections_end_only_if_that_is_asked_for(there: Scene, tmp_path: Path, flush: bool) -> None:
    def held(port: int) -> int:
        established = [row for row in there.in_network("ss", "-Htn", "sport", f"= :{port}").splitlines()]
        return sum(row.startswith("ESTAB") for row in established)

    with there.asking("hold", there.at(PORT), "4"), there.asking("hold", there.at(PORT + 1), "3"):
        assert (held(PORT), held(PORT + 1)) == (4, 3)
        config = {"agent": {"flush_connections": flush}}
        with Local(there, tmp_path, there.server, "own", str(PORT), incoming="steal", config=config) as local:
            local.says("listens on")
            assert there.ask("get", "/", there.at(PORT)).startswith("own")
            assert (held(PORT), held(PORT + 1)) == (0 if flush else 4, 3)


# A pod in its node's network ------------------------------------------------------------------------


def test_a_pod_in_its_nodes_network(there: Scene, tmp_path: Path) -> None:
    """What the node hands on to pods is not its own: pod/web has the same port there."""
    node = described(there, "pod", "web")["spec"]["nodeName"]
    container = {"name": "main", "image": IMAGE, "command": ["/incoming_server", "app", str(PORT)]}
    spec = {
        "hostNetwork": True,
        "nodeName": node,
        "containers": [container],
        "terminationGracePeriodSeconds": 0,
    }
    made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "host"}, "spec": spec}
    there.cluster.apply(made, there.namespace)
    there.cluster.kubectl("wait", "-n", there.namespace, "--for=condition=Ready", "--timeout=50s", "pod/host")
    (host, *_) = addresses(there, "host")
    assert there.ask("until", f"{host}:{PORT}", "app", str(SETTLE)).split()[-1] == "app"
    target = {"path": "pod/host/container/main", "namespace": there.namespace}
    for mode in ("steal", "mirror"):
        folder = tmp_path / mode
        with Local(
            there, folder, there.server, "own", str(PORT), incoming=mode, config={"target": target}
        ) as local:
            local.says("listens on")
            answer = there.ask("get", f"/{mode}", f"{host}:{PORT}")
            assert answer.startswith("own" if mode == "steal" else "app")
            local.says(f"GET /{mode}")
            assert there.ask("get", "/web", there.at(PORT), f"{there.web}:{PORT}").count("app GET") == 2
            assert not any("/web" in line for line in local.said())
