"""A connected socket with the face of a stream: what joins or cuts bytes need not know which it has."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable

from pymirror.features.network.carry import end_by_reset
from pymirror.features.network.incoming.budget import Share
from pymirror.features.network.stalled import stalled

READ = 64 << 10


def _nothing() -> None:
    return


def _fresh(error: Exception) -> Exception:
    """The same anew: one that was raised knows all who called, and would keep them as long as it is kept."""
    return type(error)(*error.args)


class Pipe:
    """The part of `core.feature.Stream` that never waits, over a non-blocking TCP socket that is now ours.

    Closed by `close` alone, or when both directions have ended; a process that is killed resets it. What
    was written is held here until the kernel takes it: at most `MOST` bytes, which count to `share`; `LITTLE`
    where many hold much. waits: its peer waits for answers, so that its reset ends all, also while nobody has
    read what came before it.
    """

    MOST, LITTLE = 256 << 10, 16 << 10

    def __init__(self, sock: socket.socket, share: Share | None = None, waits: bool = False) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock, self._number = sock, sock.fileno()
        self._came: Callable[[], object] = _nothing
        self._freed: Callable[[], object] = _nothing
        self._held, self._share = bytearray(), share or Share()
        self._stalled = stalled() if waits else None
        self._reads = self._writes = False  # what the loop watches the socket for
        self._told = False  # and nobody has read since
        self._dry = False  # all was read that there was: asking the kernel would cost a call
        self._ended = self._theirs_ended = self._shut = False
        self.broken: Exception | None = None
        end_by_reset(sock, True)
        self._stall()

    def attach(self, came: Callable[[], object], room: Callable[[], object]) -> None:
        """See `core.feature.Stream`."""
        self._came, self._freed = came, room

    def room(self) -> int:
        """Bytes that `write_now` takes."""
        if self._ended or self.broken is not None:
            return 0
        most = self.LITTLE if self._share.budget.tight else self.MOST
        return max(0, most - len(self._held))

    def write_now(self, data: bytes | memoryview) -> int:
        """How much of `data` there was room for. ConnectionError."""
        if self.broken is not None:
            raise _fresh(self.broken)
        if self._ended:
            raise BrokenPipeError("this side has ended")
        sent = 0 if self._held else self._send(data)
        if sent == len(data):
            return sent
        rest = memoryview(data)[sent : sent + self.room()]
        self._held += rest
        self._share.add(len(rest))
        self._write(True)
        return sent + len(rest)

    def read_now(self, size: int = READ) -> bytes:
        """Up to `size` bytes; b"" at the end, BlockingIOError while there are none: `came` tells then."""
        if self._theirs_ended:
            return b""
        if self.broken is not None:
            raise _fresh(self.broken)
        self._told = False
        try:
            if self._dry:
                raise BlockingIOError
            data = self._sock.recv(size)
        except BlockingIOError:
            self._read(True)
            raise
        except OSError as error:
            self._break(error)
            raise
        self._dry = len(data) < size
        if not data:
            self._theirs_ended = True
            self._read(False)
            self._close_if_done()
        return data

    def end(self) -> None:
        """Nothing more is written; what is held still leaves."""
        self._ended = True
        self._shut_if_sent()

    def close(self) -> None:
        """End both directions now: a reset, unless all that was written has left, to its end."""
        self._break(BrokenPipeError("closed on this side"))

    @property
    def rests(self) -> bool:
        """Is it whole, with nothing held?"""
        return not (self._held or self._ended or self._theirs_ended or self.broken)

    def leave(self) -> socket.socket:
        """The socket, which is the caller's from then on, with what is in it."""
        self._read(False)
        self._write(False)
        self._unstall()
        self.broken = BrokenPipeError("it is somebody else's")
        return self._sock

    def _send(self, view: bytes | memoryview) -> int:
        try:
            return self._sock.send(view)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._break(error)
            raise

    def _leave(self) -> None:
        try:
            sent = self._send(memoryview(self._held))
        except OSError:
            self._came()
            self._freed()
            return
        del self._held[:sent]
        self._share.add(-sent)
        if not self._held:
            self._write(False)
            self._shut_if_sent()
            self._freed()

    def _shut_if_sent(self) -> None:
        if self._ended and not self._held and not self._shut and self.broken is None:
            self._shut = True
            try:
                end_by_reset(self._sock, False)  # what is on its way arrives, even if we are killed now
                self._sock.shutdown(socket.SHUT_WR)
            except OSError as error:
                self._break(error)
                return
            self._close_if_done()

    def _close_if_done(self) -> None:
        if self._shut and self._theirs_ended and self.broken is None:
            self._break(BrokenPipeError("both directions have ended"))

    def _break(self, error: Exception) -> None:
        if self.broken is None:
            self.broken = _fresh(error)
            self._read(False)
            self._write(False)
            self._unstall()
            self._share.add(-len(self._held))
            self._held.clear()
            self._sock.close()

    def _read(self, wanted: bool) -> None:
        if wanted is not self._reads:
            self._reads = wanted
            if wanted:
                self._unstall()
                self._loop.add_reader(self._number, self._readable)
            else:
                self._loop.remove_reader(self._number)

    def _readable(self) -> None:
        if self._told:
            self._read(False)  # who has no room for it; reading watches the socket again
            self._stall()
            return
        self._told, self._dry = True, False
        self._came()

    def _was_reset(self) -> None:
        self._break(ConnectionResetError(errno.ECONNRESET, "reset by the peer"))
        self._came()

    def _stall(self) -> None:
        if self._stalled is not None:
            self._stalled.watch(self._number, self._was_reset)

    def _unstall(self) -> None:
        if self._stalled is not None:
            self._stalled.leave(self._number)

    def _write(self, wanted: bool) -> None:
        if wanted is not self._writes:
            self._writes = wanted
            if wanted:
                self._loop.add_writer(self._number, self._leave)
            else:
                self._loop.remove_writer(self._number)
