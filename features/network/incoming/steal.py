"""Ports of the target that are taken: their new connections go to the program, or on to the application.

What a port has with somebody who decides (`take`) goes to them; the others' bytes go to the program, as one
stream each. What came before a port was released, or after the layer was gone, is the application's.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from functools import partial
from typing import Protocol

from pymirror.core.errors import ChannelLost, PeerError
from pymirror.core.feature import Peer, Stream, Target
from pymirror.features.network.carry import Join, end_by_reset, join
from pymirror.features.network.incoming import messages as m
from pymirror.features.network.incoming.catcher import Catcher, Listeners, listeners
from pymirror.features.network.incoming.conntrack import forget
from pymirror.features.network.incoming.flush import flush
from pymirror.features.network.incoming.passed import Passed
from pymirror.features.network.incoming.passing import Passage, Passing
from pymirror.features.network.incoming.ruleset import RENEW, Place
from pymirror.features.network.incoming.sharing import ALONE, Claim
from pymirror.features.network.incoming.table import Table
from pymirror.features.network.sockdiag import TCP, sockets

MOST = 4096
"""Connections at once; one that is looked into costs 20 KB."""
LOOK = 0.1
"""Seconds between two looks whether clients have all."""
UNDELIVERED = 1 << 4 | 1 << 9 | 1 << 11
"""States of TCP in which the end has not been acknowledged: FIN_WAIT1, LAST_ACK and CLOSING."""
SHARE = 8
"""Connections at once: one for so many descriptors. Each may need two."""
OnConnection = Callable[[socket.socket, Place, Place, int], None]


class Ends(Protocol):
    """What goes on: `cancel` ends it now."""

    def cancel(self) -> None: ...


class Steal:
    """whose: words that others are refused with. is_heard: is there a layer? While there is none, ports are
    not kept, and go by themselves. told: gets a port and words that its user should know.

    to_program, to_application: what goes on, by where it leads. Whoever carries a connection himself enters
    it in one of them, and takes it out at its end: the first are ended with the layer, the second go on.
    """

    def __init__(
        self,
        target: Target,
        peer: Peer,
        whose: str,
        log: logging.Logger,
        is_heard: Callable[[], Awaitable[bool]],
        told: Callable[[int, str], object] = lambda port, words: None,
    ) -> None:
        self._is_heard, self._told = is_heard, told
        self._target, self._peer, self._whose, self._log = target, peer, whose, log
        self._ports: dict[int, OnConnection] = {}
        self.to_program: set[Ends] = set()
        self.to_application: set[Ends] = set()
        self._table: Table | None = None
        self._catcher: Catcher | None = None
        self._own: frozenset[int] = frozenset()  # ports of the catcher
        self._renewing: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._refused = False
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = (
            MOST if descriptors == resource.RLIM_INFINITY else min(MOST, max(1, descriptors // SHARE))
        )

    async def start(self) -> None:
        """Nothing is caught yet. OSError naming what is missing."""
        in_network = self._target.in_network
        made: Listeners = await in_network(listeners)
        try:
            self._own = frozenset(made.ports().values())
            self._table = await Table.open(in_network, self._whose, made.ports())
        except BaseException:
            made.close()
            raise
        self.passing = Passing(in_network, self._table, self._log)
        self._catcher = Catcher(made, self._caught, self._room)
        self._renewing = asyncio.ensure_future(self._renew())

    async def take(
        self,
        port: int,
        on_connection: OnConnection | None = None,
        flushed: bool = False,
        claim: Claim = ALONE,
    ) -> str:
        """Take that port. on_connection(sock, client, address, port) decides about each, and owns the socket.

        flushed: the application's connections of that port end now. claim: what others may have beside it.
        Words about whose filters are asked before. OSError: EADDRINUSE, and who has it.
        """
        assert self._table is not None
        self._ports[port] = on_connection or self.give
        try:
            shared = await self._table.take(port, claim)
        except BaseException:
            del self._ports[port]
            raise
        if flushed:
            await self._flush(port)
        return shared

    async def release(self, port: int) -> None:
        """No more of that port. What was begun goes on."""
        if self._ports.pop(port, None) is not None and self._table is not None:
            await self._table.release(port)

    async def drain(self) -> None:
        """The layer is gone: what the program has ends, and this returns when the application's has ended and
        clients have the last of it: without the table it would not be theirs any more."""
        for port in list(self._ports):
            with suppress(OSError):  # then it goes by itself
                await self.release(port)
        for each in list(self.to_program):
            each.cancel()
        if self._catcher is not None:
            self._catcher.accept()
        while self.to_application:
            self._idle.clear()
            await self._idle.wait()
        while True:
            if not await self._target.in_network(partial(leaving, self._own)):
                return
            await asyncio.sleep(LOOK)

    async def aclose(self) -> None:
        """All is gone when this returns."""
        if self._renewing is not None:
            self._renewing.cancel()
        self._cancel_all()
        if self._catcher is not None:
            await self._forget()  # while who comes again by the same port is still caught
            self._catcher.close()
            self.passing.close()
        self._cancel_all()
        if self._table is not None:
            await self._table.aclose()

    def give(self, sock: socket.socket, client: Place, address: Place, port: int, first: bytes = b"") -> None:
        """All of that connection to the program. first: what was read of it, which goes before all else or,
        where the channel has no room for it, is a reset."""
        arrived = m.Arrived(port, client.host, client.port, address.host, address.port)
        try:
            stream = self._peer.stream_now(arrived, alone=False)
            if first and stream.write_now(first) < len(first):
                stream.close()  # sooner than without its middle
                raise PeerError("the channel has no room for its first bytes")
        except ChannelLost:
            self.pass_on(sock, client, address, first)
            return
        except PeerError as error:  # as many as a session carries
            self._refuse(sock, port, error)
            return
        self._carry(sock, stream)

    def pass_on(self, sock: socket.socket, client: Place, address: Place, first: bytes = b"") -> None:
        """All of that connection to the application. first: what was read of it."""
        waits = Waits(sock)

        def passed(there: socket.socket | None, code: int) -> None:
            self.over(self.to_application, waits)
            if there is None:
                reset(sock)
                return
            self.put_through(sock, there, first)

        waits.passage = self.passing.connect(client, address, passed)
        self.to_application.add(waits)

    def _cancel_all(self) -> None:
        for each in [*self.to_program, *self.to_application]:
            each.cancel()

    async def _forget(self) -> None:
        try:
            await self._target.in_network(partial(forget, self._own))
        except OSError as error:
            self._log.info("connections that were reset are still known to the kernel: %s", error)

    async def _flush(self, port: int) -> None:
        try:
            ended = await flush(self._target, port)
        except OSError as error:  # the port is taken all the same
            self._log.warning("the connections that port %d has are not ended: %s", port, error.strerror)
        else:
            self._log.info("%d connections that port %d had were ended", ended, port)

    def _caught(self, sock: socket.socket, client: Place, address: Place) -> None:
        decide = self._ports.get(address.port)
        if decide is None:  # released since it came
            self.pass_on(sock, client, address)
        else:
            decide(sock, client, address, address.port)

    def _refuse(self, sock: socket.socket, port: int, why: Exception) -> None:
        reset(sock)
        if not self._refused:
            self._refused = True
            self._log.warning("connections of port %d are reset: %s", port, why)

    def takes(self, port: int) -> bool:
        """Is it still taken, by a layer that is there?"""
        return port in self._ports

    def _room(self) -> bool:
        return len(self.to_program) + len(self.to_application) < self._most

    def _carry(self, sock: socket.socket, stream: Stream) -> None:
        """The client's and the program's."""
        joined: Join | None = None

        def over() -> None:
            if joined is not None:
                self.over(self.to_program, joined)

        joined = join(sock, stream, over)
        if not joined.closed:
            self.to_program.add(joined)

    def put_through(self, sock: socket.socket, there: socket.socket, first: bytes) -> None:
        """The client's and the application's, as bytes. first: what was read of it."""
        passed: Passed | None = None

        def over() -> None:
            if passed is not None:
                self.over(self.to_application, passed)

        passed = Passed(sock, there, first, over)
        if not passed.closed:
            self.to_application.add(passed)

    def over(self, where: set[Ends], each: Ends) -> None:
        where.discard(each)
        self._idle.set()

    async def _renew(self) -> None:
        assert self._table is not None
        told = False
        while True:
            await asyncio.sleep(RENEW)
            if self._ports and not await self._is_heard():
                continue
            try:
                lost = await self._table.renew()
            except OSError as error:
                if not told:
                    self._log.warning(
                        "ports that are taken may be the application's again: %s", error.strerror
                    )
                told = True
                continue
            told = False
            for port, why in lost:
                self._ports.pop(port, None)
                words = f"it was not kept while nothing was heard of the agent, or by it: {why}"
                self._log.warning("port %d: %s", port, words)
                self._told(port, words)
            with suppress(OSError):  # then at the next look
                for port, words in await self._table.joined():
                    self._told(port, words)


class Waits:
    """A client, until the application's side is there."""

    passage: Passage

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def cancel(self) -> None:
        if not self.passage.over:
            self.passage.cancel()
            reset(self._sock)


def leaving(ports: Collection[int]) -> bool:
    """Has a connection that ended something that its client has not got? In the target's network. OSError."""
    return any(sockets(TCP, UNDELIVERED, port) for port in ports)


def reset(sock: socket.socket) -> None:
    """As from an application that is not there."""
    end_by_reset(sock, True)
    sock.close()
