"""Relays for datagrams: one socket on loopback for each flow, which hears the program's socket alone.

A flow begins with its introduction, in a datagram of its own; whoever sent it is the program's socket.
Nobody tells when that socket is closed, and it may be silent for hours, so the kernel's table is looked
at: a flow ends when its socket is not there any more.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Callable
from typing import Any

from attrs import define

from pymirror.core.call import Address
from pymirror.features.network import sockdiag
from pymirror.features.network.loopback import family, loopback
from pymirror.features.network.outgoing.datagrams import Flow
from pymirror.features.network.outgoing.relay import EXPECT, INTRODUCTION

log = logging.getLogger("pymirror.features.network.outgoing")

Joined = Callable[[socket.socket, Any], Flow]
"""joined(socket, the program's address): what others sent to the socket earlier is still in it."""
SWEEP, LOOK = 5.0, 0.1
"""Seconds between two looks at the kernel's table, while there are flows; and while there may be no more."""
QUIET = 1.0
"""Seconds without a datagram, either way, after which a flow makes room for a new connection."""


@define(eq=False)
class _Expected:
    sock: socket.socket
    words: bytes
    joined: Joined
    never: Callable[[], None]
    timer: asyncio.TimerHandle | None = None


def _there() -> set[int]:
    return {each.cookie for each in sockdiag.sockets(sockdiag.UDP, sockdiag.ANY_STATE)}


class Flows:
    """Every flow of a session. there(): the SO_COOKIE of each UDP socket of this machine."""

    def __init__(self, there: Callable[[], set[int]] = _there) -> None:
        self._loop = asyncio.get_running_loop()
        self._expected: set[_Expected] = set()
        self._flows: set[Flow] = set()
        self._there = there
        self._sweeping: asyncio.TimerHandle | None = None
        self._looked = 0.0

    def expect(self, version: int, joined: Joined, never: Callable[[], None]) -> tuple[Address, bytes]:
        """(where, introduction) of one flow; `joined` is called once it is there, else `never()`."""
        sock = socket.socket(family(loopback(version)), socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.bind((loopback(version), 0))
        except BaseException:
            sock.close()
            raise
        words = secrets.token_bytes(INTRODUCTION)
        expected = _Expected(sock, words, joined, never)
        expected.timer = self._loop.call_later(EXPECT, self._never, expected)
        self._expected.add(expected)
        self._loop.add_reader(sock.fileno(), self._introduced, expected)
        host, port = sock.getsockname()[:2]
        return Address(host, port), words

    def settle(self) -> None:
        """Take who is there already; the loop may not have come round to it."""
        for expected in list(self._expected):
            self._introduced(expected)

    def close(self) -> None:
        """Expect nothing any more, and look no more; the flows that run are whoever's that made them."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        for expected in list(self._expected):
            self._never(expected)

    def _introduced(self, expected: _Expected) -> None:
        """Who knows the words is the program's socket. What comes from others before is dropped."""
        while True:
            try:
                data, sender = expected.sock.recvfrom(INTRODUCTION + 1)
                if data != expected.words:
                    continue
                expected.sock.connect(sender)
            except BlockingIOError:
                return
            except OSError:
                self._never(expected)
                return
            self._no_longer(expected)
            self._flows.add(expected.joined(expected.sock, sender))
            if self._sweeping is None:
                self._sweeping = self._loop.call_later(SWEEP, self._sweep)
            return

    def _never(self, expected: _Expected) -> None:
        self._no_longer(expected)
        self._loop.remove_reader(expected.sock.fileno())
        expected.sock.close()
        expected.never()

    def _no_longer(self, expected: _Expected) -> None:
        self._expected.discard(expected)
        if expected.timer is not None:
            expected.timer.cancel()

    def make_room(self) -> None:
        """End the flows whose socket is gone, and else the one that was silent longest.

        Its program's next datagram begins it anew. One of a connected socket could not be, so it stays.
        """
        now, before = self._loop.time(), len(self._flows)
        if now - self._looked >= LOOK:
            self._looked = now
            self._look()
        if len(self._flows) < before:
            return
        quiet = [flow for flow in self._flows if flow.forget is not None and now - flow.used >= QUIET]
        if quiet:
            flow = min(quiet, key=lambda each: each.used)
            assert flow.forget is not None
            flow.forget()
            self._flows.discard(flow)
            flow.cancel()

    def _sweep(self) -> None:
        self._look()
        self._sweeping = self._loop.call_later(SWEEP, self._sweep) if self._flows else None

    def _look(self) -> None:
        """A port may be another's by now, so a flow's socket is looked for by its SO_COOKIE."""
        try:
            there = self._there()
        except OSError as error:  # they stay until the kernel tells
            log.warning("which datagram sockets are closed is not known: %s", error)
        else:
            for flow in list(self._flows):
                if flow.closed or flow.program not in there:
                    self._flows.discard(flow)
                    flow.cancel()
