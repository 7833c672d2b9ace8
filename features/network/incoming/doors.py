"""Clients of the target's port at the program's own listener: a door for each, a connection from loopback.

A door is bound and its client told to the engine before it connects, so whoever accepts sees the client. A
listener that refuses or has a full backlog is knocked at again; then the client is reset, as by an
application that is not there. Callbacks only: a connection costs no task.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections import deque
from collections.abc import Callable, Sequence

from attrs import define

from pymirror.core.call import Address
from pymirror.core.feature import Guests, Stream
from pymirror.features.network.carry import CHUNK, end_by_reset
from pymirror.features.network.incoming.delivery import Deliver, Joined, plainly
from pymirror.features.network.incoming.messages import Arrived
from pymirror.features.network.loopback import family, loopback
from pymirror.features.network.ports import Listener

PAUSES = (0.05, 0.1, 0.2, 0.4)
PAUSE = 0.5
"""Seconds before a listener is knocked at again: as mirrord (6.5), then each half second."""
WITHIN = 5.0
"""Seconds in all: a server that is started anew is there again."""
AT_ONCE, SLOW, LOOK = 1.0, 30.0, 0.02
"""Seconds after the program's end for its last words; for what its clients are slow to take; between looks. A
client that keeps its connection is not waited for longer."""
PER_TURN = 4
"""Doors that are knocked at before what the program has answered to others goes its way: many come in one
message, and the agent has nothing to do until then. A sixth to a third more new connections."""
SOURCES, TURN = 250, 2000
"""Addresses of loopback that doors come from, and how many do from one before it is the next one's turn: the
kernel keeps the port of a connection that its client ended first for a minute, and looks long for a free one
where there are few (2 ms a door with all from one address, measured)."""

Choose = Callable[[Arrived], Sequence[Listener]]


@define(eq=False)
class _Door:
    """A client on its way to the program. knocks: how often; own: its address, once it has a socket."""

    arrived: Arrived
    stream: Stream
    until: float
    knocks: int = 0
    sock: socket.socket | None = None
    own: Address | None = None
    joined: Joined | None = None
    again: asyncio.TimerHandle | None = None


class OneWay:
    """The part of a stream that a join uses, of one whose other side does not want to hear anything."""

    def __init__(self, stream: Stream) -> None:
        self.attach, self.read_now = stream.attach, stream.read_now
        self.end, self.close = stream.end, stream.close
        self._stream = stream

    @property
    def broken(self) -> Exception | None:
        return self._stream.broken

    def room(self) -> int:
        return CHUNK

    def write_now(self, data: bytes | memoryview) -> int:
        return len(data)


class Doors:
    """choose(arrived): listeners for it, the best first. refused(): all of them did.

    most: connections at once; one more is reset. answers: the program's are wanted, of whichever.
    """

    def __init__(
        self,
        guests: Guests,
        choose: Choose,
        refused: Callable[[], object],
        most: int,
        answers: bool,
        log: logging.Logger,
        deliver: Deliver = plainly,
    ) -> None:
        self._deliver = deliver
        self._guests, self._choose, self._refused, self._log = guests, choose, refused, log
        self.most, self._answers = most, answers
        self._open: set[_Door] = set()
        self._ports: set[tuple[int, int]] = set()  # IP version and port of each door
        self._made = 0
        self._told: set[str] = set()
        self._waiting: deque[_Door] = deque()

    def arrived(self, arrived: Arrived, stream: Stream) -> None:
        if len(self._open) >= self.most:
            self._tell(f"{self.most} connections to the program are open, as many as may be: more are reset")
            stream.close()
            return
        door = _Door(arrived, stream, asyncio.get_running_loop().time() + WITHIN)
        self._open.add(door)
        self._waiting.append(door)
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._knock_at_some)

    def _knock_at_some(self) -> None:
        for _ in range(min(PER_TURN, len(self._waiting))):
            self._knock(self._waiting.popleft())
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._knock_at_some)

    async def settle(self) -> None:
        """Until all are over, which a program's end brings about once its clients have its last words."""
        loop = asyncio.get_running_loop()
        for door in [each for each in self._open if each.joined is None]:
            self._give_up(door)
        began = until = loop.time() + AT_ONCE
        while self._open and loop.time() < until:
            if any(each.joined is not None and each.joined.stalls for each in self._open):
                until = min(began + SLOW, loop.time() + AT_ONCE)
                if loop.time() > began:
                    self._tell(f"clients are slow to take what the program sent: they have up to {SLOW:g} s")
            await asyncio.sleep(LOOK)

    def close(self) -> None:
        """End all now."""
        for door in list(self._open):
            if door.joined is not None:
                door.joined.cancel()
            else:
                self._give_up(door)

    def _knock(self, door: _Door) -> None:
        self._leave(door)
        if door.stream.broken is not None:
            self._give_up(door)
            return
        try:
            answered = any(self._try(door, each) for each in self._choose(door.arrived))
        except OSError as error:  # no descriptor, no port
            self._tell(f"a connection to port {door.arrived.port} is reset: {error}")
            self._give_up(door)
            return
        if door.joined is None and door in self._open:
            if not answered:
                self._refused()
            self._later(door)

    def _try(self, door: _Door, listener: Listener) -> bool:
        """False: it refuses. True: the door is open, or on its way."""
        host, a = _reached(listener.real), door.arrived
        sock = self._bound(door, host)
        try:
            assert door.own is not None
            self._guests.add(door.own, Address(a.client, a.client_port), Address(a.address, a.address_port))
            sock.connect_ex((host, listener.real.port))
            code = sock.connect_ex((host, listener.real.port))  # loopback has answered the first meanwhile
        except BaseException:
            self._leave(door)
            raise
        if code in (0, errno.EISCONN):
            self._connected(door)
        elif code in (errno.EALREADY, errno.EINPROGRESS):
            asyncio.get_running_loop().add_writer(sock.fileno(), self._answered, door)
        else:
            self._leave(door)
            return False
        return True

    def _bound(self, door: _Door, host: str) -> socket.socket:
        """The door's socket, with a port of loopback that no other door has on any of its addresses."""
        six = ":" in host
        for _ in range(SOURCES):
            source = "::1" if six else f"127.0.0.{self._made // TURN % SOURCES + 1}"
            sock = socket.socket(family(host), socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            self._made += 1
            try:
                sock.bind((source, 0))
            except OSError as error:
                sock.close()
                if six or error.errno != errno.EADDRINUSE:
                    raise
                self._made += TURN
                continue
            own = Address(*sock.getsockname()[:2])
            if (own.ip.version, own.port) not in self._ports:
                self._ports.add((own.ip.version, own.port))
                door.sock, door.own = sock, own
                return sock
            sock.close()
        raise OSError(errno.EADDRINUSE, "loopback has no port left")

    def _answered(self, door: _Door) -> None:
        assert door.sock is not None
        asyncio.get_running_loop().remove_writer(door.sock.fileno())
        if door.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
            self._connected(door)

    def _connected(self, door: _Door) -> None:
        assert door.sock is not None
        if door.again is not None:
            door.again.cancel()
        sock, door.sock = door.sock, None
        over = False

        def closed() -> None:
            nonlocal over
            over = True
            self._forget(door)

        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        both_ways = self._answers or door.arrived.answers
        stream = door.stream if both_ways else OneWay(door.stream)
        try:
            joined = self._deliver(door.arrived, sock, stream, closed)
        except Exception as error:  # a certificate's file that is gone, say; the others are served
            self._log.error("a connection to port %d is reset", door.arrived.port, exc_info=error)
            end_by_reset(sock, True)
            sock.close()
            self._give_up(door)
            return
        if not over:
            door.joined = joined

    def _later(self, door: _Door) -> None:
        loop = asyncio.get_running_loop()
        pause = PAUSES[door.knocks] if door.knocks < len(PAUSES) else PAUSE
        door.knocks += 1
        if loop.time() + pause > door.until:
            self._tell(
                f"nothing of the program accepted a connection to port {door.arrived.port} for "
                f"{WITHIN:g} s: it was reset, and so will be others"
            )
            self._give_up(door)
        else:
            door.again = loop.call_later(pause, self._knock, door)

    def _give_up(self, door: _Door) -> None:
        if door.again is not None:
            door.again.cancel()
        self._leave(door)
        door.stream.close()
        self._forget(door)

    def _leave(self, door: _Door) -> None:
        """Close the door's socket, if it has one that leads nowhere yet."""
        if door.sock is not None:
            asyncio.get_running_loop().remove_writer(door.sock.fileno())
            door.sock.close()
            door.sock = None
            self._nobody(door)

    def _forget(self, door: _Door) -> None:
        self._open.discard(door)
        self._nobody(door)

    def _nobody(self, door: _Door) -> None:
        """Its socket is closed: the port may be another's."""
        own, door.own = door.own, None
        if own is not None:
            self._guests.remove(own)
            self._ports.discard((own.ip.version, own.port))

    def _tell(self, words: str) -> None:
        if words not in self._told:
            self._told.add(words)
            self._log.warning("%s", words)


def _reached(real: Address) -> str:
    """From where on this machine."""
    return loopback(real.ip.version) if real.ip.is_unspecified else real.host
