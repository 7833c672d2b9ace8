"""What outgoing traffic costs: `python benchmarks/outgoing.py [--json FILE] [--runs N]`. Needs gcc and Go.

The same C program runs natively and under `pymirror exec -t process/PID`; the server is the target, a
process of this machine. First without a delay: the channel is loopback TCP with CURVE. Then with 20 ms each
way: pymirror's channel leads through toxiproxy, and so does the native program's way to the server. Runs of
the two alternate; figures are medians over the runs, the baseline is the native run's. Names: dns.py.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from delay import Delay, delay
from figure import Figure, figure, main

HERE = Path(__file__).parent
EACH_WAY = 20
LIMIT = 60
"""Seconds for one measure; it fails then."""
NEAR = (sys.executable, "-m", "pymirror.cli.main")
CONFIG = {"feature": {"fs": "local", "env": False, "hostname": False}}
STREAMS = {
    "latency": ("connect, blocking", "us"),
    "begin": ("connect, a byte there and back", "us"),
    "rate": ("connections, 20 at once", "1/s"),
    "ping": ("one byte there and back", "us"),
    "up": ("one stream up", "MB/s"),
    "down": ("one stream down", "MB/s"),
    "up8": ("eight streams up", "MB/s"),
    "down8": ("eight streams down", "MB/s"),
}
BESIDE_FAR = {"latency": "ping"}
"""Toxiproxy accepts at once, so a round trip stands for the connect through it."""
MEASURES = {
    **STREAMS,
    "connected": ("datagrams there and back, connected", "1/s"),
    "unconnected": ("datagrams there and back, unconnected", "1/s"),
    "messages": ("sendmsg and recvmsg without an address", "us"),
}


def compiled(program: Path, *flags: str) -> None:
    source = HERE / "outgoing.c"
    subprocess.run(["gcc", "-O2", "-pthread", *flags, "-o", program, source], check=True)


def said(command: Sequence[str | Path], given: str = "", environ: dict[str, str] | None = None) -> float:
    """The number that a command prints."""
    done = subprocess.run(
        command, input=given, env=environ, text=True, stdout=subprocess.PIPE, check=True, timeout=LIMIT
    )
    return float(done.stdout)


def under(pymirror: Sequence[str], target: int, *command: str | Path) -> float:
    flags = ("-f", "-", "-t", f"process/{target}", "--progress", "off")
    return said([*pymirror, "exec", *flags, "--", *command], json.dumps(CONFIG))


def measured(program: Path, runs: int, only: Sequence[str], far: Delay | None) -> Iterator[Figure]:
    """Without a `far`: at no delay."""
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin is not None and server.stdout is not None
        port = direct = server.stdout.readline().decode().strip()
        pymirror: Sequence[str] = NEAR
        if far is not None:
            direct = far.before(f"127.0.0.1:{port}").rpartition(":")[2]
            pymirror = (sys.executable, str(HERE / "far.py"), far.api, str(far.ms))
        for measure in only:
            name, unit = MEASURES[measure]
            beside = BESIDE_FAR.get(measure, measure) if far else measure
            pairs = [
                (said([program, beside, direct]), under(pymirror, server.pid, program, measure, port))
                for _ in range(runs)
            ]
            baseline, value = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
            yield figure(f"{name}, {far.ms} ms" if far else name, value, unit, baseline)
        server.stdin.close()


def figures(runs: int, only: Sequence[str], delays: Sequence[int]) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "outgoing"
        compiled(program)
        if 0 in delays:
            yield from measured(program, runs, only, None)
        for ms in filter(None, delays):
            with delay(ms) as far:
                yield from measured(program, runs, [one for one in only if one in STREAMS], far)


if __name__ == "__main__":
    main(__doc__, list(MEASURES), EACH_WAY, figures)
