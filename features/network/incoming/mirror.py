"""The agent's half of mirrored ports: what clients send is copied and goes to the local program.

Nothing of it is felt in the target. What the program does not take in time ends that copy and makes nobody
wait; its answers are read and dropped.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from pymirror.core.errors import ChannelLost, PeerError
from pymirror.core.feature import Peer, Stream, Target
from pymirror.features.network.incoming import bpf
from pymirror.features.network.incoming import messages as m
from pymirror.features.network.incoming import reassembly as r
from pymirror.features.network.incoming.capture import Capture
from pymirror.features.network.incoming.copies import Waiting
from pymirror.features.network.incoming.copy_http import Copied, Ways, passed
from pymirror.features.network.incoming.segments import Refused, parse

UNSENT, ALL_UNSENT = 1 << 20, 16 << 20
"""Bytes that wait for the program: of one copy, and of all."""
EVERY = 1.0
"""Seconds between two looks at what has gone silent and what was dropped, and words about what was missed."""
SLOW = "the program does not read as fast as its clients send"
DROPPED = "the agent was too busy: {} packets were dropped before they were copied"


class Mirror:
    """The mirrored ports of a target. made(port): what makes the copy of one more connection; None: all of it
    goes on."""

    def __init__(
        self,
        peer: Peer,
        target: Target,
        log: logging.Logger,
        made: Callable[[int], Callable[[Ways], Copied] | None] = lambda port: None,
    ) -> None:
        self._peer, self._target, self._log, self._made = peer, target, log, made
        self._capture: Capture | None = None
        self._copies: dict[r.Connection, Copied] = {}
        self._leaving: set[Copied] = set()  # the client has ended, the program may still answer
        self._waiting = Waiting()
        self._passed: set[int] = set()
        self._missed: Counter[tuple[int, str]] = Counter()
        self._refused: Counter[Refused] = Counter()
        self._dropped = 0
        self._does: dict[type, Callable[[Any], None]] = {
            r.Began: self._began,
            r.Bytes: self._bytes,
            r.Ended: self._ended,
            r.WasReset: self._was_reset,
            r.Lost: self._lost,
        }

    async def start(self) -> None:
        """PermissionError naming the missing right; OSError."""
        self._loop = asyncio.get_running_loop()
        self._capture = capture = await self._target.in_network(Capture)
        self._table = r.Table(capture.addresses.here)
        self._loop.add_reader(capture.fileno(), self._read)
        self._ticking = self._loop.call_later(EVERY, self._tick)

    def take(self, port: int) -> None:
        """Copy it from now on. OSError: there are more ports than the kernel's filter holds."""
        passed = self._passed | {port}
        if len(passed) > bpf.MOST_PORTS:
            raise OSError(errno.ENOSPC, f"more than {bpf.MOST_PORTS} ports cannot be mirrored at once")
        self._pass(passed)
        self._table.ports.add(port)

    def release(self, port: int) -> None:
        """No new connection of it. Those that are copied are copied to their end."""
        self._table.ports.discard(port)
        self._pass(self._table.ports | self._table.copied())

    async def aclose(self) -> None:
        """Also for one that has not started; a second call does nothing."""
        capture, self._capture = self._capture, None
        if capture is None:
            return
        self._loop.remove_reader(capture.fileno())
        self._ticking.cancel()
        for copy in [*self._copies.values(), *self._leaving]:
            copy.reset()
        self._copies.clear()
        self._leaving.clear()
        capture.close()

    def _pass(self, ports: set[int]) -> None:
        if ports != self._passed and self._capture is not None:
            self._capture.only(ports)
            self._passed = set(ports)

    def _read(self) -> None:
        """One block; then the loop's turn is somebody else's."""
        capture, table, does = self._capture, self._table, self._does
        if capture is None:
            return
        table.now = self._loop.time()
        for packet, length in capture.block():
            segment = parse(packet, length)
            if isinstance(segment, Refused):
                self._refused[segment] += 1
                continue
            for event in table.segment(segment):
                does[type(event)](event)

    # What a connection does -----------------------------------------------------------------

    def _began(self, event: r.Began) -> None:
        connection = event.connection
        self._part(connection)
        begin, over = partial(self._open, connection), partial(self._over, connection)
        answered, lost = partial(self._answered, connection), partial(self._gave_up, connection)
        made = self._made(connection.port) or partial(passed, None)
        copy = self._copies[connection] = made(Ways(begin, self._waiting, over, answered, lost))
        copy.open()

    def _bytes(self, event: r.Bytes) -> None:
        copy = self._copies.get(event.connection)
        if copy is None:
            return
        copy.take(event.data)
        if copy.unsent > UNSENT or (copy.unsent and self._waiting.size > ALL_UNSENT):
            self._table.forget(event.connection)
            self._lost(r.Lost(event.connection, SLOW))

    def _ended(self, event: r.Ended) -> None:
        self._part(event.connection)

    def _was_reset(self, event: r.WasReset) -> None:
        copy = self._copies.pop(event.connection, None)
        if copy is not None:
            copy.reset()

    def _lost(self, event: r.Lost) -> None:
        self._missed[event.connection.port, event.reason] += 1
        self._was_reset(r.WasReset(event.connection))

    def _part(self, connection: r.Connection) -> None:
        copy = self._copies.pop(connection, None)
        if copy is not None:
            self._leaving.add(copy)
            copy.end()

    # What the program does ------------------------------------------------------------------

    def _open(self, connection: r.Connection, answers: bool) -> Stream | None:
        client, client_port, address, port = connection.key
        names = str(ipaddress.ip_address(client)), str(ipaddress.ip_address(address))
        try:
            return self._peer.stream_now(m.Arrived(port, names[0], client_port, names[1], port, answers))
        except ChannelLost:
            return None
        except PeerError:
            self._missed[port, r.TOO_MANY] += 1
            return None

    def _over(self, connection: r.Connection, copy: Copied) -> None:
        self._leaving.discard(copy)
        if self._copies.get(connection) is copy:
            del self._copies[connection]
            self._table.forget(connection)

    def _gave_up(self, connection: r.Connection, copy: Copied, why: str) -> None:
        self._missed[connection.port, why] += 1
        self._over(connection, copy)

    def _answered(self, connection: r.Connection, copy: Copied) -> None:
        if self._copies.get(connection) is copy:
            self._table.renew(connection)

    # From time to time ----------------------------------------------------------------------

    def _tick(self) -> None:
        capture = self._capture
        if capture is None:
            return
        self._ticking = self._loop.call_later(EVERY, self._tick)
        self._table.now = self._loop.time()
        capture.addresses.look_again()
        for event in self._table.expire():
            self._does[type(event)](event)
        self._pass(self._table.ports | self._table.copied())
        for refused, count in self._refused.items():
            self._log.warning("%d packets were not copied: %s", count, refused.value)
        self._refused.clear()
        self._dropped += capture.dropped()
        try:
            self._tell()
        except (BlockingIOError, ChannelLost):
            return  # with the next

    def _tell(self) -> None:
        if self._dropped:
            self._peer.send(m.Missed(0, 0, DROPPED.format(self._dropped)))
            self._dropped = 0
        for (port, reason), count in list(self._missed.items()):
            self._peer.send(m.Missed(port, count, reason))
            del self._missed[port, reason]
