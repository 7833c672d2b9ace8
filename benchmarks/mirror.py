"""What a mirrored port costs its application: `python benchmarks/mirror.py [--json FILE] [--rates RATE…]`.

Needs gcc. A client asks a fixed rate over 20 connections, however fast the answers are, so that both states
get the same. The application's times with a session stand beside those without; those without beside others
without, which is the noise. Client, application, agent, channel, layer and program share this machine's
processors, which in a cluster is three machines' work.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import IO

from attrs import frozen
from figure import Figure, figure, parser, publish
from steal import HOST, PORT, agent_of, cpu, inside, join, memory, network

HERE = Path(__file__).parent
CONNECTIONS, SECONDS, ROUNDS = 20, 4.0, 3
CASES: dict[str, object] = {
    "": "mirror",
    ", all match a filter": {"mode": "mirror", "http_filter": {"header_filter": "^x-trace: "}},
}


@frozen
class Load:
    """sent: requests. p50, p99: us."""

    sent: int
    p50: float
    p99: float


@frozen
class Mirrored:
    """came: requests that the program got. cpu: seconds of the agent's. memory, idle: MB."""

    load: Load
    came: int
    cpu: float
    memory: float
    idle: float


def load(client: int, pace: Path, rate: int) -> Load:
    words = inside(client, pace, "load", HOST, PORT, str(CONNECTIONS), str(SECONDS), str(rate))
    said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout.split()
    if int(said[3]):
        print(f"{rate}/s: {said[3]} requests failed")
    return Load(int(said[0]), float(said[1]), float(said[2]))


@contextmanager
def session(target: int, pace: Path, case: str) -> Iterator[subprocess.Popen[str]]:
    """A program that counts has a copy of the port."""
    network = {"incoming": CASES[case], "outgoing": False, "dns": False}
    config = json.dumps({"feature": {"fs": "local", "env": False, "hostname": False, "network": network}})
    flags = ("exec", "-f", "-", "-t", f"process/{target}", "--progress", "off")
    command = (sys.executable, "-m", "pymirror.cli.main", *flags, "--", str(pace), "count", PORT)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as made:
        assert made.stdin is not None and made.stdout is not None
        try:
            made.stdin.write(config)
            made.stdin.close()
            assert made.stdout.readline() == "up\n"
            yield made
        finally:
            made.terminate()


def counted(made: subprocess.Popen[str]) -> int:
    made.send_signal(signal.SIGUSR1)
    out: IO[str] | None = made.stdout
    assert out is not None
    return int(out.readline())


def settled(made: subprocess.Popen[str]) -> int:
    """What it has got once nothing more comes."""
    last, now = -1, counted(made)
    while now != last:
        time.sleep(0.5)
        last, now = now, counted(made)
    return now


def mirrored(target: int, client: int, pace: Path, rate: int, case: str) -> Mirrored:
    with session(target, pace, case) as made:
        agent = agent_of(made.pid)
        idle, before, start = memory(agent), counted(made), cpu(agent)
        found = load(client, pace, rate)
        return Mirrored(found, settled(made) - before, cpu(agent) - start, memory(agent), idle)


def measured(rate: int, case: str, target: int, client: int, pace: Path) -> Iterator[Figure]:
    """Without, with, without, …, without: each state is a median."""
    load(client, pace, rate)  # warm
    without, made = [load(client, pace, rate)], []
    for _ in range(ROUNDS):
        made.append(mirrored(target, client, pace, rate, case))
        without.append(load(client, pace, rate))
    name = f"{rate}/s{case}"
    for part in ("p50", "p99"):
        direct = [getattr(each, part) for each in without]
        found = median(getattr(each.load, part) for each in made)
        yield figure(f"{name}: application's {part}", found, "us", median(direct))
        yield figure(f"{name}: {part} without, slowest beside fastest", max(direct), "us", min(direct))
    sent, came = sum(each.load.sent for each in made), sum(each.came for each in made)
    yield figure(f"{name}: copies that came, beside requests", came, "", sent)
    used = sum(each.cpu for each in made) * 1e6 / sent
    yield figure(f"{name}: agent's CPU a request, beside its share", used, "us", 1e6 / rate)
    resident, idle = max(each.memory for each in made), max(each.idle for each in made)
    yield figure(f"{name}: agent's memory, beside its idle one", resident, "MB", idle)


def figures(rates: list[int]) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        pace, requests = Path(folder) / "pace", Path(folder) / "requests"
        for program in (pace, requests):
            source = HERE / f"{program.name}.c"
            subprocess.run(["gcc", "-O2", "-Wall", "-o", program, source], check=True)
        target, client = (stack.enter_context(network()).pid for _ in range(2))
        join(target, client)
        words = inside(target, requests, "serve", PORT)
        application = stack.enter_context(subprocess.Popen(words, stdout=subprocess.PIPE))
        stack.callback(application.kill)
        assert application.stdout is not None and application.stdout.readline() == b"up\n"
        for rate in rates:
            for case in CASES:
                yield from measured(rate, case, target, client, pace)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--rates", nargs="*", type=int, default=[5000, 10000], metavar="RATE")
    order = options.parse_args()
    publish(figures(order.rates), order.json)
