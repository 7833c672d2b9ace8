"""HTTPS that a filter looks into, with the certificate and the key of a Secret that the target has mounted."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.incoming import IMAGE, SETTLE, Local, Scene, scene

pytestmark = pytest.mark.cluster

PORT = 8443
FOLDER = "/tls"
WAYS = ["https1", "https2"]


def certificate(folder: Path, name: str) -> dict[str, bytes]:
    """As a Secret of type kubernetes.io/tls has it."""
    folder.mkdir()
    files = {"tls.crt": folder / "tls.crt", "tls.key": folder / "tls.key"}
    words: str = f"openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN={name} -addext subjectAltName=DNS:{name}"
    out = ["-out", str(files["tls.crt"]), "-keyout", str(files["tls.key"])]
    subprocess.run([*words.split(), *out], check=True, capture_output=True, timeout=60)
    return {key: path.read_bytes() for key, path in files.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def there(cluster: Any, folder: Path) -> Iterator[Scene]:
    """pod/secured serves HTTPS."""
    pair = certificate(folder / "target", "of-the-target")
    certificate(folder / "here", "of-the-program")
    with scene(cluster, "incoming-tls", folder) as made:
        data = {key: base64.b64encode(each).decode() for key, each in pair.items()}
        secret = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "data": data}
        cluster.apply({**secret, "metadata": {"name": "pair"}}, made.namespace)
        container = {
            "name": "main",
            "image": IMAGE,
            "command": ["/incoming_server", "app", f"{PORT}:{FOLDER}"],
            "volumeMounts": [{"name": "pair", "mountPath": FOLDER}],
        }
        volumes = [{"name": "pair", "secret": {"secretName": "pair"}}]
        spec = {"terminationGracePeriodSeconds": 0, "containers": [container], "volumes": volumes}
        metadata = {"name": "secured", "labels": {"app": "secured"}}
        cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}, made.namespace)
        ports = {"selector": {"app": "secured"}, "ports": [{"port": PORT}]}
        service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "secured"}, "spec": ports}
        cluster.apply(service, made.namespace)
        cluster.kubectl("wait", "-n", made.namespace, "--for=condition=Ready", "--timeout=50s", "pod/secured")
        for _ in range(SETTLE):
            if "failed" not in asked(made, "https1"):
                break
        yield made


def asked(there: Scene, way: str, who: str = "you") -> str:
    return there.ask(way, f"secured:{PORT}", f"X-User: {who}")


def stealing(there: Scene, folder: Path, *server: str, delivery: Any = None, **entry: Any) -> Local:
    incoming = {"mode": "steal", "http_filter": {"header_filter": "^x-user: me$"}}
    if delivery:
        incoming["tls_delivery"] = delivery
    opened = {"ports": [PORT], "certificate": f"{FOLDER}/tls.crt", "key": f"{FOLDER}/tls.key", **entry}
    target = {"path": "pod/secured/container/main", "namespace": there.namespace}
    config = {"target": target, "agent": {"tls": [opened]}}
    return Local(there, folder, there.server, "own", *server, incoming=incoming, config=config)


@pytest.mark.parametrize("delivery", ["tls", "tcp"])
@pytest.mark.parametrize("way", WAYS)
def test_what_matches_within_tls_is_the_programs(
    there: Scene, folder: Path, tmp_path: Path, way: str, delivery: str
) -> None:
    """Clients see the target's certificate and protocol whoever answers; the application sees its clients."""
    without = asked(there, way)
    assert without.count("of-the-target") == 3 and "app POST /0 from " in without
    port = f"{PORT}:{folder / 'here'}" if delivery == "tls" else str(PORT)
    with stealing(there, tmp_path, port, delivery={"protocol": delivery}) as local:
        local.says("listens on")
        assert asked(there, way, "me") == without.replace("app ", "own ")
        assert asked(there, way, "you") == without
        local.says("own POST /2 from " + there.client)
        assert not any("X-User: you" in line for line in local.said())
    assert asked(there, way, "me") == without


REFUSED = {
    "a file that is not there": ({"key": "/tls/none.key"}, "/tls/none.key"),
    "what is no certificate": ({"certificate": "/incoming_server"}, "/incoming_server"),
    "a key of another": ({"certificate": "/tls/tls.key"}, "/tls/tls.key"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_tls_cannot_be_opened_with_is_refused_by_its_path(
    there: Scene, tmp_path: Path, name: str
) -> None:
    entry, path = REFUSED[name]
    with stealing(there, tmp_path, str(PORT), **entry) as local:
        assert local.process.wait(60) == 1
        assert path in local.errors() and "Traceback" not in local.errors()
        assert asked(there, "https1", "me").count("app POST") == 3
