"""Errors that the target's network reports for datagrams (ICMP), on their way to the program's socket.

Linux keeps one error for a socket until its next call, so of many that come at once few are told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

PAUSE = 0.01
"""Seconds between two of one flow that cross: telling one costs the layer 0.2 ms."""


class Teller:
    """tell(): called for the first error at once, for those of the next moment once after it."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell
        self._next = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is None:
            self._timer = loop.call_at(max(self._next, loop.time()), self._now)

    def _now(self) -> None:
        self._timer, self._next = None, asyncio.get_running_loop().time() + PAUSE
        self._tell()
