"""Many sockets joined to streams at once, their far ends in threads: the kernel takes and gives in pieces of any size,
at any moment, and the link is refused now and then."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from typing import Any

import pytest
from attrs import define, field
from incoming_agent import until

from pymirror.core.feature import Stream, handles
from pymirror.core.message import message
from pymirror.core.testing import MemoryLink
from pymirror.features.network.carry import join

CONNECTIONS = 12
SIZES = 1, 10, 100, 1000, 4000, 5000, 16384, 20000, 70000
RESET = struct.pack("ii", 1, 0)


@message("test-much")
class Open:
    pass


def pair(chance: random.Random) -> tuple[socket.socket, socket.socket]:
    """TCP or unix, with buffers of any size."""
    if chance.random() < 0.5:
        far, near = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as server:
            far, near = socket.create_connection(server.getsockname()), server.accept()[0]
    for sock in (far, near):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, chance.choice((1, 20_000, 200_000)))
    near.setblocking(False)
    return far, near


@define
class End:
    """One far end: what it sent, and what it got of the other's. resets: in place of its end."""

    sock: socket.socket
    chance: random.Random
    size: int
    resets: bool
    sent: bytearray = field(factory=bytearray)
    got: bytearray = field(factory=bytearray)
    broken: bool = False
    threads: list[threading.Thread] = field(factory=list)
    sock_is_tcp: bool = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.sock_is_tcp = self.sock.family == socket.AF_INET

    def start(self) -> None:
        self.threads = [threading.Thread(target=each) for each in (self.send, self.receive)]
        for thread in self.threads:
            thread.start()

    def send(self) -> None:
        try:
            while len(self.sent) < self.size:
                data = self.chance.randbytes(self.chance.choice(SIZES))
                self.sent += data
                self.sock.sendall(data)
                self.rest()
            if self.resets:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                self.sock.shutdown(socket.SHUT_RD)
            else:
                self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.broken = True

    def receive(self) -> None:
        try:
            while data := self.sock.recv(self.chance.choice((1, 50, 3000, 16384, 70000))):
                self.got += data
                self.rest()
        except OSError:
            self.broken = True
        if self.resets:
            self.sock.close()

    def rest(self) -> None:
        if self.chance.random() < 0.05:
            time.sleep(self.chance.random() / 500)


@define
class Half:
    chance: random.Random
    ends: list[socket.socket] = field(factory=list)

    @handles(Open)
    def open(self, _: Open, stream: Stream) -> None:
        far, near = pair(self.chance)
        self.ends.append(far)
        join(near, stream, lambda: None)


def refused_now_and_then(link: Any, chance: random.Random) -> None:
    transmit = link._transmit

    def perhaps(parts: list[Any]) -> bool:
        if chance.random() < 0.02:
            link._loop.call_later(0.002, link._flush)
            return False
        return bool(transmit(parts))

    link._transmit = perhaps


@pytest.mark.parametrize("seed", range(4))
async def test_nothing_is_lost_doubled_or_out_of_order(seed: int) -> None:
    chance = random.Random(seed)
    links = MemoryLink.pair()
    half = Half(chance)
    links[1].serve("test-much", half)
    for link in links:
        refused_now_and_then(link, chance)
    both: list[tuple[End, End]] = []
    for at in range(CONNECTIONS):
        far, near = pair(chance)
        join(near, links[0].peer("test-much").stream_now(Open()), lambda: None)
        await until(lambda count=at + 1: len(half.ends) == count)
        one, other = (
            End(sock, random.Random(chance.random()), chance.randrange(1, 1 << 21), at % 4 == number)
            for number, sock in enumerate((far, half.ends[at]))
        )
        both.append((one, other))
    for end in (end for each in both for end in each):
        end.start()
    threads = [thread for each in both for end in each for thread in end.threads]
    await until(lambda: not any(thread.is_alive() for thread in threads))
    for one, other in both:
        for sender, taker in ((one, other), (other, one)):
            assert sender.sent.startswith(taker.got)
            if sender.resets and not sender.broken and one.sock_is_tcp and other.sock_is_tcp:
                assert taker.broken, "a reset is no end"
            if not (one.resets or other.resets):
                assert sender.sent == taker.got and not sender.broken
        one.sock.close()
        other.sock.close()
    await until(lambda: not any(link.streams for link in links))
    assert [link.mux.sockets for link in links] == [{}, {}]
    assert [link.mux._out.used + link.mux._into.used for link in links] == [0, 0]
    for link in links:
        await link.aclose()
