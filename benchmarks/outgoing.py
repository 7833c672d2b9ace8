"""What outgoing traffic costs: `python benchmarks/outgoing.py [--json FILE] [--runs N]`. Needs gcc.

The same C program runs natively and under `pymirror exec -t process/PID`; the server is the target, a
process of this machine, so the channel is loopback TCP with CURVE and no delay. Runs of the two
alternate; figures are medians over the runs, the baseline is the native run's.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from figure import Figure, figure, parser, publish

SOURCE = Path(__file__).with_name("outgoing.c")
EXEC = "import sys; from pymirror.cli.main import main; sys.exit(main())"
CONFIG = {"feature": {"fs": "local", "env": False, "hostname": False}}
MEASURES = {
    "latency": ("connect, blocking", "us"),
    "rate": ("connections, 20 at once", "1/s"),
    "ping": ("one byte there and back", "us"),
    "up": ("one stream up", "MB/s"),
    "down": ("one stream down", "MB/s"),
    "connected": ("datagrams there and back, connected", "1/s"),
    "unconnected": ("datagrams there and back, unconnected", "1/s"),
    "messages": ("sendmsg and recvmsg without an address", "us"),
}


def native(program: Path, measure: str, port: int) -> float:
    done = subprocess.run([program, measure, str(port)], stdout=subprocess.PIPE, check=True)
    return float(done.stdout)


def under(program: Path, measure: str, port: int, target: int) -> float:
    command = [sys.executable, "-c", EXEC, "exec", "-f", "-", "-t", f"process/{target}", "--progress", "off"]
    done = subprocess.run(
        [*command, "--", program, measure, str(port)],
        input=json.dumps(CONFIG).encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    return float(done.stdout)


def measured(program: Path, runs: int, only: list[str]) -> Iterator[Figure]:
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin is not None and server.stdout is not None
        port = int(server.stdout.readline())
        for measure in only or MEASURES:
            name, unit = MEASURES[measure]
            pairs = [
                (native(program, measure, port), under(program, measure, port, server.pid))
                for _ in range(runs)
            ]
            baseline, value = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
            yield figure(name, value, unit, baseline)
        server.stdin.close()


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--only", nargs="*", default=[], choices=list(MEASURES), metavar="MEASURE")
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "outgoing"
        subprocess.run(["gcc", "-O2", "-pthread", "-o", program, SOURCE], check=True)
        publish(measured(program, arguments.runs, arguments.only), arguments.json)


if __name__ == "__main__":
    main()
