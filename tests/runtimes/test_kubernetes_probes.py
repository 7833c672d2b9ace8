"""The probes of a pod's containers, as far as they come to its ports: tables over API objects."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pymirror.core.probe import Probe
from pymirror.runtimes.kubernetes.api import Api
from pymirror.runtimes.kubernetes.config import Config
from pymirror.runtimes.kubernetes.probes import AGENT, MOST, probes
from pymirror.runtimes.kubernetes.runtime import Runtime


def a_pod(*containers: dict[str, Any], **more: Any) -> dict[str, Any]:
    status = {"podIP": "10.0.0.5", "podIPs": [{"ip": "10.0.0.5"}, {"ip": "fd00::5"}]}
    return {"metadata": {}, "spec": {"containers": list(containers), **more}, "status": status}


def web(**probed: Any) -> dict[str, Any]:
    ports = [{"name": "http", "containerPort": 8080}, {"name": "9000", "containerPort": 9001}]
    return {"name": "web", "ports": ports, **probed}


def http(path: str = "/healthz", port: int = 8080, kind: str = "liveness", **more: Any) -> Probe:
    return Probe(kind, "http", port, path, **{"agent": AGENT, "container": "web", **more})


@pytest.mark.parametrize(
    ("how", "found"),
    [
        ({"httpGet": {"path": "/healthz", "port": 8080, "scheme": "HTTP"}}, http()),
        ({"httpGet": {"path": "/healthz", "port": "http"}}, http()),
        ({"httpGet": {"path": "/healthz", "port": "9000"}}, http(port=9001)),  # a name that is all digits
        ({"httpGet": {"path": "/healthz", "port": "7000"}}, http(port=7000)),
        ({"httpGet": {"path": "up?deep=1#part", "port": 80}}, http("/up?deep=1", 80)),
        ({"httpGet": {"port": 80}}, http("/", 80)),
        ({"httpGet": {"path": "/healthz", "port": 8443, "scheme": "HTTPS"}}, http(port=8443, secure=True)),
        ({"httpGet": {"path": "/healthz", "port": 8080, "host": "10.0.0.5"}}, http()),
        ({"httpGet": {"path": "/healthz", "port": 8080, "host": "fd00::5"}}, http()),
        (
            {
                "httpGet": {
                    "path": "/healthz",
                    "port": 8080,
                    "httpHeaders": [{"name": "X", "value": "y"}, {"name": "user-agent", "value": "mine"}],
                }
            },
            http(agent="mine"),
        ),
        (
            {"httpGet": {"path": "/healthz", "port": 8080, "httpHeaders": [{"name": "User-Agent"}]}},
            http(agent=""),
        ),
        ({"httpGet": {"path": "/healthz", "port": 8080, "httpHeaders": [3, "x"]}}, http()),
        ({"grpc": {"port": 9090, "service": "x"}}, Probe("liveness", "grpc", 9090, "", AGENT, False, "web")),
        ({"tcpSocket": {"port": "http"}}, Probe("liveness", "tcp", 8080, container="web")),
    ],
)
def test_what_is_asked_of_which_port(how: dict[str, Any], found: Probe) -> None:
    assert probes(a_pod(web(livenessProbe={**how, "periodSeconds": 10}))) == (found,)


@pytest.mark.parametrize(
    "how",
    [
        {"exec": {"command": ["true"]}},
        {"httpGet": {"path": "/", "port": "nobody"}},
        {"httpGet": {"path": "/", "port": 80, "host": "10.0.0.6"}},
        {"httpGet": {"path": "/", "port": 80, "host": "127.0.0.1"}},  # the kubelet's own
        {"tcpSocket": {"port": 80, "host": "db"}},
        # what no API server would say
        {"httpGet": {"path": "/" * 5000, "port": 80}},
        {"httpGet": {"path": 7, "port": 80}},
        {"httpGet": {"path": "/\ud800", "port": 80}},
        {"httpGet": {"path": "/", "port": 0}},
        {"httpGet": {"path": "/", "port": 1 << 16}},
        {"httpGet": {"path": "/", "port": True}},
        {"httpGet": {"path": "/", "port": "9" * 5000}},
        {"httpGet": {"path": "/", "port": "\u0663"}},
        {"httpGet": {"path": "/", "port": [80]}},
        {"httpGet": {"path": "/", "port": 80, "httpHeaders": [{"name": "User-Agent", "value": 5}]}},
        {"httpGet": {"path": "/", "port": 80, "host": ["x"]}},
        {"httpGet": []},
        [],
        "x",
        None,
    ],
)
def test_what_is_no_probe_of_its_ports_is_left_out(how: Any) -> None:
    assert probes(a_pod(web(livenessProbe=how))) == ()


def test_each_kind_of_each_container_that_runs_beside_the_target() -> None:
    def of(name: str, kind: str, port: int, **more: Any) -> dict[str, Any]:
        return {"name": name, f"{kind}Probe": {"tcpSocket": {"port": port}}, **more}

    found = probes(
        a_pod(
            {**of("web", "readiness", 1), **of("web", "liveness", 2), **of("web", "startup", 3)},
            of("other", "liveness", 4),
            initContainers=[of("sidecar", "startup", 5, restartPolicy="Always"), of("init", "startup", 6)],
        )
    )
    assert [(each.container, each.kind, each.port) for each in found] == [
        ("web", "startup", 3),
        ("web", "liveness", 2),
        ("web", "readiness", 1),
        ("other", "liveness", 4),
        ("sidecar", "startup", 5),
    ]


def test_a_named_port_is_the_containers_own() -> None:
    other = {"name": "other", "livenessProbe": {"tcpSocket": {"port": "http"}}}
    assert probes(a_pod(web(), other)) == ()


def test_hooks_are_no_probes() -> None:
    hook = {"httpGet": {"path": "/bye", "port": 8080}}
    assert probes(a_pod(web(lifecycle={"preStop": hook, "postStart": hook}))) == ()


def test_a_pod_in_its_nodes_network_is_probed_on_loopback_too() -> None:
    how = {"httpGet": {"path": "/healthz", "port": 8080, "host": "127.0.0.1"}}
    assert probes(a_pod(web(livenessProbe=how), hostNetwork=True)) == (http(),)


def test_there_are_no_more_than_so_many() -> None:
    many = [web(livenessProbe={"tcpSocket": {"port": 80}}) for _ in range(MOST + 1)]
    assert len(probes(a_pod(*many))) == MOST


class Server:
    """Has one pod, and lets everybody do everything."""

    connection = SimpleNamespace(namespace="shop", context="ctx")

    def __init__(self, pod: Any) -> None:
        self._pod = pod

    async def get(self, place: Any) -> Any:
        return self._pod

    async def ask(self, *_: Any, **__: Any) -> Any:
        return {"status": {"allowed": True}}


async def test_they_are_found_with_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    pod = a_pod(web(livenessProbe={"httpGet": {"path": "/healthz", "port": "http"}}), nodeName="node1")
    pod["metadata"] = {"name": "api", "namespace": "shop", "uid": "1"}
    ready = {"name": "web", "ready": True, "containerID": "containerd://1"}
    pod["status"] |= {"phase": "Running", "containerStatuses": [ready]}

    async def opened(*_: Any) -> Server:
        return Server(pod)

    monkeypatch.setattr(Api, "open", opened)
    report: Any = SimpleNamespace(step=print)
    found = await Runtime(Config(ephemeral=True), "pod/api", None, report).check([])
    assert found.probes == (http(),)
