"""Outgoing traffic beside `kubectl port-forward`: `python benchmarks/forward.py [--json FILE] [--runs N]`.

Needs KUBECONFIG of a cluster that holds the agent's image (tests/cluster/cluster.py start, load, env), gcc,
and Go once. A C server in a pod; the same C program speaks to it under `pymirror exec`, and through kubectl's
forwarded port. First straight to the API server, then both through toxiproxy, 20 ms each way. Runs of the two
alternate; figures are medians over the runs. kubectl takes a connection before it asks the cluster for
anything, so what counts is the first byte there and back, not the connect.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from delay import Delay, delay
from figure import Figure, figure, main
from outgoing import CONFIG, EACH_WAY, NEAR, STREAMS, compiled, said
from startup import kubectl, namespace

IMAGE = "localhost/busybox:1"
PLACE = "/tmp/outgoing"
MEASURES = [one for one in STREAMS if one not in ("latency", "rate")]
"""Without `rate`: of 20 connections at once kubectl loses one now and then, which then hangs."""


@contextmanager
def server(where: str, program: Path) -> Iterator[str]:
    """The pod `web`, which serves; the port in it."""
    kubectl("run", "web", "-n", where, "--image", IMAGE, "--command", "--", "sleep", "infinity")
    kubectl("wait", "-n", where, "--for=condition=Ready", "pod/web", "--timeout=60s")
    inside = ("kubectl", "exec", "-i", "-n", where, "web", "--")
    with program.open("rb") as content:
        copied = f"cat > {PLACE} && chmod +x {PLACE}"
        subprocess.run([*inside, "sh", "-c", copied], stdin=content, check=True)
    with subprocess.Popen([*inside, PLACE], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdin is not None and running.stdout is not None
        yield running.stdout.readline().decode().strip()
        running.stdin.close()


@contextmanager
def kubeconfig(far: Delay | None) -> Iterator[dict[str, str]]:
    """The environment that leads to the cluster, through the delay if there is one."""
    described = json.loads(kubectl("config", "view", "--raw", "-o", "json"))
    with tempfile.TemporaryDirectory() as folder:
        if far is not None:
            cluster = described["clusters"][0]["cluster"]
            cluster["server"] = f"https://{far.before(urlsplit(cluster['server']).netloc)}"
        file = Path(folder) / "config"
        file.write_text(json.dumps(described))
        yield {**os.environ, "KUBECONFIG": str(file)}


@contextmanager
def forwarded(where: str, port: str, environ: dict[str, str]) -> Iterator[str]:
    """The port of this machine that kubectl forwards."""
    command = ["kubectl", "port-forward", "-n", where, "--address", "127.0.0.1", "pod/web", f":{port}"]
    quiet = subprocess.DEVNULL  # it tells of every connection that the program closes
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=quiet) as running:
        assert running.stdout is not None
        line = running.stdout.readline().decode()  # Forwarding from 127.0.0.1:NEAR -> FAR
        try:
            yield line.split()[2].rpartition(":")[2]
        finally:
            running.terminate()


def measured(
    program: Path, where: str, port: str, runs: int, only: Sequence[str], far: Delay | None
) -> Iterator[Figure]:
    flags = ("-f", "-", "-n", where, "-t", "pod/web", "--progress", "off")
    under = (*NEAR, "exec", *flags, "--", program)
    config = json.dumps(CONFIG)
    with kubeconfig(far) as environ:
        for measure in only:
            name, unit = STREAMS[measure]
            with forwarded(where, port, environ) as near:
                pairs = [
                    (said([program, measure, near]), said([*under, measure, port], config, environ))
                    for _ in range(runs)
                ]
            baseline, value = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
            yield figure(f"{name}, {far.ms if far else 0} ms", value, unit, baseline)


def figures(runs: int, only: Sequence[str], delays: Sequence[int]) -> Iterator[Figure]:
    with ExitStack() as stack:
        program = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "outgoing"
        compiled(program, "-static")
        where = stack.enter_context(namespace())
        port = stack.enter_context(server(where, program))
        for ms in delays:
            with ExitStack() as here:
                far = here.enter_context(delay(ms)) if ms else None
                yield from measured(program, where, port, runs, only, far)


if __name__ == "__main__":
    main(__doc__, MEASURES, EACH_WAY, figures)
