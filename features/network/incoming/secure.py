"""TLS over a stream, with the face of a stream: who joins or cuts bytes need not know that they were sealed.

Pulled: nothing is read below before somebody reads here, and what is sealed waits for room below, at most
`MOST` bytes, or `LITTLE` where many hold much. Ends are ends: close_notify each way, and an end without one
is told by `truncated`.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Callable

from pymirror.core.errors import PeerError
from pymirror.features.network.carry import Bytes
from pymirror.features.network.incoming.budget import Share

READ = 64 << 10
PER_TURN = 4
"""Times the stream below is read before the loop's turn is somebody else's."""
WITHIN = 10.0
"""Seconds for a handshake."""
LINGER = 5.0
"""Seconds in which the peer must end its connection, once both directions have ended."""


def _nothing() -> None:
    return


def _heard(_error: Exception | None) -> None:
    return


def _whole() -> bool:
    return False


class Secured:
    """Owns `below` from `begin` on. done(error): the handshake is over; called once, and not after `close`.

    name: whom it asks for, empty for nobody; None: it serves. first: what was read below before. cut: is the
    end that is passed on here one without close_notify? Asked at `end`. share: what is held counts to it.
    """

    MOST, LITTLE = 64 << 10, 16 << 10

    def __init__(
        self,
        below: Bytes,
        context: ssl.SSLContext,
        done: Callable[[Exception | None], object],
        name: str | None = None,
        first: bytes = b"",
        cut: Callable[[], bool] = _whole,
        share: Share | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._below, self._done, self._cut = below, done, cut
        self._opened, self._sealed = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._opened.write(first)
        bios = self._opened, self._sealed
        host = name.encode("ascii") if name else None
        self.tls = context.wrap_bio(*bios, server_side=name is None, server_hostname=host)
        self._came: Callable[[], object] = _nothing
        self._freed: Callable[[], object] = _nothing
        self._share, self._counted = share or Share(), 0
        self._early = b""  # opened before our end was sealed
        self._ready = self._ended = self._shut = self._theirs_ended = False
        self._waits = False  # writing waits for what is to be read: a handshake in the middle
        self._why: Exception | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.truncated = False

    def begin(self) -> None:
        self._timer = self._loop.call_later(WITHIN, self._late)
        self._below.attach(self._below_came, self._below_freed)
        self._shake()

    @property
    def broken(self) -> Exception | None:
        return self._why or self._below.broken

    def attach(self, came: Callable[[], object], room: Callable[[], object]) -> None:
        """See `core.feature.Stream`."""
        self._came, self._freed = came, room

    def room(self) -> int:
        """Bytes that `write_now` takes at least."""
        if not self._ready or self._ended or self._waits or self.broken is not None:
            return 0
        most = self.LITTLE if self._share.budget.tight else self.MOST
        return max(0, most - self._sealed.pending)

    def write_now(self, data: bytes | memoryview) -> int:
        """How much of `data` there was room for. ConnectionError, PeerError."""
        if self.broken is not None:
            raise ConnectionAbortedError(*self.broken.args)
        if self._ended:
            raise BrokenPipeError("this side has ended")
        view, taken = memoryview(data), 0
        try:
            while taken < len(view) and (room := self.room()):
                taken += self.tls.write(view[taken : taken + room])
                self._flush()
        except ssl.SSLWantReadError:
            self._waits = True
            self._flush()
        except (OSError, PeerError) as error:
            self._fail(error)
            raise
        self._count()
        return taken

    def read_now(self, size: int = READ) -> bytes:
        """Up to `size` bytes; b"" at the end, BlockingIOError while there are none: `came` tells then."""
        if self._early:
            data, self._early = self._early[:size], self._early[size:]
            self._count()
            return data
        if self._theirs_ended:
            return b""
        if self._why is not None:
            raise ConnectionAbortedError(*self._why.args)
        if not self._ready:
            raise BlockingIOError
        try:
            data = self._read(size)
            self._count()
            return data
        except BlockingIOError:
            self._count()
            raise
        except (OSError, PeerError) as error:
            self._fail(error)
            raise

    def unread(self, data: bytes) -> None:
        """As if it had not been read."""
        self._early = data + self._early
        self._count()

    def end(self) -> None:
        """Nothing more is written; what is held still leaves."""
        if self._ended or self.broken is not None:
            return
        try:
            if not self._cut():
                self._seal_end()
            self._ended = True
            self._flush()
            self._count()
        except (OSError, PeerError) as error:
            self._fail(error)

    def close(self) -> None:
        """End both directions now: a reset, unless both have ended."""
        if self._why is None:
            self._why = BrokenPipeError("closed on this side")
            self._below.close()
            self._forget()

    def leave(self) -> None:
        """Of no use any more, and nothing is wrong: it is told the end."""
        self.end()
        if self._why is None:
            self._linger(BrokenPipeError("left on this side"))

    def _read(self, size: int) -> bytes:
        for _ in range(PER_TURN):
            if not self._opened.pending and not self.tls.pending() and not self._feed():
                self.truncated = True
                self._they_ended()
                return b""
            try:
                data = self.tls.read(size)
            except ssl.SSLWantReadError:
                data = None
            except ssl.SSLZeroReturnError:
                data = b""
            self._flush()  # reading answers, too: a new key, a new handshake
            if self._waits:
                self._waits = False
                self._loop.call_soon(self._below_freed)
            if data is not None:
                if not data:
                    self._they_ended()
                return data
        self._loop.call_soon(self._below_came)
        raise BlockingIOError

    def _feed(self) -> bool:
        """From below. False: the end. BlockingIOError."""
        data = self._below.read_now(self.LITTLE if self._share.budget.tight else READ)
        self._opened.write(data)
        return bool(data)

    def _count(self) -> None:
        held = 0 if self._why is not None else self._sealed.pending + self._opened.pending + len(self._early)
        if held != self._counted:
            self._counted, more = held, held - self._counted
            self._share.add(more)

    def _flush(self) -> None:
        """What is sealed leaves, as far as there is room below."""
        while self._sealed.pending and (room := self._below.room()):
            self._below.write_now(self._sealed.read(min(room, READ)))
        if self._ended and not self._sealed.pending and not self._shut:
            self._shut = True
            self._below.end()
            self._linger_if_done()

    def _seal_end(self) -> None:
        """close_notify. What has come is opened before: the call reads, and drops what is no end."""
        try:
            while more := self.tls.read(READ):
                self._early += more
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass
        try:
            self.tls.unwrap()
        except ssl.SSLError:
            return  # theirs is not there yet

    def _shake(self) -> None:
        """Go on with the handshake, as far as what came allows."""
        try:
            while True:
                try:
                    self.tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    self._flush()
                    if not self._feed():
                        raise ConnectionAbortedError(errno.ECONNABORTED, "it ended") from None
            self._flush()
        except BlockingIOError:
            return
        except (OSError, PeerError) as error:
            self._fail(error)
            return
        self._ready = True
        self._stop()
        self._done(None)

    def _late(self) -> None:
        self._fail(TimeoutError(errno.ETIMEDOUT, f"it took more than {WITHIN:g} s"))

    def _below_came(self) -> None:
        if self._why is not None:
            self._drop()
        elif self._ready:
            self._came()
        else:
            self._shake()

    def _below_freed(self) -> None:
        try:
            if self._why is None:
                self._flush()
                self._count()
        except (OSError, PeerError) as error:
            came = self._came
            self._fail(error)
            came()
        if self._ready and self._sealed.pending < self.MOST:
            self._freed()

    def _they_ended(self) -> None:
        self._theirs_ended = True
        self._linger_if_done()

    def _linger_if_done(self) -> None:
        if self._shut and self._theirs_ended and self._why is None:
            self._linger(BrokenPipeError("both directions have ended"))

    def _fail(self, error: Exception) -> None:
        """Say why, as TLS has it, and end."""
        if self._why is not None:
            return
        self._ended, done = True, self._done
        try:
            if self._below.broken is None:
                self._flush()
        except (OSError, PeerError):
            pass
        if self._why is None:  # not the error itself: it knows who calls, and would keep them
            self._linger(ConnectionAbortedError(errno.ECONNABORTED, str(error)))
        if not self._ready:
            done(error)

    def _linger(self, why: Exception) -> None:
        """Of no use any more; the peer still has to read, and to end its connection."""
        self._why = why
        self._stop()
        if self._below.broken is None:
            self._timer = self._loop.call_later(LINGER, self._leave_below)
            self._drop()
        else:
            self._forget()

    def _drop(self) -> None:
        try:
            for _ in range(PER_TURN):
                if not self._below.read_now(READ):
                    break
            else:
                return
        except BlockingIOError:
            return
        except (OSError, PeerError):
            pass
        if self._shut:
            self._forget()
        else:
            self._leave_below()

    def _leave_below(self) -> None:
        self._below.close()
        self._forget()

    def _forget(self) -> None:
        """Nothing comes any more. What is in a circle would stay until the next look for such."""
        self._stop()
        self._count()
        self._below.attach(_nothing, _nothing)
        self._came = self._freed = _nothing
        self._done, self._cut = _heard, _whole

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
