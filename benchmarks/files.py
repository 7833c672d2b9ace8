"""What files cost: `python benchmarks/files.py [--json FILE] [--runs N] [--delay MS]`.

Needs root or fusermount3.

The same program runs natively and under `pymirror exec -t process/PID` on the same tmpfs folder; the
target is a process of this machine, so the channel is loopback TCP with CURVE, without a delay or through
toxiproxy, `--delay` milliseconds each way. Runs of the two alternate; figures are medians over the runs, the
baseline is the native run's.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

from delay import Delay, delay
from figure import Figure, figure, parser, publish

PROGRAM = Path(__file__).with_name("files_program.py")
EXEC = "import sys; from pymirror.cli.main import main; sys.exit(main())"
UNITS = dict.fromkeys(("sequential read", "sequential write", "writes of 4 KiB"), "MB/s")
LARGE = 256 << 20


def lay_out(folder: Path) -> None:
    for name, count, size in (("stat", 300, 100), ("read", 300, 4000), ("list", 1000, 10)):
        (folder / name).mkdir()
        for number in range(count):
            (folder / name / str(number)).write_bytes(b"x" * size)
    block = os.urandom(1 << 20)
    with open(folder / "large", "wb") as file:
        for _ in range(LARGE >> 20):
            file.write(block)


def native(folder: Path) -> dict[str, float]:
    done = subprocess.run([sys.executable, str(PROGRAM), str(folder)], stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout))


def under(folder: Path, target: int, far: Delay | None) -> dict[str, float]:
    config = {"feature": {"fs": {"read_write": [f"^{folder}"]}, "env": False, "hostname": False}}
    far_away = (str(PROGRAM.with_name("far.py")), far.api, str(far.ms)) if far else ("-c", EXEC)
    done = subprocess.run(
        [
            *(sys.executable, *far_away, "exec", "-f", "-", "-t", f"process/{target}", "--progress", "off"),
            *("--", sys.executable, str(PROGRAM), str(folder)),
        ],
        input=json.dumps(config).encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    return dict(json.loads(done.stdout))


def median(name: str, pairs: list[tuple[dict[str, float], dict[str, float]]]) -> Figure:
    """Medians over the runs, the native one as the baseline."""
    baseline, value = (statistics.median(pair[i][name] for pair in pairs) for i in (0, 1))
    return figure(name, value, UNITS.get(name, "µs"), baseline)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--delay", type=int, default=0, help="milliseconds each way")
    order = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench", dir="/dev/shm"))
    target = subprocess.Popen(["sleep", "3600"])
    try:
        lay_out(folder)
        with delay(order.delay) if order.delay else nullcontext() as far:
            pairs = [(native(folder), under(folder, target.pid, far)) for _ in range(order.runs)]
    finally:
        target.kill()
        target.wait()
        shutil.rmtree(folder)
    publish((median(name, pairs) for name in pairs[0][0]), order.json)


if __name__ == "__main__":
    main()
