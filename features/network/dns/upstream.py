"""Asks name servers: a query in bytes goes out, the answer comes back. Both halves use it.

UDP first (line.py), TCP when the answer is truncated. Bounded: a line for each of the servers asked last.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from pymirror.core.limit import timeout
from pymirror.features.network.dns import header
from pymirror.features.network.dns.line import Line

PORT = 53
MOST_LINES = 64
Make = Callable[[Callable[[], socket.socket]], Awaitable[socket.socket]]
"""Runs what makes a socket where the socket is to belong."""


class Upstream:
    """make: see `Make`. port: of every name server."""

    def __init__(self, make: Make, port: int = PORT) -> None:
        self._make, self.port = make, port
        self._lines: OrderedDict[str, Line] = OrderedDict()
        self._making = asyncio.Lock()

    def close(self) -> None:
        """Nobody waits for an answer any more."""
        for line in self._lines.values():
            line.close()
        self._lines.clear()

    async def ask(
        self, query: bytes, servers: Sequence[str], within: float, attempts: int, tcp: bool = False
    ) -> bytes:
        """The first answer of a server that has one, else that of the last one that refused.

        within: seconds for each server, each time. OSError: none has answered in any round.
        """
        refused: bytes | None = None
        failed: OSError = TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        for _ in range(attempts):
            for server in servers:
                try:
                    async with timeout(within):
                        answer = await self._one(query, server, tcp)
                except asyncio.TimeoutError:
                    continue
                except OSError as error:
                    failed = error
                    continue
                if header.rcode(answer) not in header.FAILED:
                    return answer
                refused = answer
            if refused is not None:
                return refused
        raise failed

    async def _one(self, query: bytes, server: str, tcp: bool) -> bytes:
        if tcp:
            return await self._over_tcp(query, server)
        answer = await self._over_udp(query, server)
        if not header.is_truncated(answer):
            return answer
        try:
            return await self._over_tcp(query, server)
        except OSError:
            return answer  # a name server that speaks no TCP: whoever asked sees that it is not whole

    async def _over_udp(self, query: bytes, server: str) -> bytes:
        async with self._making:
            line = self._lines.get(server)
            if line is None or not line.fits:
                sock = await self._make(partial(connected, server, self.port, socket.SOCK_DGRAM))
                line = self._lines[server] = Line(sock)  # one that fits no more ends with its last query
            self._lines.move_to_end(server)
            if len(self._lines) > MOST_LINES:
                self._lines.popitem(last=False)[1].retire()
        return await line.ask(query)

    async def _over_tcp(self, query: bytes, server: str) -> bytes:
        loop = asyncio.get_running_loop()
        with await self._make(partial(connected, server, self.port, socket.SOCK_STREAM)) as sock:
            await loop.sock_sendall(sock, len(query).to_bytes(2, "big") + query)  # waits for the connect
            while True:
                answer = await _exactly(sock, int.from_bytes(await _exactly(sock, 2), "big"))
                if header.is_answer(query, answer):
                    return answer


def connected(server: str, port: int, kind: socket.SocketKind) -> socket.socket:
    """A socket that is, or is being, connected there; it does not block. OSError."""
    family, _, _, _, where = socket.getaddrinfo(server, port, type=kind, flags=socket.AI_NUMERICHOST)[0]
    sock = socket.socket(family, kind)
    try:
        sock.setblocking(False)
        sock.connect(where)
    except BlockingIOError:
        pass
    except BaseException:
        sock.close()
        raise
    return sock


async def _exactly(sock: socket.socket, size: int) -> bytes:
    parts = b""
    while len(parts) < size:
        more = await asyncio.get_running_loop().sock_recv(sock, size - len(parts))
        if not more:
            raise ConnectionResetError(errno.ECONNRESET, "the name server has closed the connection")
        parts += more
    return parts


async def here(make: Callable[[], socket.socket]) -> socket.socket:
    """`Make` for this process's own network. Does not block: addresses are numeric."""
    return make()
