"""Connections that the packet filter has redirected, accepted in the target's network, with where they went.

A listener for each IP version, on all addresses: where a redirected packet arrives depends on its device. Who
comes to a listener's own port was not redirected, and is closed.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

from pymirror.features.network.incoming.ruleset import Place

PER_TURN = 64
"""Connections accepted before the loop's turn is somebody else's."""
BACKLOG = 4096
HIGH = 256
"""Of a listener's descriptor: above the table's."""
PAUSE = 0.05
"""Seconds until the next look for room, where there was none for one connection more."""
_ORIGINAL_DST = 80
"""SO_ORIGINAL_DST, and IP6T_SO_ORIGINAL_DST is the same number."""
_FULL = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
Caught = Callable[[socket.socket, Place, Place], None]


class Listeners(list[socket.socket]):
    def close(self) -> None:
        """Also called by `Target.in_network` for who was cancelled."""
        for listener in self:
            listener.close()
        self.clear()

    def ports(self) -> dict[int, int]:
        """IP version → port."""
        return {6 if each.family == socket.AF_INET6 else 4: each.getsockname()[1] for each in self}


def listeners() -> Listeners:
    """Call it from a thread in the target's network. OSError."""
    made = Listeners()
    try:
        made.append(_listener(socket.AF_INET, "0.0.0.0"))
        with suppress(OSError):  # no IPv6 there
            made.append(_listener(socket.AF_INET6, "::"))
    except BaseException:
        made.close()
        raise
    return made


def _listener(family: socket.AddressFamily, host: str) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((host, 0))
        made.listen(BACKLOG)
        # A killed process closes its highest descriptors first: clients that wait here are to be reset while
        # the table still translates for them.
        return socket.socket(fileno=fcntl.fcntl(made, fcntl.F_DUPFD_CLOEXEC, HIGH))
    finally:
        made.close()


class Catcher:
    """caught(sock, client, address) gets each connection: non-blocking, and its own from then on.

    room(): whether there may be one more; while it is False they wait in the kernel's queue.
    """

    def __init__(self, made: Listeners, caught: Caught, room: Callable[[], bool]) -> None:
        self._loop = asyncio.get_running_loop()
        self._listeners, self._caught, self._room = made, caught, room
        self._own = {each: each.getsockname()[1] for each in made}
        self._pause: asyncio.TimerHandle | None = None
        self._watch()

    def accept(self) -> None:
        """Take in who is there already."""
        for listener in self._listeners:
            self._accept(listener)

    def close(self) -> None:
        self._unwatch()
        if self._pause is not None:
            self._pause.cancel()
        self._listeners.close()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(PER_TURN):
            if not self._room():
                self._wait()
                return
            try:
                sock, peer = listener.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                self._wait()
                return
            sock.setblocking(False)
            self._arrived(sock, client_of(peer), self._own[listener])

    def _arrived(self, sock: socket.socket, client: Place, own: int) -> None:
        try:
            address = original(sock)
            if address.port == own:
                raise ConnectionRefusedError("it came to the agent's own port")
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:  # or the kernel knows no redirection of it
            sock.close()
            return
        self._caught(sock, client, address)

    def _wait(self) -> None:
        if self._pause is None:
            self._unwatch()
            self._pause = self._loop.call_later(PAUSE, self._watch)

    def _watch(self) -> None:
        self._pause = None
        for listener in self._listeners:
            self._loop.add_reader(listener.fileno(), self._accept, listener)

    def _unwatch(self) -> None:
        for listener in self._listeners:
            self._loop.remove_reader(listener.fileno())


def original(sock: socket.socket) -> Place:
    """Where its client connected to. OSError: it was not redirected."""
    if sock.family == socket.AF_INET6:
        return place6(sock.getsockopt(socket.IPPROTO_IPV6, _ORIGINAL_DST, 28))
    return place4(sock.getsockopt(socket.IPPROTO_IP, _ORIGINAL_DST, 16))


def place4(told: bytes) -> Place:
    """Of a sockaddr_in. Pure."""
    return Place(socket.inet_ntop(socket.AF_INET, told[4:8]), *struct.unpack_from("!H", told, 2))


def place6(told: bytes) -> Place:
    """Of a sockaddr_in6. Pure."""
    (port,), (scope,) = struct.unpack_from("!H", told, 2), struct.unpack_from("=I", told, 24)
    return Place(socket.inet_ntop(socket.AF_INET6, told[8:24]), port, scope)


def client_of(peer: tuple[str, int] | tuple[str, int, int, int]) -> Place:
    """Of what `accept` tells. Pure."""
    return Place(peer[0].partition("%")[0], peer[1], peer[3] if len(peer) == 4 else 0)
