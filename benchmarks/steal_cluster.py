"""Stolen ports through a real port-forward: `python benchmarks/steal_cluster.py [--json FILE] [--only …]`.

Needs KUBECONFIG of a cluster that holds the agent's image (tests/cluster/cluster.py start, load, env), and
gcc. The load and the web server of benchmarks/steal.py are in a pod each, the local program is here; each
figure stands beside the same load without pymirror, in the same run.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from figure import Figure, figure, parser, publish
from startup import kubectl, namespace
from steal import CASES, CONNECTIONS, HERE, PORT, SECONDS, Load

IMAGE = "localhost/busybox:1"
PLACE = "/tmp/requests"
ONLY = ("steal", "passed")


def pod(where: str, name: str, program: Path) -> None:
    kubectl("run", name, "-n", where, "--image", IMAGE, "--command", "--", "sleep", "infinity")
    kubectl("wait", "-n", where, "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
    with program.open("rb") as content:
        words = [
            "kubectl",
            "exec",
            "-i",
            "-n",
            where,
            name,
            "--",
            "sh",
            "-c",
            f"cat > {PLACE}; chmod +x {PLACE}",
        ]
        subprocess.run(words, stdin=content, check=True)


@contextmanager
def serving(where: str) -> Iterator[str]:
    """The application; its address."""
    words = ["kubectl", "exec", "-i", "-n", where, "web", "--", PLACE, "serve", PORT]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None and running.stdout.readline() == b"up\n"
        yield kubectl("get", "pod", "web", "-n", where, "-o", "jsonpath={.status.podIP}")
        running.terminate()


def load(where: str, host: str, kind: str) -> Load:
    words = (
        "exec",
        "-n",
        where,
        "client",
        "--",
        PLACE,
        "load",
        host,
        PORT,
        str(CONNECTIONS),
        str(SECONDS),
        kind,
    )
    said = kubectl(*words).split()
    return Load(float(said[0]), float(said[1]), float(said[2]), int(said[3]))


@contextmanager
def pymirror(where: str, incoming: dict[str, Any], program: Path) -> Iterator[None]:
    network = {"incoming": incoming, "outgoing": False, "dns": False}
    config = json.dumps({"feature": {"fs": "local", "env": False, "hostname": False, "network": network}})
    flags = ("exec", "-f", "-", "-n", where, "-t", "pod/web", "--progress", "off")
    command = (sys.executable, "-m", "pymirror.cli.main", *flags, "--", program, "serve", PORT)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as made:
        assert made.stdin is not None and made.stdout is not None
        try:
            made.stdin.write(config.encode())
            made.stdin.close()
            assert made.stdout.readline() == b"up\n"
            time.sleep(0.5)  # the server listens; its port is taken
            yield
        finally:
            made.terminate()


def measured(case: str, kind: str, where: str, host: str, program: Path) -> Iterator[Figure]:
    words, incoming = CASES[case].words, CASES[case].incoming
    name = f"{words}, {'keep-alive' if kind == 'keep' else 'a connection each'}, port-forward"
    before = load(where, host, kind)
    with pymirror(where, incoming, program):
        load(where, host, kind)  # warm
        found = load(where, host, kind)
    after = load(where, host, kind)
    if found.failed:
        print(f"{name}: {found.failed} requests failed")
    rate, p50, p99 = ((getattr(before, each) + getattr(after, each)) / 2 for each in ("rate", "p50", "p99"))
    yield figure(name, found.rate, "1/s", rate)
    yield figure(f"{name}: p50", found.p50, "us", p50)
    yield figure(f"{name}: p99", found.p99, "us", p99)


def figures(only: list[str]) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        program = Path(folder) / "requests"
        subprocess.run(["gcc", "-O2", "-static", "-o", program, HERE / "requests.c"], check=True)
        where = stack.enter_context(namespace())
        for name in ("web", "client"):
            pod(where, name, program)
        host = stack.enter_context(serving(where))
        for case in only:
            for kind in ("keep", "new"):
                yield from measured(case, kind, where, host, program)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--only", nargs="*", default=list(ONLY), choices=list(CASES), metavar="CASE")
    order = options.parse_args()
    publish(figures(order.only), order.json)
