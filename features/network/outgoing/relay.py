"""The relay on loopback: the program's sockets are connected to it, and it joins each to its stream.

Whoever connects must begin with bytes that somebody waits for: they were made for one connection
and are known to the pump alone. All else is closed; where too many say nothing, the one that has been silent
longest. Bounded: strangers and expected ones alike.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import os
import secrets
import socket
from collections.abc import Callable
from typing import Any

from pymirror.core.call import Address
from pymirror.features.network.carry import end_by_reset
from pymirror.features.network.loopback import family, loopback

log = logging.getLogger("pymirror.features.network.outgoing")

INTRODUCTION = 16
EXPECT = 10.0
"""Seconds until a connection that was announced must be there; the pump makes it within microseconds."""
STRANGERS = 256
"""Connections that have not said yet whose they are. What the pump connects has, by the time it is taken."""
STRANGER = 5.0
BACKLOG = 4096
LACKS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
"""Who was not taken is still there, and the loop would tell of it at once and again."""
REST = 1.0
"""Seconds until it is tried anew, as in asyncio's own servers."""
ANY, DEVICE = "0.0.0.0", b"lo"
"""Each address of IPv4, by this device alone: nobody else's machine reaches it."""
FIRST, ADDRESSES = ipaddress.IPv4Address("127.64.0.0"), 1 << 20

Joined = Callable[[socket.socket], object]


class Relay:
    """Listens from the first `address` on."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._listeners: dict[tuple[int, int], socket.socket] = {}
        self._taken = 0  # addresses for IPv4
        self._refusing: dict[int, socket.socket] = {}
        self._expected: dict[bytes, tuple[Joined, Callable[[], None], asyncio.TimerHandle]] = {}
        self._strangers: dict[socket.socket, asyncio.TimerHandle] = {}  # the first has waited longest
        self._resting: dict[socket.socket, asyncio.TimerHandle] = {}
        self._level = self._lost = logging.WARNING

    def address(self, version: int) -> Address:
        """Where the next connection over IP version 4 or 6 is taken.

        Of IPv4 always another address: sockets that are bound to one port and go to several places are told
        apart by where they go. IPv6 has one.
        """
        host = loopback(version)
        listener = self._listener(family(host), socket.SOCK_STREAM, (host if version == 6 else ANY, 0))
        if version == 4:
            self._taken = (self._taken + 1) % ADDRESSES
            host = str(FIRST + self._taken)
        return Address(host, listener.getsockname()[1])

    def refusing(self, version: int) -> Address:
        """Where the kernel refuses every TCP connection: a port that is ours, and on which nobody listens."""
        held = self._refusing.get(version)
        if held is None:
            host = loopback(version)
            held = socket.socket(family(host), socket.SOCK_STREAM)
            try:
                held.bind((host, 0))
            except BaseException:
                held.close()
                raise
            self._refusing[version] = held
        return Address(*held.getsockname()[:2])

    def name(self, kind: int) -> bytes:
        """Where connections of unix sockets of that kind (stream, seqpacket) are taken: an abstract name."""
        name = self._listener(socket.AF_UNIX, kind, "").getsockname()  # the kernel chooses one
        return name if isinstance(name, bytes) else os.fsencode(name)

    def expect(self, joined: Joined, never: Callable[[], None]) -> bytes:
        """The introduction of one connection; `joined(socket)` is called when it is there, else `never()`."""
        words = secrets.token_bytes(INTRODUCTION)
        timer = self._loop.call_later(EXPECT, self._never, words)
        self._expected[words] = (joined, never, timer)
        return words

    def settle(self) -> None:
        """Take who is there already; the loop may not have come round to it."""
        for listener in self._listeners.values():
            self._accept(listener)

    def close(self) -> None:
        """Listen no more; the connections that run are whoever's that made them."""
        for timer in self._resting.values():
            timer.cancel()
        for listener in self._listeners.values():
            self._loop.remove_reader(listener.fileno())
            listener.close()
        self._listeners.clear()
        for held in self._refusing.values():
            held.close()
        for words in list(self._expected):
            self._never(words)
        for sock in list(self._strangers):
            self._drop(sock)

    def _listener(self, domain: int, kind: int, place: Any) -> socket.socket:
        found = self._listeners.get((domain, kind))
        if found is None:
            found = self._listeners[domain, kind] = self._listen(domain, kind, place)
        return found

    def _listen(self, domain: int, kind: int, place: Any) -> socket.socket:
        listener = socket.socket(domain, kind)
        try:
            end_by_reset(listener, True)  # what is accepted inherits it, and so do
            if domain != socket.AF_UNIX:
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)  # until words are there
            if place and place[0] == ANY:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, DEVICE)
            listener.bind(place)
            listener.listen(BACKLOG)
            listener.setblocking(False)
        except BaseException:
            listener.close()
            raise
        self._watch(listener)
        return listener

    def _watch(self, listener: socket.socket) -> None:
        self._resting.pop(listener, None)
        self._loop.add_reader(listener.fileno(), self._accept, listener)

    def _rest(self, listener: socket.socket) -> None:
        if listener not in self._resting:
            self._loop.remove_reader(listener.fileno())
            self._resting[listener] = self._loop.call_later(REST, self._watch, listener)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(BACKLOG):
            try:
                sock, _address = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:  # the connection was gone before we took it, or no descriptor is left
                level, self._lost = self._lost, logging.DEBUG  # told once: it may be so for each
                log.log(level, "a connection to the relay is lost, or has to wait: %s", error)
                if error.errno in LACKS:
                    self._rest(listener)
                return
            sock.setblocking(False)
            self._strangers[sock] = self._loop.call_later(STRANGER, self._turn_away, sock)
            self._introduced(sock, b"")
            if len(self._strangers) > STRANGERS:
                self._turn_away(next(iter(self._strangers)))

    def _introduced(self, sock: socket.socket, before: bytes) -> None:
        """Called again with what there was before until all the words are there."""
        try:
            words = sock.recv(INTRODUCTION - len(before))
        except BlockingIOError:
            self._loop.add_reader(sock.fileno(), self._introduced, sock, before)
            return
        except OSError:
            words = b""
        if words and len(before + words) < INTRODUCTION:
            self._loop.add_reader(sock.fileno(), self._introduced, sock, before + words)
            return
        joined, _, timer = self._expected.pop(before + words, (None, None, None))
        if joined is None or timer is None:
            self._turn_away(sock)
            return
        timer.cancel()
        self._strangers.pop(sock).cancel()
        self._loop.remove_reader(sock.fileno())
        joined(sock)

    def _turn_away(self, sock: socket.socket) -> None:
        level, self._level = self._level, logging.DEBUG  # told once: who wishes could come without end
        log.log(level, "a connection to the relay that is not the program's was closed")
        self._drop(sock)

    def _drop(self, sock: socket.socket) -> None:
        self._strangers.pop(sock).cancel()
        self._loop.remove_reader(sock.fileno())
        sock.close()

    def _never(self, words: bytes) -> None:
        found = self._expected.pop(words, None)
        if found is not None:
            found[2].cancel()
            found[1]()
