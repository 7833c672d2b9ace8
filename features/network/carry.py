"""A connected socket and a stream of the channel, joined: what both halves do with one connection.

End is end and reset is reset, both ways: an end of the stream shuts the socket for writing, a
broken stream resets the socket, and the other way round. A process that is killed resets its sockets
too: what was cut off must not look complete. Back-pressure is the stream's credit: a socket is not
read while its stream has no room. Callbacks only: a connection costs no task.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Protocol

from pymirror.core.errors import PeerError
from pymirror.core.feature import Stream
from pymirror.features.network.stalled import stalled

CHUNK = 128 << 10
"""Bytes taken from a socket at once; one frame of the channel."""
PER_TURN = 4
"""Times a socket is read before the loop's turn is somebody else's."""
SIZE = struct.Struct("!I")
BY_RESET, BY_END = struct.pack("ii", True, 0), struct.pack("ii", False, 0)
LARGEST = 1 << 20
"""Bytes of one packet of a seqpacket socket; the kernel's buffer allows no more by default."""
SENDER = socket.CMSG_LEN(struct.calcsize("3i"))
"""Room for who sent a packet, and for no descriptors, which end here."""


class Bytes(Protocol):
    """The part of `core.feature.Stream` that never waits."""

    @property
    def broken(self) -> Exception | None: ...

    def attach(self, came: Callable[[], object], room: Callable[[], object]) -> None: ...

    def room(self) -> int: ...

    def write_now(self, data: bytes | memoryview) -> int: ...

    def read_now(self, size: int = ...) -> bytes: ...

    def end(self) -> None: ...

    def close(self) -> None: ...


class Join:
    """Begins when it is made; over() is called once, when both directions have ended or one was reset.

    taken: the socket's end was read and all before it written to the stream; given: the other way.
    """

    def __init__(self, sock: socket.socket, stream: Bytes, over: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock, self._stream, self._over = sock, stream, over
        self._number = sock.fileno()  # the loop's look-up by the socket itself makes its repr each time
        self.taken, self.given = asyncio.Event(), asyncio.Event()
        self._unwritten: bytes | memoryview = b""  # from the socket; beyond what the stream had room for
        self._unsent: deque[bytes | memoryview] = deque()  # from the stream
        self._reads = self._writes = self.closed = False  # what the loop watches the socket for
        self._stalled = stalled()
        end_by_reset(sock, True)
        stream.attach(self._into_socket, self._out_of_socket)
        self._read(True)
        self._into_socket()

    @property
    def stalls(self) -> bool:
        """The stream has no room for what the socket may still have."""
        return not (self.closed or self._reads or self.taken.is_set())

    def cancel(self) -> None:
        """End both directions now. What was given to the socket to its end still arrives."""
        self._close(reset=not self.given.is_set())

    def _out_of_socket(self) -> None:
        """Called when there is something to read from the socket, and when there is room in the stream."""
        if self.closed or self.taken.is_set():
            return
        try:
            self._read(self._took())
        except BlockingIOError:
            self._read(True)
        except (OSError, PeerError):
            self._close()

    def _took(self) -> bool:
        """Into the stream what fits. False: there is no room, or no more to read."""
        for _ in range(PER_TURN):
            room = self._stream.room()
            if not room:
                return False
            data = self._unwritten or self._receive(min(room, CHUNK))
            if not data:
                self._stream.end()
                self.taken.set()
                self._close_if_done()
                return False
            size = self._stream.write_now(data)
            self._unwritten = memoryview(data)[size:] if size < len(data) else b""
            if self._unwritten:
                return False
            if len(data) < CHUNK:
                break
        return True

    def _into_socket(self) -> None:
        """Called when something came by the stream, and when the socket takes more."""
        if self.closed:
            return
        if self.given.is_set():
            if self._stream.broken is not None:  # after its end: nobody reads the other direction any more
                self._close()
            return
        try:
            while self._sent():
                data = self._stream.read_now(CHUNK)
                if not data:
                    end_by_reset(self._sock, False)  # what is on its way arrives, even if we are killed now
                    self._sock.shutdown(socket.SHUT_WR)
                    self.given.set()
                    self._close_if_done()
                    return
                self._keep(data)
        except BlockingIOError:
            if not self._unsent:
                self._drained()
        except (OSError, PeerError):
            self._close()

    def _drained(self) -> None:
        """All that came by the stream is in the socket."""

    def _sent(self) -> bool:
        """Nothing waits for the socket; else the loop tells when it takes more."""
        unsent = self._unsent
        while unsent:
            try:
                size = self._sock.send(unsent[0])
            except BlockingIOError:
                if self._stream.broken is not None:
                    raise ConnectionResetError from None
                self._write(True)
                return False
            if size < len(unsent[0]):
                unsent[0] = memoryview(unsent[0])[size:]
            else:
                unsent.popleft()
        self._write(False)
        return True

    def _receive(self, room: int) -> bytes:
        return self._sock.recv(room)

    def _keep(self, data: bytes) -> None:
        self._unsent.append(data)

    def _read(self, wanted: bool) -> None:
        if wanted is not self._reads and not self.closed:
            self._reads = wanted
            if wanted:
                self._stalled.leave(self._number)
                self._watch()
            else:
                self._unwatch()
                self._stalled.watch(self._number, self._close)

    def _watch(self) -> None:
        self._loop.add_reader(self._number, self._out_of_socket)

    def _unwatch(self) -> None:
        self._loop.remove_reader(self._number)

    def _write(self, wanted: bool) -> None:
        if wanted is not self._writes and not self.closed:
            self._writes = wanted
            if wanted:
                self._loop.add_writer(self._number, self._into_socket)
            else:
                self._loop.remove_writer(self._number)

    def _close_if_done(self) -> None:
        if self.taken.is_set() and self.given.is_set():
            self._close(reset=False)

    def _close(self, reset: bool = True) -> None:
        if self.closed:
            return
        end_by_reset(self._sock, reset)
        if self._reads:
            self._unwatch()
        self._write(False)
        self._stalled.leave(self._number)
        self.closed = True
        self._sock.close()
        self._stream.close()
        self.taken.set()
        self.given.set()
        self._over()


class Straight(Join):
    """Of a stream of the channel: bytes go between socket and messages many connections at once, where
    nothing waits. See `core.feature.Stream.carry`."""

    _stream: Stream

    def _receive(self, room: int) -> bytes:
        data = super()._receive(room)
        if not data and self._stream.was_reset(self._number):
            raise ConnectionResetError
        return data

    def _drained(self) -> None:
        self._stream.straight(self._number)

    def _watch(self) -> None:
        self._stream.carry(self._number, self._out_of_socket, self._close)

    def _unwatch(self) -> None:
        self._stream.uncarry(self._number)


class PacketJoin(Join):
    """Of a seqpacket socket: in the stream each packet has its size before it, so that it stays one.

    An empty packet differs from the end in that its sender can be told.
    """

    _held = b""

    def __init__(self, sock: socket.socket, stream: Bytes, over: Callable[[], None]) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        super().__init__(sock, stream, over)

    def _receive(self, room: int) -> bytes:
        data, sender, _, _ = self._sock.recvmsg(LARGEST, SENDER)
        return SIZE.pack(len(data)) + data if data or sender else b""

    def _keep(self, data: bytes) -> None:
        held, at = self._held + data, 0
        while len(held) - at >= SIZE.size:
            (size,) = SIZE.unpack_from(held, at)
            if size > LARGEST:
                raise OSError(errno.EPROTO, f"a packet of {size} bytes")
            if len(held) - at < SIZE.size + size:
                break
            self._unsent.append(held[at + SIZE.size : at + SIZE.size + size])
            at += SIZE.size + size
        self._held = held[at:]


def join(sock: socket.socket, stream: Bytes, over: Callable[[], None]) -> Join:
    """The one that fits the two."""
    if sock.type == socket.SOCK_SEQPACKET:
        return PacketJoin(sock, stream, over)
    return (Straight if hasattr(stream, "carry") else Join)(sock, stream, over)


def end_by_reset(sock: socket.socket, wanted: bool) -> None:
    """Have its close send RST, by whomever it is closed, or else FIN. Of no meaning to a unix socket."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, BY_RESET if wanted else BY_END)
