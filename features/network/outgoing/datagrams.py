"""Datagrams over a stream: each with its length before it. Dropped where they come too fast, as UDP does.

The socket is connected. An error that the network reported for one datagram does not end the flow.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

from pymirror.core.errors import ChannelLost
from pymirror.core.feature import Stream

LENGTH = struct.Struct("!H")
LARGEST = 65535
QUEUE = 256 << 10
"""Bytes that wait for the channel; more is dropped. A socket's own buffer is 208 KiB."""
PER_TURN = 64
"""Datagrams taken from one socket before the loop's turn is somebody else's."""


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
    """A connected socket and a stream, joined. dropped: datagrams that found no room.

    given: the stream has ended, and all that came was sent. refused(errno): called when the network has
    reported an error for a datagram. program: the kernel's number of the program's socket, at its end.
    holder: the process and descriptor by which that socket was found last.
    """

    holder: tuple[int, int] | None = None

    def __init__(
        self,
        sock: socket.socket,
        stream: Stream,
        refused: Callable[[int], None] = lambda code: None,
        program: int = 0,
    ) -> None:
        self._sock, self._stream, self._refused, self.program = sock, stream, refused, program
        self._waiting: list[bytes] = []
        self._size = 0
        self._some = asyncio.Event()
        self.dropped = 0
        self.given = asyncio.Event()

    async def run(self) -> None:
        """Until the stream ends or this is cancelled; closes both."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._sock.fileno(), self._readable)
        sending = asyncio.ensure_future(self._into_stream())
        try:
            await self._out_of_stream()
        except (OSError, ChannelLost):
            return
        finally:
            loop.remove_reader(self._sock.fileno())
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            self.given.set()
            self._sock.close()
            await self._stream.aclose()

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

    async def finish(self) -> None:
        """The program is gone: what it sent before goes out, and the stream ends behind it."""
        self._readable()
        data, self._waiting, self._size = b"".join(self._waiting), [], 0
        await self._stream.write(data)
        await self._stream.close_write()

    def _readable(self) -> None:
        for _ in range(PER_TURN):
            try:
                data = self._sock.recv(LARGEST)
            except BlockingIOError:
                break
            except OSError as error:  # of ICMP, told once
                self._refused(error.errno or 0)
                continue
            if self._size + len(data) > QUEUE:
                self.dropped += 1
                continue
            self._waiting += (LENGTH.pack(len(data)), data)
            self._size += LENGTH.size + len(data)
        if self._waiting:
            self._some.set()

    async def _into_stream(self) -> None:
        while True:
            await self._some.wait()
            self._some.clear()
            data, self._waiting, self._size = b"".join(self._waiting), [], 0
            await self._stream.write(data)

    async def _out_of_stream(self) -> None:
        rest = b""
        while data := await self._stream.read(1 << 18):
            datagrams, rest = split(rest + data)
            for datagram in datagrams:
                self._send(datagram)

    def _send(self, datagram: bytes) -> None:
        for _ in range(2):  # the first may tell of an ICMP error that an earlier one caused
            try:
                self._sock.send(datagram)
                return
            except BlockingIOError:
                break
            except OSError as error:
                self._refused(error.errno or 0)
        self.dropped += 1
