"""Connections to the application, which sees the client's own address and port.

A socket of the target's network with the agent's mark, bound to loopback and connected to the address that
the client spoke to: the packet leaves by `lo`, where a later agent that has the port too may catch it, and
where the table gives it the client's address, looked up by its mark. What is wanted in one turn of the loop,
or while a thread is at it, is made by one job of a thread and one transaction. Where its client's name is
not to be had, a connection comes from the pod's own address, never from loopback, which may be trusted.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from pymirror.features.network.incoming.ruleset import AT_ONCE, NOBODY, Place, numbered, source_of
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
    caller's from then on; unless it is cancelled."""

    def __init__(self, passing: Passing, client: Place, address: Place, done: Done) -> None:
        self._loop, self._passing, self._done = asyncio.get_running_loop(), passing, done
        self.client, self.address = client, address
        self.as_client = not (client.local_link or address.local_link)
        self.same_port = self.as_client
        self.over = False
        self._sock: socket.socket | None = None
        self._limits = [self._loop.call_later(WITHIN, self.fail, errno.ETIMEDOUT)]

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
        self._loop.add_writer(sock.fileno(), self._writable)
        if self.as_client:
            self._limits.append(self._loop.call_later(AS_CLIENT, self._plainly))

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

    def connect(self, client: Place, address: Place, done: Done) -> Passage:
        """To that address, as that client."""
        passage = Passage(self, client, address, done)
        self.want(passage)
        return passage

    def want(self, passage: Passage) -> None:
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
        for passage in self._wanted:
            passage.cancel()

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
            passage.begun(*how)

    def _connects(self, batch: list[Passage]) -> Batch:
        """In a thread in there."""
        marks = [numbered(self._table.mark, number) for number in range(len(batch))]
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
            bound = passage.as_client and not made.refusal
            try:
                sock = _socket(passage, mark if bound else self._plain, self._table.rank if bound else 0)
            except OSError as error:
                made.append((None, error.errno or errno.EIO))
            else:
                made.append((sock, _connect(sock, passage.address)))
        return made


def _connect(sock: socket.socket, address: Place) -> int:
    """Here and not in the loop: on `lo` the other side's part of it is done before this returns."""
    code = sock.connect_ex(address.address())
    return sock.connect_ex(address.address()) if code == errno.EINPROGRESS else code  # it may be over already


def _socket(passage: Passage, mark: int, rank: int) -> socket.socket:
    """rank: of the agent, for one that stands for its client; 0: it does not."""
    family = socket.AF_INET6 if passage.address.version == 6 else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("=I", mark))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if rank:
            _bind(made, source_of(passage.client, rank), passage.same_port)
        return made
    except BaseException:
        made.close()
        raise


def _bind(sock: socket.socket, source: Place, same_port: bool) -> None:
    if same_port:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # a listener's, or one for root alone
            sock.bind((source.host, source.port))
            return
    sock.setsockopt(socket.IPPROTO_IP, _NO_PORT, 1)
    sock.bind((source.host, 0))
