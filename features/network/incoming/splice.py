"""Two streams, joined: end is end and reset is reset, both ways. Callbacks only, no task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pymirror.core.errors import PeerError
from pymirror.features.network.carry import CHUNK, PER_TURN, Bytes


class _Way:
    """From one to the other. done: its end was passed on."""

    def __init__(self, source: Bytes, sink: Bytes) -> None:
        self._source, self._sink = source, sink
        self._held: bytes | memoryview = b""  # no room for it yet
        self.done = False

    @property
    def stalls(self) -> bool:
        return not self.done and (bool(self._held) or not self._sink.room())

    def move(self) -> bool:
        """May there be more at once? BlockingIOError: when something came. OSError, PeerError."""
        for _ in range(PER_TURN):
            if self._held:
                size = self._sink.write_now(self._held)
                self._held = memoryview(self._held)[size:] if size < len(self._held) else b""
            if self._held or self.done:
                return False
            room = self._sink.room()
            if not room:
                return False
            self._held = self._source.read_now(min(room, CHUNK))
            if not self._held:
                self._sink.end()
                self.done = True
        return True


class Splice:
    """Begins when it is made; over() is called once, when both directions have ended or one was reset."""

    def __init__(self, one: Bytes, other: Bytes, over: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._streams, self._over = (one, other), over
        self._there, self._back = _Way(one, other), _Way(other, one)
        self.closed = False
        one.attach(lambda: self._move(self._there), lambda: self._move(self._back))
        other.attach(lambda: self._move(self._back), lambda: self._move(self._there))
        self._move(self._there)
        self._move(self._back)

    @property
    def stalls(self) -> bool:
        """The second has no room for what the first may still have."""
        return not self.closed and self._there.stalls

    def cancel(self) -> None:
        """End both directions now."""
        if not self.closed:
            self.closed = True
            for stream in self._streams:
                stream.close()
            self._over()

    def _move(self, way: _Way) -> None:
        if self.closed:
            return
        try:
            if way.move():
                self._loop.call_soon(self._move, way)
        except BlockingIOError:
            pass
        except (OSError, PeerError):
            self.cancel()
            return
        if self._there.done and self._back.done:
            self.closed = True  # and the streams close by themselves
            self._over()
        elif (self._there.done or self._back.done) and any(each.broken for each in self._streams):
            self.cancel()  # nobody reads the direction that has ended any more
