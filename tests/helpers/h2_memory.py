"""A stream in memory: what a test feeds is read, what is written is kept."""

from __future__ import annotations

from collections.abc import Callable


class Memory:
    """space: bytes that are taken; written: those that were."""

    def __init__(self, space: int = 1 << 30) -> None:
        self.broken: Exception | None = None
        self.space, self.written = space, bytearray()
        self.ended = self.closed = False
        self._unread, self._end = bytearray(), False
        self._came: Callable[[], object] = lambda: None
        self._freed: Callable[[], object] = lambda: None

    def attach(self, came: Callable[[], object], room: Callable[[], object]) -> None:
        self._came, self._freed = came, room

    def room(self) -> int:
        return 0 if self.closed else self.space

    def write_now(self, data: bytes | memoryview) -> int:
        assert not self.ended
        if self.closed:
            raise BrokenPipeError
        size = min(len(data), self.space)
        self.written += data[:size]
        self.space -= size
        return size

    def read_now(self, size: int = 65536) -> bytes:
        if self.closed:
            raise ConnectionResetError
        if not self._unread and not self._end:
            raise BlockingIOError
        data = bytes(self._unread[:size])
        del self._unread[:size]
        return data

    def end(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.closed = True

    def feed(self, data: bytes) -> None:
        self._unread += data
        self._came()

    def finish(self) -> None:
        self._end = True
        self._came()

    def widen(self, size: int) -> None:
        self.space += size
        self._freed()

    def take(self) -> bytes:
        data = bytes(self.written)
        self.written.clear()
        return data
