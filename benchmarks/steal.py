"""What stolen and mirrored ports cost: `python benchmarks/steal.py [--json FILE] [--only CASE…]`. Needs gcc.

A client and a target have a network each, joined by veth; a web server, one thread of C, is the target's
application, the same is the local program under `pymirror exec -t process/PID`. Each figure stands beside
the same load sent to the application without pymirror, in the same run. All of it shares this machine's
processors, which in a cluster is three machines' work.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from attrs import field, frozen
from figure import Figure, figure, parser, publish

HERE = Path(__file__).parent
HOST, PORT = "10.97.0.2", "8080"
CONNECTIONS, SECONDS = 16, 4.0
NEVER = {"header_filter": "x-user: nobody"}
ALWAYS = {"header_filter": "x-trace: "}


@frozen
class Case:
    """incoming, before: `feature.network.incoming` of the session, and of an older one that shares the port.
    agent: the section."""

    words: str
    incoming: dict[str, Any]
    before: dict[str, Any] | None = None
    agent: dict[str, Any] = field(factory=dict)


CASES = {
    "steal": Case("taken whole", {"mode": "steal"}),
    "taken": Case("taken by a filter", {"mode": "steal", "http_filter": ALWAYS}),
    "passed": Case("passed on, no match", {"mode": "steal", "http_filter": NEVER}),
    "shared": Case(
        "passed on by two sessions",
        {"mode": "steal", "http_filter": NEVER},
        {"mode": "steal", "http_filter": {"path_filter": "^/nobody"}},
    ),
    "mirror": Case("mirrored: the application's own", {"mode": "mirror"}),
}


@frozen
class Load:
    rate: float
    p50: float
    p99: float
    failed: int


@contextmanager
def network() -> Iterator[subprocess.Popen[bytes]]:
    """A process in a network namespace of its own."""
    command = ("unshare", "-n", "sh", "-c", "ip link set lo up && echo up && exec sleep infinity")
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"up\n"
        try:
            yield holder
        finally:
            holder.kill()


def inside(pid: int, *command: str | Path) -> list[str]:
    return ["nsenter", "-t", str(pid), "-n", *map(str, command)]


def join(target: int, client: int) -> None:
    """A cable between the two."""
    add = f"ip link add eth0 type veth peer name eth0 netns {client}"
    subprocess.run(inside(target, *add.split()), check=True)
    for pid, host in ((target, HOST), (client, "10.97.0.1")):
        for words in (f"addr add {host}/24 dev eth0", "link set eth0 up"):
            subprocess.run(inside(pid, "ip", *words.split()), check=True)


def load(client: int, program: Path, kind: str) -> Load:
    words = inside(client, program, "load", HOST, PORT, str(CONNECTIONS), str(SECONDS), kind)
    said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout.split()
    return Load(float(said[0]), float(said[1]), float(said[2]), int(said[3]))


@contextmanager
def pymirror(
    target: int, incoming: dict[str, Any], program: Path, agent: dict[str, Any] | None = None
) -> Iterator[int]:
    """The local program stands for the port; the agent's pid. agent: its section."""
    network = {"incoming": incoming, "outgoing": False, "dns": False}
    feature = {"fs": "local", "env": False, "hostname": False, "network": network}
    config = json.dumps({"feature": feature, "agent": agent or {}})
    flags = ("exec", "-f", "-", "-t", f"process/{target}", "--progress", "off")
    command = (sys.executable, "-m", "pymirror.cli.main", *flags, "--", program, "serve", PORT)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as made:
        assert made.stdin is not None and made.stdout is not None
        try:
            made.stdin.write(config.encode())
            made.stdin.close()
            assert made.stdout.readline() == b"up\n"
            time.sleep(0.2)  # the server listens; its port is taken
            yield agent_of(made.pid)
        finally:
            made.terminate()


def agent_of(pid: int) -> int:
    for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if b"pymirror.agent" in Path(f"/proc/{each}/cmdline").read_bytes():
            return int(each)
    raise LookupError("no agent")


def cpu(pid: int) -> float:
    """Seconds so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> float:
    """MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def measured(case: Case, kind: str, target: int, client: int, program: Path) -> Iterator[Figure]:
    """Direct, with pymirror, direct again: the baseline is the mean of its two."""
    name = f"{case.words}, {'keep-alive' if kind == 'keep' else 'a connection each'}"
    before = load(client, program, kind)
    with ExitStack() as stack:
        if case.before is not None:
            stack.enter_context(pymirror(target, case.before, program))
        agent = stack.enter_context(pymirror(target, case.incoming, program, case.agent))
        idle = memory(agent)
        load(client, program, kind)  # warm
        start = cpu(agent)
        found = load(client, program, kind)
        used, resident = (cpu(agent) - start) / SECONDS, memory(agent)
    after = load(client, program, kind)
    if found.failed:
        print(f"{name}: {found.failed} requests failed")
    rate, p50, p99 = ((getattr(before, each) + getattr(after, each)) / 2 for each in ("rate", "p50", "p99"))
    yield figure(name, found.rate, "1/s", rate)
    yield figure(f"{name}: p50", found.p50, "us", p50)
    yield figure(f"{name}: p99", found.p99, "us", p99)
    yield figure(f"{name}: agent's CPU a request", used * 1e6 / max(found.rate, 1), "us", 1e6 / rate)
    yield figure(f"{name}: agent's memory, beside its idle one", resident, "MB", idle)


@contextmanager
def served(program: Path) -> Iterator[tuple[int, int]]:
    """A process of the target's network, where the program is the application, and one of the client's."""
    with ExitStack() as stack:
        target, client = (stack.enter_context(network()).pid for _ in range(2))
        join(target, client)
        application = stack.enter_context(
            subprocess.Popen(inside(target, program, "serve", PORT), stdout=subprocess.PIPE)
        )
        stack.callback(application.kill)
        assert application.stdout is not None and application.stdout.readline() == b"up\n"
        yield target, client


def figures(only: list[str]) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "requests"
        subprocess.run(["gcc", "-O2", "-o", program, HERE / "requests.c"], check=True)
        with served(program) as (target, client):
            for case in only:
                for kind in ("keep", "new"):
                    yield from measured(CASES[case], kind, target, client, program)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--only", nargs="*", default=list(CASES), choices=list(CASES), metavar="CASE")
    order = options.parse_args()
    publish(figures(order.only), order.json)
