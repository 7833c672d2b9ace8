"""Connections to the application, which sees the client's own address and port.

A socket of the target's network with a mark of the agent's, bound to loopback and connected to the address
the client spoke to: the packet leaves by `lo`, where a later agent that has the port too may catch it, and
the table gives it the client's address by the mark: its network's, or its own. Where the network is known,
that is done at once; what else is wanted in one turn of the loop, or while a thread is at it, by one job of a
thread and one transaction. Without a name it comes from the pod's own address, never from loopback.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from functools import partial

from pymirror.features.network.incoming.marked import Marked, marked
from pymirror.features.network.incoming.ruleset import (
    APART,
    AT_ONCE,
    NOBODY,
    Place,
    network_of,
    numbered,
    source_of,
)
from pymirror.features.network.incoming.table import InNetwork, Table

AS_CLIENT = 0.3
"""Seconds after which the same is tried as what it is. On `lo` an answer takes microseconds; but
the kernel drops a packet whose name it has given to another connection that it still remembers."""
WITHIN = 10.0
"""Seconds a connection to the application may take in all."""
Done = Callable[["socket.socket | None", int], None]
_NO_PORT = 24
"""IP_BIND_ADDRESS_NO_PORT: the connect chooses it."""


class Passage:
    """One connection under way. done(sock, code) is called once: None and an errno, or connected, the
    caller's from then on; unless it is cancelled. there: it is connected, and `done` about to be called."""

    def __init__(self, passing: Passing, client: Place, address: Place, done: Done) -> None:
        self._loop, self._passing, self._done = asyncio.get_running_loop(), passing, done
        self.client, self.address = client, address
        self.as_client = not (client.local_link or address.local_link)
        self.same_port = self.as_client
        self.over = self.there = False
        self._sock: socket.socket | None = None
        self._limits: list[asyncio.TimerHandle] = []

    def begun(self, sock: socket.socket | None, code: int) -> None:
        """That socket, which is this one's from here on, has begun to connect: with which errno."""
        if self.over:
            if sock is not None:
                sock.close()
            return
        self._sock = sock
        if code == errno.EADDRNOTAVAIL and self.same_port:  # on loopback the client itself has it
            self._again()
            return
        if sock is None or code not in (errno.EINPROGRESS, errno.EALREADY):
            self._ended(code)
            return
        self.limit()
        self._loop.add_writer(sock.fileno(), self._writable)
        if self.as_client:
            self._limits.append(self._loop.call_later(AS_CLIENT, self._plainly))

    def limit(self) -> None:
        """It has so long from now on, unless it is limited already."""
        self._limits = self._limits or [self._loop.call_later(WITHIN, self.fail, errno.ETIMEDOUT)]

    def fail(self, code: int) -> None:
        """It ends with that errno, if it has not ended yet."""
        if not self.over:
            self._ended(code)

    def cancel(self) -> None:
        self.over = True
        for limit in self._limits:
            limit.cancel()
        sock = self._unwatched()
        if sock is not None:
            sock.close()

    def _writable(self) -> None:
        assert self._sock is not None
        self._ended(self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def _plainly(self) -> None:
        self.as_client = False
        self._passing.plainly("the client's address and port are still another connection's", self.client)
        self._again()

    def _again(self) -> None:
        sock = self._unwatched()
        if sock is not None:
            sock.close()
        self.same_port = False
        self._passing.want(self)

    def _ended(self, code: int) -> None:
        sock = self._unwatched()
        self.cancel()
        if code and sock is not None:
            sock.close()
        self._done(None if code else sock, code)

    def _unwatched(self) -> socket.socket | None:
        sock, self._sock = self._sock, None
        if sock is not None:
            self._loop.remove_writer(sock.fileno())
        return sock


class Batch(list["tuple[socket.socket | None, int]"]):
    """For each that was wanted what `Passage.begun` takes. refusal: why none looks like its client."""

    refusal = ""

    def close(self) -> None:
        """What nobody takes: `Target.in_network` calls this for who was cancelled."""
        for sock, _ in self:
            if sock is not None:
                sock.close()


class Passing:
    """in_network: the target's."""

    def __init__(self, in_network: InNetwork, table: Table, log: logging.Logger) -> None:
        self._loop = asyncio.get_running_loop()
        self._in_network, self._table, self._log = in_network, table, log
        self._wanted: list[Passage] = []
        self._making: asyncio.Task[None] | None = None
        self._told = False
        self._plain = numbered(table.mark, NOBODY)
        self._marked = Marked(in_network)

    def connect(self, client: Place, address: Place, done: Done) -> Passage:
        """To that address, as that client."""
        passage = Passage(self, client, address, done)
        network = network_of(client) if passage.as_client else None
        sock = self._begun(network) if network is not None else None
        if sock is None:
            self.want(passage)
        else:
            code = _begin(sock, passage, self._table.rank)
            passage.there = not code
            self._loop.call_soon(passage.begun, sock, code)
        return passage

    def want(self, passage: Passage) -> None:
        passage.limit()
        self._wanted.append(passage)
        if self._making is None:
            self._making = self._loop.create_task(self._make())

    def plainly(self, why: str, client: Place) -> None:
        """The application sees the pod's own address, which is told once."""
        if not self._told:
            self._told = True
            self._log.warning(
                "a client, %s, reaches the application by the pod's own address: %s", client.host, why
            )

    def close(self) -> None:
        """Nothing more is connected."""
        if self._making is not None:
            self._making.cancel()
        self._marked.close()
        for passage in self._wanted:
            passage.cancel()

    def _begun(self, network: int) -> socket.socket | None:
        return self._marked.take(numbered(self._table.mark, network)) if self._table.knows(network) else None

    async def _make(self) -> None:
        """One job after the other: the first packets have left when the table forgets them at the next."""
        try:
            while self._wanted:
                batch = self._wanted[:AT_ONCE]
                del self._wanted[:AT_ONCE]
                await self._begin([each for each in batch if not each.over])
        finally:
            self._making = None

    async def _begin(self, batch: list[Passage]) -> None:
        try:
            made: Batch = await self._in_network(partial(self._connects, batch))
        except OSError as error:  # no thread for it
            for passage in batch:
                passage.fail(error.errno or errno.EIO)
            return
        if made.refusal:
            self.plainly(made.refusal, batch[0].client)
        for passage, how in zip(batch, made, strict=True):
            network = network_of(passage.client)
            if network is not None and self._table.knows(network):
                self._marked.keep(numbered(self._table.mark, network))
            passage.begun(*how)

    def _connects(self, batch: list[Passage]) -> Batch:
        """In a thread in there."""
        marks = [numbered(self._table.mark, _number(passage, at)) for at, passage in enumerate(batch)]
        seen: dict[int, list[tuple[int, Place]]] = {4: [], 6: []}
        for mark, passage in zip(marks, batch, strict=True):
            if passage.as_client:
                seen[passage.address.version].append((mark, passage.client))
        made = Batch()
        try:
            self._table.clients(seen)
        except OSError as error:
            made.refusal = error.strerror or str(error)
        for mark, passage in zip(marks, batch, strict=True):
            passage.as_client = passage.as_client and not made.refusal
            family = socket.AF_INET6 if passage.address.version == 6 else socket.AF_INET
            try:
                sock = marked(family, mark if passage.as_client else self._plain)
            except OSError as error:
                made.append((None, error.errno or errno.EIO))
            else:
                made.append((sock, _begin(sock, passage, self._table.rank)))
        return made


def _number(passage: Passage, at: int) -> int:
    """Of the mark; at: its place in the transaction."""
    network = network_of(passage.client) if passage.same_port else None
    return APART + at if network is None else network


def _begin(sock: socket.socket, passage: Passage, rank: int) -> int:
    """Here and not when the loop is told: on `lo` the other side's part of it is done before this returns."""
    address = passage.address.address()
    try:
        if passage.as_client:
            _bind(sock, source_of(passage.client, rank), passage.same_port)
    except OSError:
        return errno.EADDRNOTAVAIL
    code = sock.connect_ex(address)
    return sock.connect_ex(address) if code == errno.EINPROGRESS else code  # it may be over already


def _bind(sock: socket.socket, source: Place, same_port: bool) -> None:
    if same_port:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _NO_PORT, 1)
    sock.bind((source.host, source.port if same_port else 0))
