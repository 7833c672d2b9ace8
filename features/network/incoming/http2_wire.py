"""A side of an HTTP/2 connection on its stream: reads, writes, ends. Decides nothing."""

from __future__ import annotations

import asyncio
from typing import Protocol

from pymirror.core.errors import PeerError
from pymirror.features.network.carry import Bytes
from pymirror.features.network.incoming.http2_frames import Wrong
from pymirror.features.network.incoming.http2_side import Side

READ = 64 << 10
PER_TURN = 4
"""Times one stream is read before the loop's turn is somebody else's."""
BATCH = 128 << 10
"""Bytes of frames made at once."""
LINGER = 5.0
"""Seconds in which a peer must end its connection, once ours has ended."""


class Owner(Protocol):
    def turn(self) -> None:
        """Something came, or may leave: all wires are to be flushed."""

    def gone(self, wire: Wire, why: Exception | None) -> None:
        """It is over. None: the peer ended it. Wrong: what is to be said about that can still leave."""


class Wire:
    """closed: the stream is over, or ends by itself."""

    def __init__(self, stream: Bytes, side: Side, owner: Owner) -> None:
        self._loop = asyncio.get_running_loop()
        self._stream, self.side, self._owner = stream, side, owner
        self._unsent: bytes | memoryview = b""
        self._ends = self._shut = self._stopped = self._again = False
        self._linger: asyncio.TimerHandle | None = None
        self.closed = False

    def begin(self, first: bytes = b"") -> None:
        """Listen. first: what was read before."""
        self._stream.attach(self._came, self._owner.turn)
        self._receive(first)
        self._came()

    def flush(self) -> bool:
        """Write what may be written. Was there any?"""
        moved = False
        try:
            while not (self.closed or self._shut) and self._written():
                room = self._stream.room()
                if not room:
                    break
                if not self._ends:
                    self.side.fill(min(room, BATCH))
                if not self.side.out:
                    self._shut_if_ended()
                    break
                self._unsent = bytes(self.side.out)
                self.side.out.clear()
                moved = True
        except (OSError, PeerError) as error:
            self._over(error)
        return moved

    def resume(self) -> None:
        """Read again, if it was too much before."""
        if self._stopped and not self.side.crowded:
            self._stopped = False
            self._read_again()

    def end(self) -> None:
        """After what is to be sent now. What still comes is dropped."""
        if not (self.closed or self._ends):
            self._ends = True
            self._linger = self._loop.call_later(LINGER, self._over, TimeoutError("it did not end"))
            self.flush()
            self._read_again()

    def close(self) -> None:
        """Reset it; nobody is told."""
        if not self.closed:
            self._forget()
            self._stream.close()

    def _forget(self) -> None:
        self.closed = True
        self.side.forget()
        if self._linger is not None:
            self._linger.cancel()

    def _shut_if_ended(self) -> None:
        if self._ends:
            self._shut = True
            self._stream.end()

    def _written(self) -> bool:
        if self._unsent:
            size = self._stream.write_now(self._unsent)
            self._unsent = memoryview(self._unsent)[size:] if size < len(self._unsent) else b""
        return not self._unsent

    def _read_again(self) -> None:
        if not self._again:
            self._again = True
            self._loop.call_soon(self._once_more)

    def _once_more(self) -> None:
        self._again = False
        self._came()

    def _came(self) -> None:
        if self.closed or self._again:
            return
        try:
            self._read()
        except BlockingIOError:
            pass
        except (OSError, PeerError) as error:
            self._over(error)
            return
        self._owner.turn()

    def _read(self) -> None:
        for _ in range(PER_TURN):
            if self.side.crowded and not self._ends:
                self._stopped = True
                return
            data = self._stream.read_now(READ)
            if not data:
                self._over(None)
                return
            self._receive(data)
            if self.closed:
                return
        self._read_again()

    def _receive(self, data: bytes) -> None:
        if not data or self._ends:
            return
        try:
            self.side.receive(data)
        except Wrong as error:
            self.side.goaway(max(self.side.last, 0), error.code, str(error))
            self._owner.gone(self, error)

    def _over(self, why: Exception | None) -> None:
        if self.closed:
            return
        if why is None:
            self._forget()
            self._stream.end()  # and with both, the stream is closed
        else:
            self.close()
        self._owner.gone(self, why)
