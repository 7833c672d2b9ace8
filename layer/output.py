"""Standard output that makes nobody wait: a thread writes, and what it holds is bounded.

Not the event loop: a file or a terminal cannot be waited for there, and a descriptor that others share is not
ours to make non-blocking.
"""

from __future__ import annotations

import asyncio
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

ROOM = 4 << 20
"""Bytes that may be held. Who writes looks first, and then writes a piece or two."""
SILENT = 10.0
"""Seconds without a byte taken, after which the rest is given up at the end."""


class Output:
    """failed(error): called once in the loop, when nothing more can be written; freed(): when there is room
    again after `full` was true."""

    def __init__(self, number: int, failed: Callable[[OSError], object]) -> None:
        self._number, self._failed = number, failed
        self.freed: Callable[[], object] = lambda: None
        self._loop = asyncio.get_running_loop()
        self._there = threading.Condition()
        self._chunks: deque[bytes] = deque()
        self._held = self._taken = 0
        self._was_full = self._ends = False
        self._thread = threading.Thread(target=self._run, name="output", daemon=True)
        self._thread.start()

    @property
    def full(self) -> bool:
        with self._there:
            self._was_full = self._was_full or self._held >= ROOM
            return self._was_full

    def write(self, data: bytes) -> None:
        with self._there:
            if not self._ends:
                self._chunks.append(data)
                self._held += len(data)
                self._there.notify()

    def finish(self) -> None:
        """Wait for what is held, as long as some of it is taken."""
        with self._there:
            self._ends = True
            self._there.notify()
        taken = -1
        while self._thread.is_alive() and taken != self._taken:
            taken = self._taken
            self._thread.join(SILENT)

    def _run(self) -> None:
        try:
            while (chunk := self._next()) is not None:
                self._write(chunk)
        except OSError as error:
            with self._there:
                self._ends = True
                self._chunks.clear()
            self._tell(self._failed, error)

    def _next(self) -> bytes | None:
        with self._there:
            while not self._chunks and not self._ends:
                self._there.wait()
            return self._chunks.popleft() if self._chunks else None

    def _write(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        while rest:
            try:
                size = os.write(self._number, rest)
            except BlockingIOError:  # somebody else made it so
                select.select([], [self._number], [])
                continue
            rest = rest[size:]
            self._took(size)

    def _took(self, size: int) -> None:
        with self._there:
            self._held -= size
            self._taken += size
            free = self._was_full and self._held <= ROOM // 2
            self._was_full = self._was_full and not free
        if free:
            self._tell(lambda: self.freed())

    def _tell(self, what: Callable[..., object], *words: object) -> None:
        with suppress(RuntimeError):  # the loop is over, and with it who would want to know
            self._loop.call_soon_threadsafe(what, *words)
