"""Wrong input: a clear error that names the place and the next step, and nothing changed anywhere."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.cluster

START = "import sys; from pymirror.cli.main import main; sys.exit(main())"
FAKE = b"""#!/bin/sh
echo '{"pymirror_agent": "0.0.1", "key": "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7", "port": 1}'
sleep 60
"""


def exec_(cluster: Any, *words: str, program: tuple[str, ...] = ("true",), **environ: str) -> tuple[int, str]:
    """Exit status and stderr of a `pymirror exec`."""
    done = subprocess.run(
        [sys.executable, "-c", START, "exec", *words, "--", *program],
        env={**os.environ, **cluster.variables, **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return done.returncode, done.stderr


def snapshot(cluster: Any, namespace: str) -> Any:
    """Everything a session could leave in the namespace."""
    kinds = json.loads(cluster.kubectl("get", "jobs,pods,events", "-n", namespace, "-o", "json"))["items"]
    return sorted(
        (item["kind"], item["metadata"]["name"], len(item.get("spec", {}).get("ephemeralContainers", [])))
        for item in kinds
        if item["kind"] != "Event"
    )


@pytest.fixture(scope="module")
def target(cluster: Any) -> Any:
    """One pod that is Ready, one that never is, one whose container does not exist yet."""
    name = "refusals"
    cluster.kubectl("create", "namespace", name)
    cluster.pod(name, "web")
    unready = {
        "name": "main",
        "image": "localhost/busybox:1",
        "command": ["sleep", "infinity"],
        "readinessProbe": {"exec": {"command": ["false"]}},
    }
    spec = {"terminationGracePeriodSeconds": 0, "containers": [unready]}
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "unready"}, "spec": spec}, name)
    cluster.kubectl(
        "wait", "-n", name, "--for=jsonpath={.status.phase}=Running", "pod/unready", "--timeout=50s"
    )
    yield name
    cluster.kubectl("delete", "pods", "--all", "--now", "-n", name)
    cluster.kubectl("delete", "namespace", name, "--wait=false")


CONFIGS = [
    ("pymirror.json", '{"feature": {"env": tru}}', ["is not JSON", "line 1"]),
    ("pymirror.yaml", "feature:\n  env: [1\n", ["is not YAML", "line"]),
    ("pymirror.toml", "feature = \n", ["is not TOML", "line 1"]),
    ("pymirror.ini", "", ["the ending .ini is not known", ".json"]),
    (
        "pymirror.json",
        '{"feature": {"fs": {"red_only": []}}}',
        ["feature.fs.red_only", "did you mean 'read_only'"],
    ),
    ("pymirror.json", '{"agent": {"ttl": "soon"}}', ["agent.ttl", "expected a whole number", "'soon'"]),
    (
        "pymirror.json",
        '{"feature": {"fs": {"local": ["("]}}}',
        ["feature.fs", "local", "not a regular expression"],
    ),
    ("pymirror.json", '{"feature": {"fs": "rite"}}', ["feature.fs", "rite", "write"]),
    (
        "pymirror.json",
        '{"feature": {"fs": {"mode": "write", "owner": "root"}}}',
        ["feature.fs", "owner", "1000:1000"],
    ),
    (
        "pymirror.json",
        '{"agent": {"tls": [{"ports": 443, "certificate": "tls.crt", "key": "/tls.key"}]}}',
        ["agent.tls[0].certificate", "no absolute path"],
    ),
    ("pymirror.json", '{"feature": {"copy_target": true}}', ["feature.copy_target", "paid operator"]),
    (
        "pymirror.json",
        '{"agent": {"disabled_capabilities": ["SYS_ADMIN"]}}',
        ["agent.disabled_capabilities", "without SYS_ADMIN the agent cannot enter", "agent.ephemeral"],
    ),
    ("pymirror.json", '{"key": "{{ nothing }}"}', ["the template fails", "nothing"]),
]


@pytest.mark.parametrize(("name", "text", "words"), CONFIGS)
def test_configuration(
    cluster: Any, target: str, tmp_path: Path, name: str, text: str, words: list[str]
) -> None:
    file = tmp_path / name
    file.write_text(text)
    before = snapshot(cluster, target)
    status, said = exec_(cluster, "-f", str(file), "-n", target, "-t", "pod/web")
    assert status == 125, said
    assert all(word in said for word in words), said
    assert "Traceback" not in said
    assert snapshot(cluster, target) == before


TARGETS = [
    ("pod/wbe", ["no pod wbe", "did you mean web"]),
    ("web", ["pod/web"]),
    ("pods/web", ["pods"]),
    ("pod/web/container/side", ["side", "main"]),
    ("deployment/none", ["none"]),
    ("pod/unready", ["unready", "not ready"]),
    ("label/app=nobody", ["app=nobody"]),
    ("rollout/web", ["this cluster has no rollouts (API argoproj.io/v1alpha1)"]),
    ("pod/../secrets", ["cannot be read"]),
    ("process/1x", ["1x"]),
]


@pytest.mark.parametrize(("path", "words"), TARGETS)
def test_target(cluster: Any, target: str, path: str, words: list[str]) -> None:
    before = snapshot(cluster, target)
    status, said = exec_(cluster, "-n", target, "-t", path)
    assert status == 125, said
    assert all(word in said for word in words) and "Traceback" not in said, said
    assert snapshot(cluster, target) == before


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("-n", "Shop"), "'Shop' cannot be the name of a namespace"),
        (("-n", "a/../b"), "cannot be the name of a namespace"),
        (("-n", "nosuch"), "there is no namespace nosuch"),
        (("-n", "refusals", "-a", "nosuch"), "there is no namespace nosuch"),
        (("-n", "refusals", "-a", "No"), "'No' cannot be the name of a namespace"),
    ],
)
def test_namespace(cluster: Any, target: str, flags: tuple[str, ...], words: str) -> None:
    before = snapshot(cluster, target)
    status, said = exec_(cluster, *flags, "-t", "pod/web")
    assert status == 125 and words in said and "Traceback" not in said, said
    assert snapshot(cluster, target) == before


@pytest.mark.parametrize(
    ("program", "status", "words"),
    [
        (("no-such-program",), 127, "no-such-program: not found in PATH"),
        (("./no-such-file",), 127, "no such file"),
        (("/etc/passwd",), 126, "not executable"),
    ],
)
def test_program(cluster: Any, target: str, program: tuple[str, ...], status: int, words: str) -> None:
    before = snapshot(cluster, target)
    assert (found := exec_(cluster, "-n", target, "-t", "pod/web", program=program))[0] == status
    assert words in found[1]
    assert snapshot(cluster, target) == before


def test_nested(cluster: Any, target: str) -> None:
    status, said = exec_(cluster, "-n", target, "-t", "pod/web", PYMIRROR_SESSION="abc")
    assert status == 125 and "already running under pymirror" in said


def test_an_account_without_rights(cluster: Any, target: str, tmp_path: Path) -> None:
    cluster.kubectl("create", "serviceaccount", "nobody", "-n", target)
    token = cluster.kubectl("create", "token", "nobody", "-n", target).strip()
    config = json.loads(cluster.kubectl("config", "view", "--raw", "-o", "json"))
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    file = tmp_path / "kubeconfig"
    file.write_text(json.dumps(config))
    before = snapshot(cluster, target)
    status, said = exec_(cluster, "-n", target, "-t", "pod/web", KUBECONFIG=str(file))
    assert status == 125
    assert "pods" in said and "get" in said and ("Role" in said or "rule" in said), said
    assert snapshot(cluster, target) == before


def test_an_api_server_that_is_not_there(cluster: Any, target: str, tmp_path: Path) -> None:
    config = json.loads(cluster.kubectl("config", "view", "--raw", "-o", "json"))
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:9"
    file = tmp_path / "kubeconfig"
    file.write_text(json.dumps(config))
    status, said = exec_(cluster, "-n", target, "-t", "pod/web", KUBECONFIG=str(file))
    assert status == 125 and "127.0.0.1:9" in said and "Traceback" not in said, said


@pytest.mark.parametrize("agent", [(), ("-e",)], ids=["job", "ephemeral"])
def test_an_image_that_cannot_be_pulled(cluster: Any, target: str, agent: tuple[str, ...]) -> None:
    status, said = exec_(cluster, *agent, "-n", target, "-t", "pod/web", "-i", "localhost/nowhere/agent:9")
    assert status == 125 and "localhost/nowhere/agent:9" in said and "Traceback" not in said, said
    assert not json.loads(cluster.kubectl("get", "jobs", "-n", target, "-o", "json"))["items"]


def test_an_agent_of_another_version(cluster: Any, target: str, tmp_path: Path) -> None:
    archive = tmp_path / "fake.tar"
    fake_image(archive, "localhost/fake-agent:1")
    place = Path(__file__).parent / "cluster.py"
    subprocess.run([sys.executable, str(place), "load", str(archive)], check=True, capture_output=True)
    status, said = exec_(cluster, "-n", target, "-t", "pod/web", "-i", "localhost/fake-agent:1")
    assert status == 125 and "0.0.1" in said and "0.1.0" in said, said


def fake_image(path: Path, name: str) -> None:
    """busybox that says it is an agent of version 0.0.1."""
    spec = importlib.util.spec_from_file_location("kubetest_images", Path(__file__).parent / "images.py")
    assert spec and spec.loader
    sys.path.insert(0, str(Path(__file__).parent))
    try:
        images = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(images)
    finally:
        sys.path.pop(0)
    busybox = Path("/bin/busybox").read_bytes()

    def file(name: str, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), 0o755
        return info, data

    folder = tarfile.TarInfo("bin")
    folder.type, folder.mode = tarfile.DIRTYPE, 0o755
    entries = [
        (folder, None),
        file("bin/busybox", busybox),
        file("bin/sh", busybox),
        file("bin/sleep", busybox),
    ]
    images.image(
        path, name, [*entries, file("agent", FAKE)], {"Entrypoint": ["/agent"], "Env": ["PATH=/bin"]}
    )
