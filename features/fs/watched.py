"""The agent's inotify for programs that watch: every event of it, as the target's kernel tells it.

Apart from watch.py's, which says what to forget, and lets watches go when there are many: here each is wanted
until it is given back. One inode has one number, as in the kernel.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import struct
import threading
from collections.abc import Callable

from pymirror.features.fs.messages import Event
from pymirror.features.fs.replay import IN_IGNORED, IN_Q_OVERFLOW, MASK, MOST, unpaired

_libc = ctypes.CDLL(None, use_errno=True)
_EVENT = struct.Struct("<iIII")
PAIR = 0.002
"""Seconds the second half of a rename may come after the first: the kernel tells them one after the other."""


class Watched:
    """Calls `happened(events, lost)` in the loop. `add` is for any thread."""

    def __init__(self, happened: Callable[[list[Event], bool], None]) -> None:
        self._happened = happened
        self._lock = threading.Lock()
        self._numbers: dict[int, int] = {}  # the kernel's → the layer's
        self._held: list[Event] = []
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._fd = -1

    def add(self, fd: int, number: int) -> int:
        """Tell of what `fd` is open on; the number by which it is. OSError: the kernel's words."""
        with self._lock:
            if len(self._numbers) >= MOST:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if self._fd < 0:
                self._begin()
            made = int(_libc.inotify_add_watch(self._fd, b"/proc/self/fd/%d" % fd, MASK))
            if made < 0:
                _fail()
            return self._numbers.setdefault(made, number)

    def _begin(self) -> None:
        self._fd = int(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        if self._fd < 0:
            _fail()
        self._loop.call_soon_threadsafe(self._loop.add_reader, self._fd, self._read)

    def remove(self, numbers: list[int]) -> None:
        gone = set(numbers)
        with self._lock:
            for made, number in [*self._numbers.items()]:
                if number in gone:
                    del self._numbers[made]
                    _libc.inotify_rm_watch(self._fd, made)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 1 << 16)
        except BlockingIOError:
            return
        with self._lock:
            events, lost = self._parse(data)
        self._take(events, lost)

    def _parse(self, data: bytes) -> tuple[list[Event], bool]:
        events, lost, at = [], False, 0
        while at < len(data):
            made, mask, cookie, size = _EVENT.unpack_from(data, at)
            name = data[at + _EVENT.size : at + _EVENT.size + size].rstrip(b"\0")
            at += _EVENT.size + size
            lost = lost or bool(mask & IN_Q_OVERFLOW)
            number = self._numbers.get(made)
            if number is not None:
                events.append(Event(number, mask, cookie, name))
            if mask & IN_IGNORED:
                self._numbers.pop(made, None)
        return events, lost

    def _take(self, events: list[Event], lost: bool) -> None:
        """Tell, but for what comes from the first half of a rename on: the second may be on its way."""
        events = self._held + events
        waited, self._held = bool(self._held), []
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        first = len(events) if waited or lost else unpaired(events)
        if first < len(events):
            self._held = events[first:]
            self._timer = self._loop.call_later(PAIR, self._take, [], False)
        if events[:first] or lost:
            self._happened(events[:first], lost)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1


def _fail() -> None:
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code))
