"""How long until the program runs: `python benchmarks/startup.py [--json FILE] [--rounds N]`.

Needs KUBECONFIG of a cluster that holds the agent's image (tests/cluster/cluster.py start, load, env).
Baselines of the same run: a pod from `kubectl run` until it is Ready, for the time to the program; kubectl's
own start, for the time to the first API call; an idle Python of the same image, for the agent's memory.
Each figure is the median of the rounds, which alternate with the baseline's.
"""

from __future__ import annotations

import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from figure import figure, parser, publish

PYMIRROR = (sys.executable, "-c", "from pymirror.cli.main import main; main()")
IMAGE = f"localhost/pymirror-agent:{version('pymirror')}"
IDLE = ("/usr/bin/python3", "-c", "import signal; signal.pause()")
LIMIT = 120


def kubectl(*words: str, given: str | None = None) -> str:
    done = subprocess.run(["kubectl", *words], input=given, text=True, capture_output=True, timeout=LIMIT)
    if done.returncode:
        raise SystemExit(f"kubectl {' '.join(words)}: {done.stderr}")
    return done.stdout


@contextmanager
def namespace() -> Iterator[str]:
    name = f"bench-{uuid.uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    try:
        yield name
    finally:
        kubectl("delete", "pods", "--all", "--now", "-n", name)
        kubectl("delete", "namespace", name, "--wait=false")


def run_pod(where: str, name: str, *command: str) -> None:
    """A pod of the agent's image, until it is Ready; it ends at once when it is deleted."""
    at_once = json.dumps({"spec": {"terminationGracePeriodSeconds": 0}})
    kubectl("run", name, "-n", where, "--image", IMAGE, "--overrides", at_once, "--command", "--", *command)
    kubectl("wait", "-n", where, "--for=condition=Ready", f"pod/{name}", "--timeout=60s")


def seconds(work: Callable[[], object]) -> float:
    before = time.perf_counter()
    work()
    return time.perf_counter() - before


@contextmanager
def session(where: str, target: str, *flags: str) -> Iterator[None]:
    """`pymirror exec`: entered at its program's first word, left after its end."""
    words = [
        *PYMIRROR,
        "exec",
        "-t",
        f"pod/{target}",
        "--progress",
        "off",
        "-n",
        where,
        *flags,
        "--",
        "sh",
        "-c",
        "echo; read end",
    ]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdin is not None and running.stdout is not None
        if running.stdout.readline() != b"\n":
            raise SystemExit(f"{' '.join(words)} ended before its program ran")
        yield
        running.stdin.close()


def to_program(where: str, *flags: str) -> float:
    before = time.perf_counter()
    with session(where, "web", *flags):
        return time.perf_counter() - before


def to_first_call(*command: str) -> float:
    """Until the command connects to its cluster, which is a socket here that answers nobody."""
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LIMIT)
        there = {"server": f"http://127.0.0.1:{listener.getsockname()[1]}"}
        described = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [{"name": "here", "cluster": there}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": ""}}],
        }
        config = Path(folder) / "config"
        config.write_text(json.dumps(described))
        before = time.perf_counter()
        environ = {**os.environ, "KUBECONFIG": str(config), "HOME": folder}
        with subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL) as asking:
            listener.accept()[0].close()
            taken = time.perf_counter() - before
            asking.kill()
    return taken


def resident(where: str, pod: str, word: str) -> float:
    """MB of a process of the pod, found among this machine's by its pod's cgroup and a word it was given."""
    uid = kubectl("get", "pod", pod, "-n", where, "-o", "jsonpath={.metadata.uid}")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if uid not in (process / "cgroup").read_text() or word not in (process / "cmdline").read_text():
                continue
            found = re.search(r"VmRSS:\s+(\d+) kB", (process / "status").read_text())
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended since
        if found:
            return int(found[1]) * 1024 / 1e6
    raise SystemExit(f"no process of {pod} with {word} on this machine: its node must be here")


def alternate(rounds: int, ours: Callable[[], float], theirs: Callable[[], float]) -> tuple[float, float]:
    pairs = [(ours(), theirs()) for _ in range(rounds)]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def measure(rounds: int, where: str) -> Iterator[tuple[str, str, float, float]]:
    def fresh_pod() -> float:
        return seconds(lambda: run_pod(where, f"base-{uuid.uuid4().hex[:8]}", *IDLE))

    run_pod(where, "web", *IDLE)
    yield "exec to program, Job", "s", *alternate(rounds, lambda: to_program(where), fresh_pod)
    shared = ("--ephemeral-container",)
    yield (
        "exec to program, ephemeral container",
        "s",
        *alternate(rounds, lambda: to_program(where, *shared), fresh_pod),
    )
    asks = (*PYMIRROR, "exec", "-t", "pod/web", "--", "true")
    yield (
        "exec to first API call",
        "s",
        *alternate(rounds, lambda: to_first_call(*asks), lambda: to_first_call("kubectl", "get", "pods")),
    )
    with session(where, "web", *shared):
        yield (
            "agent's memory",
            "MB",
            resident(where, "web", "pymirror.agent"),
            resident(where, "web", "signal.pause"),
        )


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=5)
    order = options.parse_args()
    with namespace() as where:
        measured = measure(order.rounds, where)
        publish((figure(name, value, unit, base) for name, unit, value, base in measured), order.json)


if __name__ == "__main__":
    main()
