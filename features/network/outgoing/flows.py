"""Relays for datagrams: one socket on loopback for each flow, which hears the program's socket alone.

A flow begins with its introduction, in a datagram of its own; whoever sent it is the program's socket.
Nobody tells when that socket is closed, and it may be silent for hours, so the kernel's table is looked
at: a flow ends when no socket has its port any more.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from pymirror.core.call import Address
from pymirror.core.limit import timeout
from pymirror.features.network.loopback import family, loopback
from pymirror.features.network.outgoing import listeners
from pymirror.features.network.outgoing.relay import EXPECT, INTRODUCTION

SWEEP = 5.0
"""Seconds between two looks at the kernel's table, while there are flows."""

Joined = Callable[[socket.socket], Awaitable[None]]


class Flows:
    """Every flow of a session."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[asyncio.Task[Any], int] = {}  # → the program's port, 0 before the introduction
        self._sweeping: asyncio.TimerHandle | None = None

    def expect(self, version: int, joined: Joined, never: Callable[[], None]) -> tuple[Address, bytes]:
        """(where, introduction) of one flow; `joined(socket)` runs once it is there, else `never()`."""
        sock = socket.socket(family(loopback(version)), socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.bind((loopback(version), 0))
        except BaseException:
            sock.close()
            raise
        words = secrets.token_bytes(INTRODUCTION)
        task = self._loop.create_task(self._run(sock, words, joined, never))
        self._tasks[task] = 0
        task.add_done_callback(self._tasks.pop)
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(SWEEP, self._sweep)
        host, port = sock.getsockname()[:2]
        return Address(host, port), words

    async def aclose(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(
        self, sock: socket.socket, words: bytes, joined: Joined, never: Callable[[], None]
    ) -> None:
        try:
            async with timeout(EXPECT):
                sender = await self._introduced(sock, words)
            sock.connect(sender)
        except (OSError, asyncio.TimeoutError):
            sock.close()
            never()
            return
        except asyncio.CancelledError:
            sock.close()
            never()
            raise
        task = asyncio.current_task()
        assert task is not None
        self._tasks[task] = sender[1]
        await joined(sock)

    async def _introduced(self, sock: socket.socket, words: bytes) -> Any:
        """The address of the program's socket. What comes from others before is dropped."""
        while True:
            try:
                data, sender = sock.recvfrom(INTRODUCTION + 1)
            except BlockingIOError:
                await self._readable(sock)
                continue
            if data == words:
                return sender

    async def _readable(self, sock: socket.socket) -> None:
        ready = asyncio.Event()
        self._loop.add_reader(sock.fileno(), ready.set)
        try:
            await ready.wait()
        finally:
            self._loop.remove_reader(sock.fileno())

    def _sweep(self) -> None:
        self._sweeping = self._loop.call_later(SWEEP, self._sweep) if self._tasks else None
        there = set(listeners.sockets("udp").values()) if any(self._tasks.values()) else set()
        for task, port in list(self._tasks.items()):
            if port and port not in there:
                task.cancel()
