"""What calls of a program that listens cost it: `python benchmarks/incoming.py [--json FILE]`. Needs gcc.

Each figure is the median of ten rounds of a static C program, under the engine and natively in the same run.
Every port of loopback is a guest's, so the program is told names that are not the kernel's.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from pathlib import Path

from figure import Figure, figure, parser, publish

from pymirror.core.call import Address, Bind, Call, Untouched, Verdict
from pymirror.layer.engines.seccomp.engine import Engine

HERE = Path(__file__).parent
COUNT = 500
MEASURES = {
    "peername": "getpeername of an accepted socket, a guest's",
    "sockname": "getsockname of an accepted socket, a guest's",
    "listener": "getsockname of the listener",
    "accept": "accept with an address, a guest's",
    "silent": "accept without an address (not caught)",
    "bind": "socket, bind, close (Python decides)",
}


def dispatch(call: Call) -> Verdict:
    if call.name == "bind" and call.address is not None:
        return Bind("benchmark", tries=(call.address, Address(call.address.host, 0)))
    return Untouched("benchmark")


def native(program: Path, what: str) -> float:
    done = subprocess.run([program, what, str(COUNT)], capture_output=True, check=True)
    return float(done.stdout)


async def caught(program: Path, what: str, output: Path) -> float:
    """Microseconds per call under the engine."""
    engine = Engine()
    client, address = Address("10.1.2.3", 40000), Address("10.9.9.9", 20080)
    for port in range(1, 65536):
        engine.guests.add(Address("127.0.0.1", port), client, address)
    command = ["/bin/sh", "-c", f'exec "{program}" {what} {COUNT} > "{output}"']
    try:
        running = await engine.start(command, dict(os.environ), frozenset({"bind", "listen"}), dispatch)
        await running.wait()
        return await asyncio.to_thread(lambda: float(output.read_text()))
    finally:
        await engine.aclose()


def measure(folder: Path) -> list[Figure]:
    program = folder / "incoming"
    subprocess.run(["gcc", "-O2", "-static", "-o", program, HERE / "incoming.c"], check=True)
    figures = []
    for what, name in MEASURES.items():
        baseline = native(program, what)
        value = asyncio.run(caught(program, what, folder / "output"))
        figures.append(figure(name, value, "µs", baseline))
    return figures


def main() -> None:
    options = parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        publish(measure(Path(folder)), options.json)


if __name__ == "__main__":
    main()
