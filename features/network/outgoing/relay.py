"""The relay on loopback: the program's sockets are connected to it, and it joins each to its stream.

Whoever connects must begin with bytes that somebody waits for: they were made for one connection
and are known to the pump alone. All else is closed. Bounded: strangers and expected ones alike.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from pymirror.core.call import Address
from pymirror.core.limit import timeout
from pymirror.features.network.loopback import family, loopback

log = logging.getLogger("pymirror.features.network.outgoing")

INTRODUCTION = 16
EXPECT = 10.0
"""Seconds until a connection that was announced must be there; the pump makes it within microseconds."""
STRANGERS = 256
"""Connections that have not said yet whose they are."""
STRANGER = 5.0
BACKLOG = 4096

Joined = Callable[[socket.socket], Awaitable[None]]


class Relay:
    """Listens from the first `address` on. `tasks` are the connections that run."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._listeners: dict[tuple[int, int], socket.socket] = {}
        self._expected: dict[bytes, tuple[Joined, Callable[[], None], asyncio.TimerHandle]] = {}
        self._strangers = 0
        self.tasks: set[asyncio.Task[Any]] = set()

    def address(self, version: int) -> Address:
        """Where connections over IP version 4 or 6 are taken."""
        host = loopback(version)
        return Address(host, self._listener(family(host), socket.SOCK_STREAM, (host, 0)).getsockname()[1])

    def name(self, kind: int) -> bytes:
        """Where connections of unix sockets of that kind (stream, seqpacket) are taken: an abstract name."""
        name = self._listener(socket.AF_UNIX, kind, "").getsockname()  # the kernel chooses one
        return name if isinstance(name, bytes) else os.fsencode(name)

    def expect(self, joined: Joined, never: Callable[[], None]) -> bytes:
        """The introduction of one connection; `joined(socket)` runs when it is there, else `never()`."""
        words = secrets.token_bytes(INTRODUCTION)
        timer = self._loop.call_later(EXPECT, self._never, words)
        self._expected[words] = (joined, never, timer)
        return words

    async def aclose(self) -> None:
        """End every connection and listen no more."""
        for listener in self._listeners.values():
            self._loop.remove_reader(listener.fileno())
            listener.close()
        self._listeners.clear()
        for words in list(self._expected):
            self._never(words)
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def _listener(self, domain: int, kind: int, place: Any) -> socket.socket:
        found = self._listeners.get((domain, kind))
        if found is None:
            found = self._listeners[domain, kind] = self._listen(domain, kind, place)
        return found

    def _listen(self, domain: int, kind: int, place: Any) -> socket.socket:
        listener = socket.socket(domain, kind)
        try:
            listener.bind(place)
            listener.listen(BACKLOG)
            listener.setblocking(False)
        except BaseException:
            listener.close()
            raise
        self._loop.add_reader(listener.fileno(), self._accept, listener)
        return listener

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(BACKLOG):
            try:
                sock, _address = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:  # the connection was gone before we took it, or no descriptor is left
                log.warning("a connection to the relay is lost: %s", error)
                return
            sock.setblocking(False)
            if self._strangers >= STRANGERS:
                sock.close()
                continue
            self._strangers += 1
            self.spawn(self._introduced(sock))

    def spawn(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _introduced(self, sock: socket.socket) -> None:
        try:
            async with timeout(STRANGER):
                words = await self._words(sock)
        except (OSError, asyncio.TimeoutError):
            words = b""
        except asyncio.CancelledError:
            sock.close()
            raise
        finally:
            self._strangers -= 1
        joined, _, timer = self._expected.pop(words, (None, None, None))
        if joined is None or timer is None:
            log.warning("a connection to the relay that is not the program's was closed")
            sock.close()
            return
        timer.cancel()
        await joined(sock)

    async def _words(self, sock: socket.socket) -> bytes:
        words = b""
        while len(words) < INTRODUCTION:
            more = await self._loop.sock_recv(sock, INTRODUCTION - len(words))
            if not more:
                break
            words += more
        return words

    def _never(self, words: bytes) -> None:
        found = self._expected.pop(words, None)
        if found is not None:
            found[2].cancel()
            found[1]()
