"""What outgoing traffic costs: `python benchmarks/outgoing.py [--json FILE] [--runs N]`. Needs gcc.

The same C program runs natively and under `pymirror exec -t process/PID`; the server is the target, a
process of this machine, so the channel is loopback TCP with CURVE and no delay. Runs of the two
alternate; figures are medians over the runs, the baseline is the native run's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

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


def measured(program: Path, runs: int, only: list[str]) -> list[dict[str, Any]]:
    figures = []
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
            figures.append(
                {
                    "name": name,
                    "value": round(value, 1),
                    "unit": unit,
                    "baseline": round(baseline, 1),
                    "ratio": round(value / baseline, 3),
                }
            )
        server.stdin.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=[], choices=list(MEASURES), metavar="MEASURE")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "outgoing"
        subprocess.run(["gcc", "-O2", "-pthread", "-o", program, SOURCE], check=True)
        figures = measured(program, arguments.runs, arguments.only)
    print("name,value,unit,baseline,ratio")
    for figure in figures:
        print(",".join(str(value) for value in figure.values()))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
