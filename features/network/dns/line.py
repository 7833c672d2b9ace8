"""One UDP socket to one name server, for many queries at once, each under a random number of its own.

A socket for each query would cost the agent three times as much (a thread in the target's network makes
it). Nobody can answer in the server's place who does not see the query: the socket is connected, its
port was chosen by the kernel, the number is random, the question must be the same, and a line is
replaced after `MOST` queries.
"""

from __future__ import annotations

import asyncio
import secrets
import socket

from pymirror.features.network.dns import header

MOST = 1000
"""Queries of one line: a port that does not stay long is not worth guessing."""


class Line:
    """sock: connected, does not block; the line's from now on. fits: it may take another query."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, tuple[bytes, asyncio.Future[bytes]]] = {}
        self._left = MOST
        self._heard = 0
        self._open = True
        self._loop.add_reader(sock.fileno(), self._arrived)

    @property
    def fits(self) -> bool:
        return self._open and self._left > 0

    async def ask(self, query: bytes) -> bytes:
        """The answer, with the query's own number. OSError as the kernel met it, which ends the line.

        Cancelled, for its time is over, while the line was silent, it is the line's last: a flow may have
        been led to a server that is gone, and stays so for as long as it is used; the next line is another.
        """
        number = self._number()
        sent = number.to_bytes(2, "big") + query[2:]
        future: asyncio.Future[bytes] = self._loop.create_future()
        heard = self._heard
        self._left -= 1
        self._waiting[number] = (sent, future)
        try:
            self._sock.send(sent)
            answer = await future
        except OSError as error:
            self._fail(error)
            raise
        except asyncio.CancelledError:
            if self._heard == heard:
                self._left = 0
            raise
        finally:
            self._waiting.pop(number, None)
            self._end_if_done()
        return query[:2] + answer[2:]

    def retire(self) -> None:
        """End with the last query under way."""
        self._left = 0
        self._end_if_done()

    def close(self) -> None:
        """Queries under way are cancelled."""
        self._end()
        for _, future in self._waiting.values():
            future.cancel()

    def _number(self) -> int:
        while True:
            number = secrets.randbelow(1 << 16)
            if number not in self._waiting:
                return number

    def _arrived(self) -> None:
        while self._open:
            try:
                answer = self._sock.recv(header.MOST)
            except BlockingIOError:
                return
            except OSError as error:
                self._fail(error)
                return
            self._heard += 1
            query, future = self._waiting.get(int.from_bytes(answer[:2], "big"), (b"", None))
            if future is not None and not future.done() and header.is_answer(query, answer):
                future.set_result(answer)

    def _fail(self, error: OSError) -> None:
        self._end()
        for _, future in self._waiting.values():
            if not future.done():
                future.set_exception(OSError(error.errno, error.strerror))

    def _end_if_done(self) -> None:
        if self._left <= 0 and not self._waiting:
            self._end()

    def _end(self) -> None:
        if self._open:
            self._open = False
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()
