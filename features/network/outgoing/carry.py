"""A connected socket and a stream of the channel, joined: what both halves do with one connection.

End is end and reset is reset, both ways: an end of the stream shuts the socket for writing, a
broken stream resets the socket, and the other way round. Back-pressure is the stream's credit.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Awaitable, Callable

from pymirror.core.errors import ChannelLost
from pymirror.core.feature import Stream

CHUNK = 128 << 10
"""Bytes taken from a socket at once; one frame of the channel."""
NO_LINGER = struct.pack("ii", 1, 0)


Carry = Callable[[socket.socket, Stream], Awaitable[None]]
SIZE = struct.Struct("!I")
LARGEST = 1 << 20
"""Bytes of one packet of a seqpacket socket; the kernel's buffer allows no more by default."""


class Join:
    """taken: the socket's end was read and all before it written to the stream; given: the other way."""

    def __init__(self, sock: socket.socket, stream: Stream) -> None:
        self._sock, self._stream = sock, stream
        self.taken, self.given = asyncio.Event(), asyncio.Event()

    async def run(self) -> None:
        """Until both directions have ended or one was reset; closes both.

        Cancelled, it resets both, except that what was given to the socket to its end still arrives.
        """
        packets = self._sock.type == socket.SOCK_SEQPACKET
        out, into = (_packets_out, _packets_in) if packets else (_out_of_socket, _into_socket)
        directions = [
            asyncio.ensure_future(self._then(out, self.taken)),
            asyncio.ensure_future(self._then(into, self.given)),
        ]
        try:
            await asyncio.gather(*directions)
        except (OSError, ChannelLost):
            reset(self._sock)
        except asyncio.CancelledError:
            if not self.given.is_set():
                reset(self._sock)
            raise
        finally:
            for direction in directions:
                direction.cancel()
            try:
                await asyncio.gather(*directions, return_exceptions=True)
            finally:  # cancelled once more, at a session's end
                self.taken.set()
                self.given.set()
                self._sock.close()
            await self._stream.aclose()

    async def _then(self, carry: Carry, ended: asyncio.Event) -> None:
        await carry(self._sock, self._stream)
        ended.set()


async def _out_of_socket(sock: socket.socket, stream: Stream) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(sock, CHUNK):
        await stream.write(data)
    await stream.close_write()


async def _into_socket(sock: socket.socket, stream: Stream) -> None:
    loop = asyncio.get_running_loop()
    while data := await stream.read(CHUNK):
        await loop.sock_sendall(sock, data)
    sock.shutdown(socket.SHUT_WR)


async def _packets_out(sock: socket.socket, stream: Stream) -> None:
    """Each packet with its size before it, so that it stays one."""
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(sock, LARGEST):
        await stream.write(SIZE.pack(len(data)) + data)
    await stream.close_write()


async def _packets_in(sock: socket.socket, stream: Stream) -> None:
    loop, held = asyncio.get_running_loop(), bytearray()
    while data := await stream.read(CHUNK):
        held += data
        while len(held) >= SIZE.size:
            (size,) = SIZE.unpack_from(held)
            if size > LARGEST:
                raise OSError(errno.EPROTO, f"a packet of {size} bytes")
            if len(held) < SIZE.size + size:
                break
            await loop.sock_sendall(sock, bytes(held[SIZE.size : SIZE.size + size]))
            del held[: SIZE.size + size]
    sock.shutdown(socket.SHUT_WR)


def reset(sock: socket.socket) -> None:
    """Have close send RST instead of FIN. A unix socket has no such thing."""
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
