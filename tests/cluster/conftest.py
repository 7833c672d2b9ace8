"""The test cluster for this tier: started once, two nodes, a namespace per test, pods that end at once.

PYMIRROR_TEST_CLUSTER=keep uses one that runs already, and leaves the one it starts running.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
AGENT_IMAGE = "localhost/pymirror-agent:0.1.0"
BUSYBOX = "localhost/busybox:1"
START = "import sys; from pymirror.cli.main import main; sys.exit(main())"
API, API_PORT = "10.42.0.1", 6443  # place.py's
Json = dict[str, Any]


class Cluster:
    """The running cluster, as its tests use it."""

    def __init__(self, variables: dict[str, str]) -> None:
        self.variables = variables
        self.kubeconfig = Path(variables["KUBECONFIG"])

    def kubectl(self, *words: str, given: str | None = None, limit: float = 60) -> str:
        """Runs kubectl; returns its output; raises with its words when it fails."""
        done = subprocess.run(
            ["kubectl", *words],
            env={**os.environ, **self.variables},
            input=given,
            text=True,
            capture_output=True,
            timeout=limit,
            check=False,
        )
        assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr}"
        return done.stdout

    def until_refused(self, *words: str) -> None:
        """Waits until the API server refuses this: a policy comes into force a moment after it was made."""

        def refused() -> bool:
            try:
                self.kubectl(*words)
            except AssertionError:
                return True
            return False

        until(refused, f"kubectl {' '.join(words)} is refused")

    def apply(self, thing: Json, namespace: str) -> None:
        self.kubectl("apply", "-n", namespace, "-f", "-", given=json.dumps(thing))

    def pod(self, namespace: str, name: str, node: str = "", **container: Any) -> None:
        """Creates a pod of one container `main` (busybox, asleep, unless said); waits until it is Ready."""
        described = {"name": "main", "image": BUSYBOX, "command": ["sleep", "infinity"], **container}
        spec: Json = {"terminationGracePeriodSeconds": 0, "containers": [described]}
        if node:
            spec["nodeName"] = node  # past the scheduler and the node's taint
        metadata = {"name": name, "labels": {"app": name}}
        self.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}, namespace)
        self.kubectl("wait", "-n", namespace, "--for=condition=Ready", f"pod/{name}", "--timeout=50s")

    def exec(self, namespace: str, pod: str, *command: str) -> str:
        return self.kubectl("exec", "-n", namespace, pod, "--", *command)

    def image(self, name: str, *programs: Path) -> None:
        """An image of busybox and these static programs, in every node; a pod finds them in its root."""
        manage("image", name, *map(str, programs))

    def there(self, namespace: str) -> list[tuple[str, str, int]]:
        """What a session could leave in the namespace: Jobs, pods, and how many containers were added."""
        found = json.loads(self.kubectl("get", "jobs,pods", "-n", namespace, "-o", "json"))["items"]
        return sorted(
            (item["kind"], item["metadata"]["name"], len(item["spec"].get("ephemeralContainers", [])))
            for item in found
        )


class Relay:
    """The API server at a port of this machine, which a test can take away."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._flows = threading.Event()
        self._flows.set()
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near = self._listener.accept()[0]
                far = socket.create_connection((API, API_PORT))
            except OSError:
                return
            self._open += [near, far]
            for way in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=way, daemon=True).start()

    def _carry(self, source: socket.socket, to: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._flows.wait()
                to.sendall(data)
            to.shutdown(socket.SHUT_WR)

    def stall(self) -> None:
        """Nothing is refused, nothing is answered any more."""
        self._flows.clear()

    def cut(self) -> None:
        """End every connection and refuse new ones."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with suppress(OSError):
            self.cut()
        self._flows.set()
        for one in self._open:
            one.close()


def until(true: Callable[[], Any], what: str, within: float = 60.0) -> Any:
    """Polls for a state outside of this process; the limit is a failure, not a measurement."""
    end = time.monotonic() + within
    while not (found := true()):
        assert time.monotonic() < end, f"not within {within:g} s: {what}"
        time.sleep(0.1)
    return found


class Session:
    """One `pymirror exec` as a user starts it, with a mark to find everything that belongs to it."""

    def __init__(
        self,
        cluster: Cluster,
        folder: Path,
        *words: str,
        lease: float = 30,
        program: tuple[str, ...] = ("sh", "-c", "echo ready; exec sleep 1000"),
        config: Json | None = None,
        **environ: str,
    ):
        self.mark = f"MARK={uuid.uuid4().hex}"
        self.folder = folder / "tmp"
        self.folder.mkdir()
        file = folder / "config.json"
        file.write_text(json.dumps({"session": {"lease": lease, "heartbeat": lease / 6}, **(config or {})}))
        name, value = self.mark.split("=")
        mine = {"TMPDIR": str(self.folder), name: value, **environ}
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, "exec", "-f", str(file), *words, "--", *program],
            env={**os.environ, **cluster.variables, **mine},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def said(self, words: str) -> str:
        """Waits until stderr has these words; what it said until then."""
        assert self.process.stderr is not None
        heard = ""
        for line in self.process.stderr:
            heard += line
            if words in line:
                return heard
        pytest.fail(f"never said {words!r}:\n{heard}")

    def line(self) -> str:
        """The next line of the program."""
        assert self.process.stdout is not None and self.process.stderr is not None
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        return line.rstrip("\n")

    def ready(self) -> None:
        assert self.line() == "ready"

    def end(self, within: float = 60.0) -> int:
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.wait(within)

    def rest(self, within: float = 60.0) -> tuple[int, str]:
        """Waits for the end; the exit status and the rest of stderr."""
        said = self.process.communicate(timeout=within)[1]
        return self.process.returncode, said

    def processes(self) -> list[int]:
        """Processes that were started with the session's mark."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    if self.mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found

    def nothing_here(self) -> None:
        until(lambda: not self.processes(), f"processes {self.processes()} end", 15)
        until(lambda: not list(self.folder.iterdir()), f"{list(self.folder.iterdir())} go", 15)
        assert str(self.folder) not in Path("/proc/self/mountinfo").read_text()


def manage(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, str(HERE / "cluster.py"), *words], text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, f"cluster.py {' '.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout


def variables() -> dict[str, str]:
    words = manage("env").removeprefix("export ").split()
    found = dict(word.split("=", 1) for word in words)
    return {**found, "PATH": found["PATH"].replace("$PATH", os.environ["PATH"])}


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The cluster, with the agent's image of this checkout in every node."""
    keep = os.environ.get("PYMIRROR_TEST_CLUSTER") == "keep"
    found = variables()
    try:
        if not (keep and Path(found["KUBECONFIG"]).exists()):
            manage("start", "--nodes", "2")
        archive = ROOT / "dist/pymirror-agent.tar"
        assert archive.exists(), "the agent's image is not there: run scripts/build"
        manage("load", str(archive))
        yield Cluster(found)
    finally:
        if not keep:
            manage("stop")


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of this test's own; its pods are ended at once afterwards."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    try:
        yield name
    finally:
        cluster.kubectl("delete", "pods", "--all", "--now", "-n", name)
        cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def make_pod(cluster: Cluster, namespace: str) -> Callable[..., None]:
    def make(name: str, **container: Any) -> None:
        cluster.pod(namespace, name, **container)

    return make


@pytest.fixture
def target(cluster: Cluster, namespace: str) -> str:
    """A namespace with the pod `web`."""
    cluster.pod(namespace, "web")
    return namespace


@pytest.fixture
def session(
    cluster: Cluster, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[..., Session]]:
    """Starts a session with pod/web of the fixture `target`; it has ended after the test."""
    where = request.getfixturevalue("target")
    made: list[Session] = []

    def make(*words: str, **more: Any) -> Session:
        made.append(Session(cluster, tmp_path, "-n", where, "-t", "pod/web", *words, **more))
        return made[-1]

    yield make
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()


@pytest.fixture
def relayed(cluster: Cluster, tmp_path: Path) -> Iterator[tuple[Relay, str]]:
    """(the relay, a kubeconfig that leads through it)."""
    relay = Relay()
    described = json.loads(cluster.kubectl("config", "view", "--raw", "-o", "json"))
    described["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{relay.port}"
    file = tmp_path / "relayed"
    file.write_text(json.dumps(described))
    yield relay, str(file)
    relay.close()


@pytest.fixture
def nothing_there(cluster: Cluster) -> Callable[..., None]:
    """Waits until a namespace has no Job, no pod but the target's, and every ephemeral container has ended."""

    def living(namespace: str) -> list[str]:
        pods = json.loads(cluster.kubectl("get", "pods", "-n", namespace, "-o", "json"))["items"]
        return [
            status["name"]
            for pod in pods
            for status in pod["status"].get("ephemeralContainerStatuses", [])
            if "terminated" not in status.get("state", {})
        ]

    def wait(namespace: str, pods: tuple[str, ...] = ("web",), within: float = 60.0) -> None:
        def names() -> list[str]:
            return [name for _, name, _ in cluster.there(namespace)]

        until(lambda: names() == list(pods), "the Job and the agent's pod go", within)
        until(lambda: not living(namespace), "the ephemeral agent ends", within)

    return wait
