"""Where the program's queries arrive: for each name server it speaks to, UDP and TCP on loopback.

One relay for each server, so that a socket that asks several hears each answer from where it asked.
Whoever sends must first show the words of this session, which the pump sends: others of this machine
have no business with the target's names. Bounded: servers, sockets known, connections, their queries.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import secrets
import socket
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from pymirror.core.call import Address
from pymirror.core.limit import timeout
from pymirror.features.network.loopback import loopback

log = logging.getLogger("pymirror.features.network.dns")

INTRODUCTION = 16
MOST_SERVERS = 64
MOST_SOCKETS = 8192
"""UDP sockets of the program known for one server; the one not heard of for longest goes first."""
MOST_CONNECTIONS = 256
MOST_STRANGERS = 64
"""Connections without the words yet; for one more the oldest goes. The program's come with them."""
MOST_PIPELINED = 64
"""Queries of one TCP connection under way; more are read when some are answered."""
STRANGER = 5.0
"""Seconds in which a connection must have shown the words."""
ROOM = 4 << 20
"""Bytes of datagrams the kernel keeps for us: a burst of 10,000 queries. It gives what it allows."""

Answer = Callable[[bytes, str, bool], Awaitable["bytes | None"]]
"""(query, server, over TCP) → what goes back."""


class Relays:
    """answer: see `Answer`. usual(host): is it one of the servers of the target's resolv.conf?"""

    def __init__(self, answer: Answer, usual: Callable[[str], bool]) -> None:
        self.words = secrets.token_bytes(INTRODUCTION)
        self._answer, self._usual = answer, usual
        self._relays: dict[str, _Relay] = {}
        self._lock = asyncio.Lock()

    async def address(self, host: str, transport: str) -> Address | None:
        """Where what is sent to the server `host` is taken; None: there are relays for too many others."""
        async with self._lock:
            relay = self._relays.get(host)
            if relay is None:
                if len(self._relays) >= MOST_SERVERS:
                    return None
                relay = _Relay(self.words, lambda query, tcp: self._ask(query, host, tcp))
                await relay.listen(loopback(6 if ":" in host else 4))
                self._relays[host] = relay
        return relay.udp if transport == "udp" else relay.tcp

    def _ask(self, query: bytes, host: str, tcp: bool) -> Awaitable[bytes | None]:
        """A server of this machine's loopback was never the target's: its usual ones stand for it."""
        usual = self._usual(host) or ipaddress.ip_address(host).is_loopback
        return self._answer(query, "" if usual else host, tcp)

    async def aclose(self) -> None:
        for relay in self._relays.values():
            await relay.aclose()
        self._relays.clear()


class _Relay(asyncio.DatagramProtocol):
    """The sockets of one server."""

    def __init__(self, words: bytes, ask: Callable[[bytes, bool], Awaitable[bytes | None]]) -> None:
        self._words, self._ask = words, ask
        self._known: OrderedDict[Any, None] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections = 0
        self._strangers: OrderedDict[asyncio.StreamWriter, None] = OrderedDict()
        self._level = logging.WARNING
        self._transport: Any = None
        self._server: asyncio.Server | None = None
        self.udp = self.tcp = Address(host="", port=0)

    async def listen(self, host: str) -> None:
        """On a port of its own each. OSError, with nothing left open."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, (host, 0))
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
        try:
            self._server = await asyncio.start_server(self._accepted, host, 0)
        except OSError:
            self._transport.close()
            raise
        self.udp = Address(host, self._transport.get_extra_info("sockname")[1])
        self.tcp = Address(host, self._server.sockets[0].getsockname()[1])

    async def aclose(self) -> None:
        self._transport.close()
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if data == self._words:
            self._known[addr] = None
            self._known.move_to_end(addr)
            if len(self._known) > MOST_SOCKETS:
                self._known.popitem(last=False)
        elif addr in self._known:
            self._known.move_to_end(addr)
            self._spawn(self._datagram(data, addr))
        else:
            log.debug("a datagram from %s that is not the program's was dropped", addr)

    def error_received(self, exc: Exception) -> None:
        """The program's socket was closed before its answer came."""

    async def _datagram(self, query: bytes, addr: Any) -> None:
        answer = await self._ask(query, False)
        if answer is not None:
            self._transport.sendto(answer, addr)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            if await self._introduced(reader, writer) and self._connections < MOST_CONNECTIONS:
                self._connections += 1
                try:
                    await self._serve(reader, writer)
                finally:
                    self._connections -= 1
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
            log.debug("a connection has ended: %s", error)
        finally:
            writer.close()

    async def _introduced(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        self._strangers[writer] = None
        if len(self._strangers) > MOST_STRANGERS:
            next(iter(self._strangers)).transport.abort()
        try:
            async with timeout(STRANGER):
                words = await reader.readexactly(INTRODUCTION)
        finally:
            del self._strangers[writer]
        if secrets.compare_digest(words, self._words):
            return True
        level, self._level = self._level, logging.DEBUG  # told once: who wishes could come without end
        log.log(level, "a connection that is not the program's was closed")
        return False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        slots = asyncio.Semaphore(MOST_PIPELINED)
        answering: set[asyncio.Task[None]] = set()
        try:
            while size := await reader.read(1):
                size += await reader.readexactly(1)
                query = await reader.readexactly(int.from_bytes(size, "big"))
                await slots.acquire()
                task = asyncio.ensure_future(self._framed(query, writer, slots))
                answering.add(task)
                task.add_done_callback(answering.discard)
            await asyncio.gather(*answering)  # it has asked all it wants, and still reads
        finally:
            for task in answering:
                task.cancel()

    async def _framed(self, query: bytes, writer: asyncio.StreamWriter, slots: asyncio.Semaphore) -> None:
        try:
            answer = await self._ask(query, True)
            if answer is not None and not writer.is_closing():
                writer.write(len(answer).to_bytes(2, "big") + answer)
                await writer.drain()
        finally:
            slots.release()
