"""What a caught call costs the program: `python benchmarks/calls.py [--json FILE]`.

Each figure is the median of ten rounds of a static C program, under the engine and natively in the
same run. The tree is a folder of a memory file system, so that only the engine is measured.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from figure import Figure, figure, parser, publish

from pymirror.core.call import CALLS, Call, OtherPath, Scope, Untouched, Verdict
from pymirror.layer.engines.seccomp.engine import Engine

HERE = Path(__file__).parent
COUNT = 2000


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder with the compiled program and a tree."""
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        place = Path(folder)
        (place / "root" / "bench").mkdir(parents=True)
        (place / "root" / "bench" / "file").write_text("x")
        (place / "file").write_text("x")
        subprocess.run(["gcc", "-O2", "-static", "-o", place / "calls", HERE / "calls.c"], check=True)
        yield place


def native(place: Path, what: str, path: Path) -> float:
    command: list[str | Path] = [place / "calls", what, path, str(COUNT)]
    return float(subprocess.run(command, capture_output=True, check=True).stdout) / 1000


async def caught(place: Path, what: str, path: str, count: int = COUNT, keep: bool = True) -> float:
    """Microseconds per call under the engine."""
    root = os.open(place / "root", os.O_PATH)
    scope = Scope.CALL if keep else Scope.ONCE

    async def dispatch(call: Call) -> Verdict:
        if call.path.startswith(b"/bench"):
            return OtherPath("bench", root=root, path=call.path[1:], scope=scope)
        return Untouched("local", scope=scope)

    engine = Engine()
    output = place / "output"
    shell = f'exec "{place}/calls" {what} "{path}" {count} > "{output}"'
    try:
        running = await engine.start(["/bin/sh", "-c", shell], dict(os.environ), CALLS, dispatch)
        await running.wait()
        return float(output.read_text()) / 1000
    finally:
        await engine.aclose()
        os.close(root)


async def measure(place: Path) -> list[Figure]:
    local, tree = place / "file", place / "root" / "bench" / "file"
    plan = [
        ("a call that is not caught", "getppid", str(local), local, COUNT, True),
        ("fstat of a descriptor, let through by the filter", "descriptor", str(local), local, COUNT, True),
        ("known local open+close", "open", str(local), local, COUNT, True),
        ("known local stat", "stat", str(local), local, COUNT, True),
        ("known open+close in the tree", "open", "/bench/file", tree, COUNT, True),
        ("known stat in the tree", "stat", "/bench/file", tree, COUNT, True),
        ("known chdir to a local folder", "goto", str(place), place, COUNT, True),
        ("known chdir into the tree", "goto", "/bench", place / "root" / "bench", COUNT, True),
        ("unknown stat, a path never seen (Python decides)", "fresh", str(local), local, 500, True),
        ("asked stat in the tree (Python decides each time)", "stat", "/bench/file", tree, 500, False),
    ]
    figures = []
    for name, what, path, counterpart, count, keep in plan:
        baseline = native(place, what, counterpart)
        value = await caught(place, what, path, count, keep)
        figures.append(figure(name, value, "µs", baseline))
    return figures


def main() -> None:
    options = parser(__doc__).parse_args()
    if shutil.which("gcc") is None:
        raise SystemExit("gcc is needed to compile benchmarks/calls.c")
    with workplace() as place:
        figures = asyncio.run(measure(place))
    publish(figures, options.json)


if __name__ == "__main__":
    main()
