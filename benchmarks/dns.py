"""What names cost: `python benchmarks/dns.py [--json FILE]`. Needs root, for a network of its own.

A C program asks a C name server, which is in the target's network: under pymirror, and beside it without.
One at a time tells the delay, 64 at once the throughput; cold: each name is new. Then pymirror's channel
leads through toxiproxy, 20 ms each way; that carries no UDP, so the delay is added to what is asked directly.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from attrs import evolve, frozen
from delay import delay
from figure import Figure, figure, parser, publish

from pymirror.runtimes.process.sandbox import FILES, Sandbox

HERE = Path(__file__).parent
RESOLV = {"/etc/resolv.conf": b"nameserver 127.0.0.1\n"}
ROUNDS = 3
COUNT = 2000
COUNT_FAR = 50
EACH_WAY = 20
NEAR = (sys.executable, "-m", "pymirror.cli.main")


@frozen
class Bench:
    """program: the compiled one. target: its process. pymirror: how it is started."""

    program: Path
    target: int
    pymirror: tuple[str, ...] = NEAR

    def inside(self, *words: str) -> list[str]:
        return ["nsenter", "-t", str(self.target), "-n", str(self.program), *words]

    def under(self, *words: str) -> list[str]:
        command = [*self.pymirror, "exec", "-t", f"process/{self.target}"]
        return [*command, "--fs-mode", "local", "--", str(self.program), *words]


def compile_to(program: Path) -> None:
    subprocess.run(["gcc", "-O2", "-o", program, HERE / "dns.c"], check=True)


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "dns"
        compile_to(program)
        async with Sandbox.start(files={**FILES, **RESOLV}) as sandbox:
            made = Bench(program, sandbox.pid)
            server = await asyncio.create_subprocess_exec(
                *made.inside("serve"), stdout=asyncio.subprocess.PIPE
            )
            assert server.stdout is not None
            await server.stdout.readline()
            try:
                yield made
            finally:
                server.kill()
                await server.wait()


async def microseconds(command: list[str]) -> float:
    """Microseconds of all queries."""
    made = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    out, _ = await made.communicate()
    return float(out)


async def both(made: Bench, window: int, kind: str, count: int = COUNT) -> tuple[float, float]:
    """Medians of microseconds for one query: under pymirror, and without."""
    words = ("ask", str(count), str(window), kind)
    here, there = [], []
    for _ in range(ROUNDS):
        here.append(await microseconds(made.under(*words)))
        there.append(await microseconds(made.inside(*words)))
    return statistics.median(here) / count, statistics.median(there) / count


async def figures() -> list[Figure]:
    found = []
    async with bench() as made:
        for kind in ("cold", "cached"):
            mine, native = await both(made, 1, kind)
            found.append(figure(f"one query, {kind}", mine, "us", native))
            mine, native = await both(made, 64, kind)
            found.append(figure(f"queries, {kind}, 64 at once", 1e6 / mine, "/s", 1e6 / native))
        with delay(EACH_WAY) as far:
            through = (sys.executable, str(HERE / "far.py"), far.api, str(far.ms))
            mine, native = await both(evolve(made, pymirror=through), 1, "cold", COUNT_FAR)
            name = f"one query, cold, {EACH_WAY} ms each way"
            found.append(figure(name, mine, "us", native + 2000 * EACH_WAY))
    return found


def main() -> None:
    asked = parser(__doc__).parse_args()
    publish(asyncio.run(figures()), asked.json)


if __name__ == "__main__":
    main()
