"""What the channel costs: `python benchmarks/channel.py [--json FILE] [--rounds N]`.

The baseline is bare pyzmq with the same CURVE keys in the same run, its loop waiting on the socket's
descriptor as ours does. Agent and layer are two processes. Rounds of the two alternate, so that a
busy machine is busy for both; each figure is the median of the rounds.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import zmq
from figure import Figure, figure, parser, publish

from pymirror.core.channel import Channel, Keys
from pymirror.core.feature import handles
from pymirror.core.message import message

SMALL, AT_ONCE, BULK = 300, 100, 128 << 10
BULK_TOTAL = 64 << 20
AHEAD = 16
"""Bulk answers asked for at once, as the kernel's read-ahead does."""
DATA = os.urandom(BULK)


@message("bench")
class Ask:
    size: int


@message("bench")
class Answer:
    data: bytes


class Half:
    @handles(Ask)
    async def ask(self, ask: Ask) -> Answer:
        return Answer(DATA[: ask.size])


class Bare:
    """One bare socket in an asyncio loop. Answers are told apart by their order alone."""

    def __init__(self, kind: int, keys: Keys) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(kind)
        self.socket.linger = 0
        self.socket.curve_publickey, self.socket.curve_secretkey = keys.public.encode(), keys.secret.encode()
        self.waiting: list[asyncio.Future[Any]] = []

    def start(self, on_message: Callable[[list[bytes]], None]) -> None:
        self.on_message = on_message
        asyncio.get_running_loop().add_reader(int(self.socket.getsockopt(zmq.FD)), self.ready)

    def ready(self) -> None:
        while int(self.socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            self.on_message(self.socket.recv_multipart(zmq.NOBLOCK))

    async def request(self, size: int) -> None:
        answered = asyncio.get_running_loop().create_future()
        self.waiting.append(answered)
        self.socket.send(size.to_bytes(4, "little"), zmq.NOBLOCK)
        self.ready()
        await answered

    def answered(self, parts: list[bytes]) -> None:
        self.waiting.pop(0).set_result(parts)

    def answer(self, parts: list[bytes]) -> None:
        data = DATA[: int.from_bytes(parts[1], "little")]
        self.socket.send_multipart([parts[0], data], zmq.NOBLOCK, copy=False)


async def agent(keys: Keys, layer: Keys, ready: int) -> None:
    """Both agents in one process; the ready line holds their ports."""
    channel = Channel.listen(keys, layer.public)
    channel.serve("bench", Half())
    bare = Bare(zmq.ROUTER, keys)
    bare.socket.curve_server = True
    port = bare.socket.bind_to_random_port("tcp://127.0.0.1")
    bare.start(bare.answer)
    os.write(ready, f"{channel.port} {port}".encode())
    await channel.wait_closed()


async def one_by_one(request: Callable[[int], Awaitable[Any]]) -> float:
    """Microseconds per small request."""
    began = time.perf_counter()
    for _ in range(SMALL):
        await request(16)
    return (time.perf_counter() - began) / SMALL * 1e6


async def at_once(request: Callable[[int], Awaitable[Any]]) -> float:
    """Microseconds per small request when many are asked in one turn of the loop."""
    began = time.perf_counter()
    for _ in range(5):
        await asyncio.gather(*(request(16) for _ in range(AT_ONCE)))
    return (time.perf_counter() - began) / (5 * AT_ONCE) * 1e6


async def bulk(request: Callable[[int], Awaitable[Any]]) -> float:
    """MB/s of large answers, some of them asked for ahead."""
    ahead = asyncio.Semaphore(AHEAD)

    async def one() -> None:
        async with ahead:
            await request(BULK)

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(BULK_TOTAL // BULK)))
    return BULK_TOTAL / (time.perf_counter() - began) / 1e6


MEASURES = (
    ("small request", "µs", one_by_one),
    (f"small request, {AT_ONCE} at once", "µs", at_once),
    ("answers of 128 KiB", "MB/s", bulk),
)


async def layer(ports: list[int], agent_key: str, keys: Keys, rounds: int) -> list[Figure]:
    channel = await Channel.connect(f"tcp://127.0.0.1:{ports[0]}", keys, agent_key)
    peer = channel.peer("bench")
    bare = Bare(zmq.DEALER, keys)
    bare.socket.curve_serverkey = agent_key.encode()
    bare.socket.connect(f"tcp://127.0.0.1:{ports[1]}")
    bare.start(bare.answered)
    figures = []
    for name, unit, measure in MEASURES:
        ours, theirs = [], []
        for _ in range(rounds + 1):
            ours.append(await measure(lambda size: peer.request(Ask(size))))
            theirs.append(await measure(bare.request))
        value, baseline = statistics.median(ours[1:]), statistics.median(theirs[1:])  # the first warms up
        figures.append(figure(name, value, unit, baseline))
    await channel.aclose()
    bare.context.destroy(0)
    return figures


def measured(rounds: int) -> list[Figure]:
    keys, layer_keys = Keys.generate(), Keys.generate()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(agent(keys, layer_keys, writing))
        finally:
            os._exit(0)
    try:
        ports = [int(port) for port in os.read(reading, 32).split()]
        return asyncio.run(layer(ports, keys.public, layer_keys, rounds))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=9)
    order = options.parse_args()
    publish(measured(order.rounds), order.json)


if __name__ == "__main__":
    main()
