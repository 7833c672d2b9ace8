"""The cloud's metadata service: the pod's or this machine's, by the filter; and what an SDK does with it.

The programs run in a network namespace of the test, in which another service has the same address.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.exec_pod import PROBES, need, own_namespace
from tests.cluster.hosted import Context, Json, hosted, pod, ready, service

pytestmark = pytest.mark.cluster

METADATA = "169.254.169.254"
THERE, HERE = "AKIATHEPODSOWNONE000", "AKIATHISMACHINES0000"
BRIDGE, ADDRESS = "kubetest", "10.42.0.200/24"  # place.py's; an address on it that no node has
BUCKET = "reports"
STORED = f"""
import boto3, hashlib
keys = dict(aws_access_key_id="another", aws_secret_access_key="client", region_name="us-east-1")
stored = boto3.client("s3", endpoint_url="http://127.0.0.1:5000", **keys).get_object(Bucket="{BUCKET}", Key="a/key")
print(hashlib.sha256(stored["Body"].read()).hexdigest())
"""


@contextmanager
def machine() -> Iterator[tuple[str, ...]]:
    """A machine whose metadata service is HERE, beside the cluster's nodes; words that run a command there."""
    holder = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo up; exec sleep infinity"], stdout=subprocess.PIPE
    )
    within = ("nsenter", "--net", "--target", str(holder.pid))
    started = [holder]
    try:
        up(holder)
        end = f"test{holder.pid}"
        peer = ("peer", "name", "eth0", "netns", str(holder.pid))
        call("ip", "link", "add", end, "type", "veth", *peer)
        call("ip", "link", "set", end, "master", BRIDGE, "up")
        for words in (f"addr add {ADDRESS} dev eth0", f"addr add {METADATA}/32 dev lo"):
            call(*within, "ip", *words.split())
        for device in ("lo", "eth0"):
            call(*within, "ip", "link", "set", device, "up")
        serve = (sys.executable, str(PROBES / "metadata.py"), METADATA, HERE)
        started.append(subprocess.Popen([*within, *serve], stdout=subprocess.PIPE))
        up(started[-1])
        yield within
    finally:
        for process in reversed(started):
            process.kill()
            process.communicate()


def call(*words: str) -> None:
    subprocess.run(words, check=True, timeout=20)


def up(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"


def target() -> Json:
    """Its metadata service is THERE: in the pod's network, and in no other."""
    address = f"ip addr add {METADATA}/32 dev lo"
    first = {
        "name": "address",
        "image": "localhost/busybox:1",
        "command": address.split(),
        "securityContext": {"capabilities": {"add": ["NET_ADMIN"]}},
    }
    serve = (sys.executable, str(PROBES / "metadata.py"), METADATA, THERE)
    side = hosted("metadata", *serve, readinessProbe=ready("nc", METADATA, "80", "-e", "true"))
    variables = {"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL_S3": "http://s3:5000", "BUCKET": BUCKET}
    environ = [{"name": name, "value": value} for name, value in variables.items()]
    main = {"name": "main", "image": "localhost/busybox:1", "command": ["sleep", "infinity"], "env": environ}
    return pod("web", side, main, initContainers=[first])


@pytest.fixture(scope="module")
def there(cluster: Any) -> Iterator[Context]:
    serve = (sys.executable, "-m", "moto.server", "-H", "0.0.0.0", "-p", "5000")
    with (
        own_namespace(cluster, f"metadata-{uuid.uuid4().hex[:8]}", restricted=False) as name,
        machine() as within,
    ):
        made = Context(cluster, name, within=within)
        made.apply(target(), pod("s3", hosted("main", *serve, port=5000)), service("s3", 5000, "s3"))
        yield made


@pytest.mark.parametrize(
    "network, whose",
    [
        (True, THERE),
        ({"outgoing": {"filter": {"remote": [METADATA]}}}, THERE),
        ({"outgoing": {"filter": {"remote": ["10.96.0.0/16", f"{METADATA}:81", f"udp://{METADATA}"]}}}, HERE),
        ({"outgoing": {"filter": {"local": [METADATA]}}}, HERE),
        ({"outgoing": False}, HERE),
    ],
)
def test_whose_credentials(there: Context, network: Json | bool, whose: str) -> None:
    client = (sys.executable, str(PROBES / "metadata_client.py"))
    assert there.exec(*client, network=network).split() == [whose]


@pytest.fixture(scope="module")
def uploader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program's folder; its modules are fetched, and compiled once, by Go's own caches."""
    folder = tmp_path_factory.mktemp("upload") / "app"
    shutil.copytree(PROBES / "upload", folder)
    need("go")
    compiled = ["go", "build", "-o", os.devnull, "."]
    subprocess.run(compiled, cwd=folder, check=True, timeout=400)
    return folder


@pytest.mark.timeout(600)  # the first time, the SDK is fetched and compiled
def test_the_sdk_run_by_go_uploads_a_file(there: Context, uploader: Path) -> None:
    content = os.urandom(3_000_000)
    (uploader / "report").write_bytes(content)
    network = {"outgoing": {"filter": {"remote": [METADATA, "s3"]}}}
    said = there.exec("go", "run", "main.go", "report", "a/key", network=network, folder=uploader)
    assert said.split() == ["EC2RoleProvider", THERE]
    stored = there.in_pod("chroot", "/machine", sys.executable, "-c", STORED, pod="s3")
    assert stored.split() == [hashlib.sha256(content).hexdigest()]
