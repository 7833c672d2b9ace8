"""A target with an application behind a Service, a client in a pod of its own, and programs run here in its place."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.cluster.exec_pod import PROBES, START, need, own_namespace

Json = dict[str, Any]
IMAGE = "localhost/incoming:1"
PORTS = range(8080, 8090)
"""Where the application listens; the Service has them too."""
SETTLE = 30
"""Polls, one a second: until nodes know of a new Service, and until a program here has started."""


def build(cluster: Any, folder: Path) -> None:
    """The application and the client, in the pods' image; the application also here, as `server`."""
    need("go")
    for name in ("server", "client"):
        words = ["go", "build", "-o", str(folder / f"incoming_{name}"), str(PROBES / f"incoming_{name}.go")]
        subprocess.run(words, env={**os.environ, "CGO_ENABLED": "0"}, check=True, timeout=100)
    cluster.image(IMAGE, folder / "incoming_server", folder / "incoming_client")


def _pod(name: str, *command: str) -> Json:
    metadata = {"name": name, "labels": {"app": name}}
    container = {"name": "main", "image": IMAGE, "command": list(command)}
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _service() -> Json:
    ports = [{"name": f"p{port}", "port": port} for port in PORTS]
    spec = {"selector": {"app": "web"}, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec}


class Scene:
    """pod/web, its Service and pod/client, each with an address of its own."""

    def __init__(self, cluster: Any, namespace: str, server: Path) -> None:
        self.cluster, self.namespace, self.server = cluster, namespace, str(server)
        things = [_pod("web", "/incoming_server", "app", *map(str, PORTS)), _pod("client", "sleep", "1d")]
        cluster.apply({"apiVersion": "v1", "kind": "List", "items": [*things, _service()]}, namespace)
        cluster.kubectl(
            "wait", "-n", namespace, "--for=condition=Ready", "--timeout=50s", "pod/web", "pod/client"
        )
        pods = json.loads(cluster.kubectl("get", "pods", "-n", namespace, "-o", "json"))["items"]
        addresses = {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in pods}
        self.web, self.client = addresses["web"], addresses["client"]
        for port in PORTS:
            assert self.ask("until", self.at(port), "app", str(SETTLE)).split()[-1] == "app"

    def at(self, port: int) -> str:
        """The Service's name and port, as pods use them."""
        return f"web:{port}"

    def ask(self, *words: str, given: bytes = b"", pod: str = "client") -> str:
        """What the client's program says in that pod."""
        done = subprocess.run(
            self._words(*words, pod=pod), env=self._environ, input=given, capture_output=True, timeout=100
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    @contextmanager
    def asking(self, *words: str) -> Iterator[Any]:
        """The client pod's program goes on until the end of this."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(self._words(*words), env=self._environ, **pipes) as asking:  # type: ignore[call-overload]
            assert asking.stdout.readline() == b"held\n"
            yield asking
            asking.stdin.close()
            asking.wait(30)

    def _words(self, *words: str, pod: str = "client") -> list[str]:
        return ["kubectl", "exec", "-i", "-n", self.namespace, pod, "--", "/incoming_client", *words]

    @property
    def _environ(self) -> dict[str, str]:
        return {**os.environ, **self.cluster.variables}

    def log(self) -> list[str]:
        """The application's: a line for each connection and each request."""
        return str(self.cluster.kubectl("logs", "-n", self.namespace, "web", "-c", "main")).splitlines()

    def sockets(self, port: int) -> Counter[tuple[str, str]]:
        """(state, peer's address) of the sockets of that port in the pod's network, as `ss` has them."""
        table = self.cluster.exec(self.namespace, "web", "cat", "/proc/net/tcp", "/proc/net/tcp6")
        rows = [row.split() for row in table.splitlines()]
        ours = [row for row in rows if row[1].endswith(f":{port:04X}")]
        return Counter((row[3], row[2].split(":")[0]) for row in ours)

    def agents(self) -> list[int]:
        """The agents' processes in this namespace's pods."""
        pods = json.loads(self.cluster.kubectl("get", "pods", "-n", self.namespace, "-o", "json"))["items"]
        marks = [f"pod{pod['metadata']['uid']}" for pod in pods]
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and b"\0pymirror.agent\0" in (entry / "cmdline").read_bytes():
                    ours = any(mark in (entry / "cgroup").read_text() for mark in marks)
                    found += [int(entry.name)] * ours
            except OSError:
                continue
        return found

    def alone(self) -> list[tuple[str, str, int]]:
        """What is in the namespace once the agents of earlier sessions have gone, which may take `agent.drain`."""
        for _ in range(2 * SETTLE):
            found: list[tuple[str, str, int]] = self.cluster.there(self.namespace)
            if not any(name.startswith("pymirror-agent-") for _, name, _ in found):
                return found
            time.sleep(1)
        raise AssertionError(f"agents remain: {found}")

    def memory(self) -> int:
        """KiB of them."""
        fields = [
            line.split()
            for pid in self.agents()
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        ]
        return sum(int(field[1]) for field in fields if field[0] == "VmRSS:")

    def in_network(self, *command: str) -> str:
        """A command of this machine in the pod's network namespace."""
        (pid,) = [pid for pid in processes("/incoming_server", "app") if self._is_in_web(pid)]
        words = ["nsenter", "--net", "--target", str(pid), *command]
        return subprocess.run(words, check=True, capture_output=True, text=True, timeout=20).stdout

    def _is_in_web(self, pid: int) -> bool:
        return f"pod{self._uid}" in Path(f"/proc/{pid}/cgroup").read_text()

    @property
    def _uid(self) -> str:
        return str(
            self.cluster.kubectl("get", "pod", "web", "-n", self.namespace, "-o", "jsonpath={.metadata.uid}")
        )


def processes(*words: str) -> list[int]:
    """Processes of this machine whose command begins so."""
    begins = b"".join(word.encode() + b"\0" for word in words)
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cmdline").read_bytes().startswith(begins):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


class Local:
    """`pymirror exec` with a program here. What both say goes to files."""

    def __init__(
        self,
        scene: Scene,
        folder: Path,
        *program: str,
        incoming: Any,
        config: Json | None = None,
        **environ: str,
    ) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        target = {"path": "pod/web/container/main", "namespace": scene.namespace}
        feature = {"fs": "local", "network": {"incoming": incoming}}
        described = {"target": target, "feature": feature, **(config or {})}
        (folder / "config.json").write_text(json.dumps(described))
        words = ["exec", "-f", str(folder / "config.json"), "--progress", "off", "--", *program]
        with open(folder / "out", "wb") as out, open(folder / "err", "wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-c", START, *words],
                env={**os.environ, **scene.cluster.variables, **environ},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def said(self) -> list[str]:
        return (self.folder / "out").read_text().splitlines()

    def errors(self) -> str:
        return (self.folder / "err").read_text()

    def says(self, words: str, times: int = 1, within: float = 40) -> None:
        """Waits until so many lines of the program have these words."""
        end = time.monotonic() + within
        while sum(words in line for line in self.said()) < times:
            assert self.process.poll() is None, self.errors()
            assert time.monotonic() < end, f"{words!r}: {self.said()[-20:]} {self.errors()}"
            time.sleep(0.1)

    def end(self) -> None:
        """As Ctrl-C does: to the whole group."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(40)

    def __enter__(self) -> Local:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


@contextmanager
def scene(cluster: Any, name: str, folder: Path) -> Iterator[Scene]:
    build(cluster, folder)
    with own_namespace(cluster, name, restricted=False) as namespace:
        yield Scene(cluster, namespace, folder / "incoming_server")
