"""The POSIX suites on a folder of the target: `python benchmarks/posix.py [--operations N] [--json FILE]`.

pjdfstest whole, fsx alone, and as many fsx at once as --processes says, under `pymirror exec` in mode
`write`; each beside the same on a tmpfs of this machine, which is the baseline. Figures are seconds of the
run, a session's start among them, and for pjdfstest the tests that pass. What fsx finds wrong ends it with
its words. Needs root, cargo and /dev/fuse.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from figure import Figure, figure, parser, publish

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests/helpers")]
posix = importlib.import_module("tests.sandbox.posix")
written_place = importlib.import_module("tests.sandbox.written_place")

LIMIT = 3600.0
WEIGHTS = {**posix.OPERATIONS, "close_open": 0.1}
"""Each leaves an open file (posix.py), of which a session has 1,024."""
Suites = Callable[[str, list[str]], tuple[float, ...]]


def timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def right(found: object) -> None:
    """SystemExit with fsx's words."""
    for each in found if isinstance(found, list) else [found]:
        if each != posix.Work(True):
            sys.exit(str(each))


def suites(operations: int, processes: int) -> Suites:
    """Tests of pjdfstest that pass and its time, and fsx's two. Of a folder and the command put before."""

    def run(folder: str, within: list[str]) -> tuple[float, ...]:
        found: list[dict[str, object]] = []
        took = timed(lambda: found.append(posix.pjdfstest(folder, within=within, limit=LIMIT)))

        def alone() -> None:
            right(posix.fsx(f"{folder}/fsx", operations, 1, within=within, weights=WEIGHTS, limit=LIMIT))

        def at_once() -> None:
            options = {"within": within, "weights": WEIGHTS, "limit": LIMIT}
            right(posix.fsx_at_once(folder, processes, operations, 2, **options))

        return len(posix.having(found[0], "passed")), took, timed(alone), timed(at_once)

    return run


def figures(operations: int, processes: int) -> Iterator[Figure]:
    run = suites(operations, processes)
    with tempfile.TemporaryDirectory(prefix="pymirror-posix-", dir="/dev/shm") as here:
        Path(here).chmod(0o777)
        baselines = run(here, [])
    with written_place.target("1g") as place:
        values = run(written_place.FOLDER, place.within())
    names = ("pjdfstest, passed", "pjdfstest", f"fsx, {operations}", f"fsx, {processes} x {operations}")
    for name, unit, value, baseline in zip(names, ("tests", "s", "s", "s"), values, baselines, strict=True):
        yield figure(name, value, unit, baseline)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--operations", type=int, default=100_000, help="of each fsx")
    options.add_argument("--processes", type=int, default=4, help="fsx at once")
    order = options.parse_args()
    publish(figures(order.operations, order.processes), order.json)


if __name__ == "__main__":
    main()
