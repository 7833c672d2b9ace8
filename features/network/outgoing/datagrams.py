"""Datagrams over a stream: each with its length before it. Dropped where they come too fast, as UDP does.

The socket is connected. An error that the network reported for one datagram does not end the flow.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Any

from pymirror.core.errors import PeerError
from pymirror.core.feature import Stream

LENGTH = struct.Struct("!H")
LARGEST = 65535
QUEUE = 256 << 10
"""Bytes that wait for the channel; more is dropped. A socket's own buffer is 208 KiB."""
PER_TURN = 64
"""Datagrams taken from one socket before the loop's turn is somebody else's."""
READ = 256 << 10
_buffer = memoryview(bytearray(QUEUE + PER_TURN * LENGTH.size + LARGEST))
"""Every flow's, within one turn."""


def split(data: bytes) -> tuple[list[bytes], bytes]:
    """(whole datagrams, the rest)."""
    found, at = [], 0
    while len(data) - at >= LENGTH.size:
        (size,) = LENGTH.unpack_from(data, at)
        if len(data) - at - LENGTH.size < size:
            break
        found.append(data[at + LENGTH.size : at + LENGTH.size + size])
        at += LENGTH.size + size
    return found, data[at:]


class Flow:
    """A connected socket and a stream, joined when it is made. dropped: datagrams that found no room.

    Ends with the stream; over() is called then, once. taken: after `finish`, all that came was written to
    the stream; given: the stream has ended, and all that came was sent. refused(): called when the
    network has reported an error for a datagram. program: the kernel's number of the socket at its end.
    holder: the process and descriptor by which that socket was found last. only: the address whose datagrams
    are taken, where the socket was open to others before it was connected: what they sent may still come.
    forget(): has the next datagram of the program begin a flow anew; None: nothing could.
    used: when there was a datagram last, by the loop's clock.
    """

    holder: tuple[int, int] | None = None
    forget: Callable[[], None] | None = None

    def __init__(
        self,
        sock: socket.socket,
        stream: Stream,
        over: Callable[[], None],
        refused: Callable[[], None] = lambda: None,
        program: int = 0,
        only: Any = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock, self._stream, self._over = sock, stream, over
        self._refused, self.program, self._only = refused, program, only
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._rest = b""  # the beginning of a datagram
        self._leaving = self._finishing = False
        self.dropped, self.used = 0, self._loop.time()
        self.taken, self.given = asyncio.Event(), asyncio.Event()
        stream.attach(self._out_of_stream, self._into_stream)
        self._loop.add_reader(sock.fileno(), self._readable)
        self._out_of_stream()

    @property
    def closed(self) -> bool:
        return self._sock.fileno() < 0

    @property
    def port(self) -> int:
        """Of the other end."""
        return int(self._sock.getpeername()[1])

    def refuse(self, program: socket.socket) -> None:
        """The next call on the program's socket fails with ECONNREFUSED, if it is connected or wants errors.

        The kernel sets a socket's error for a datagram of its own that nobody takes, so for the moment of
        an empty one this end, which stays ours, listens to itself alone.
        """
        own, peer = self._sock.getsockname(), self._sock.getpeername()
        mapped = program.family == socket.AF_INET6 and self._sock.family == socket.AF_INET
        where = (f"::ffff:{own[0]}", own[1]) if mapped else own
        self._sock.connect(own)
        try:
            for _ in range(2):  # the first may fetch an error that the program has not heard of yet
                try:
                    program.sendto(b"", socket.MSG_DONTWAIT, where)
                    break
                except OSError:
                    continue
        finally:
            self._sock.connect(peer)

    def finish(self) -> None:
        """The program is gone: what it sent before goes out, and the stream ends behind it."""
        if not self.closed:
            self._readable()
            self._finishing = True
            self._into_stream()

    def cancel(self) -> None:
        """End it now."""
        if self.closed:
            return
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        self._stream.close()
        self.taken.set()
        self.given.set()
        self._over()

    def _readable(self) -> None:
        """What came, with its lengths, into one buffer and from there into the stream."""
        at, self.used = 0, self._loop.time()
        for _ in range(PER_TURN):
            try:
                size, sender = self._sock.recvfrom_into(_buffer[at + LENGTH.size :], LARGEST)
            except BlockingIOError:
                break
            except OSError:  # of ICMP, told once
                self._refused()
                continue
            if self._only not in (None, sender):
                continue
            if self._size + at + size > QUEUE:
                self.dropped += 1
                continue
            LENGTH.pack_into(_buffer, at, size)
            at += LENGTH.size + size
        if at:
            self._waiting.append(bytes(_buffer[:at]))
            self._size += at
            if not self._leaving:  # a turn later: what comes meanwhile goes along
                self._leaving = True
                self._loop.call_soon(self._leave)

    def _leave(self) -> None:
        self._leaving = False
        self._into_stream()

    def _into_stream(self) -> None:
        """Called when there is room, too."""
        try:
            while self._waiting:
                first = self._waiting[0]
                size = self._stream.write_now(first)
                self._size -= size
                if size < len(first):
                    self._waiting[0] = first[size:]
                    return
                self._waiting.popleft()
        except (OSError, PeerError):
            self.cancel()
        if self._finishing and not self.taken.is_set():
            self._stream.end()
            self.taken.set()

    def _out_of_stream(self) -> None:
        self.used = self._loop.time()
        try:
            while data := self._stream.read_now(READ):
                datagrams, self._rest = split(self._rest + data)
                for datagram in datagrams:
                    self._send(datagram)
        except BlockingIOError:
            return
        except (OSError, PeerError):
            pass
        self.cancel()

    def _send(self, datagram: bytes) -> None:
        for _ in range(2):  # the first may tell of an ICMP error that an earlier one caused
            try:
                self._sock.send(datagram)
                return
            except BlockingIOError:
                break
            except OSError:
                self._refused()
        self.dropped += 1
