"""How many requests may be open, and events of a feature on their way, of one side. No I/O, no clock.

An event counts from `sent` until the peer acknowledged the frame it left in, not only until it left:
else a peer that was stopped would find all of what the sockets between held, at once.
"""

from __future__ import annotations

import errno
from collections import deque

from attrs import define, field

MAX_EVENTS = 8192
MAX_EVENT_BYTES = 4 << 20
"""Of one feature. The receiver's own bound (`serving.MAX_EVENTS`) is far above."""
MAX_OPEN = 8192
"""Requests, and streams, that one side may have open at the other at once."""


@define
class Requests:
    """Our own."""

    _last: int = field(default=0, init=False)
    _waiting: set[int] = field(factory=set, init=False)
    _late: set[int] = field(factory=set, init=False)  # cancelled here, not answered yet

    @property
    def full(self) -> bool:
        return len(self._waiting) + len(self._late) >= MAX_OPEN

    def next(self) -> int:
        """The id for a new one; it is open from `opened` on."""
        number = self._last % 0xFFFFFFFF + 1
        while number in self._waiting or number in self._late:
            number = number % 0xFFFFFFFF + 1
        return number

    def opened(self, number: int) -> None:
        self._last = number
        self._waiting.add(number)

    def cancelled(self, number: int) -> bool:
        """False: nobody waits for it."""
        if number not in self._waiting:
            return False
        self._waiting.discard(number)
        self._late.add(number)
        return True

    def answered(self, number: int) -> bool | None:
        """Somebody waits for it. None: it is not open."""
        if number in self._waiting:
            self._waiting.discard(number)
            return True
        if number in self._late:
            self._late.discard(number)
            return False
        return None


@define
class _Sum:
    count: int = 0
    size: int = 0

    def add(self, count: int, size: int) -> None:
        self.count += count
        self.size += size

    def within(self, parts: int) -> bool:
        """At most one part in `parts` of what may wait."""
        return parts * self.count <= MAX_EVENTS and parts * self.size <= MAX_EVENT_BYTES


@define
class Outbox:
    """One side's events that the peer does not have yet."""

    _waiting: dict[str, _Sum] = field(factory=dict, init=False)
    _flying: deque[tuple[int, str, int]] = field(factory=deque, init=False)  # sequence, feature, size

    def admit(self, feature: str, size: int) -> None:
        """Count one more event. BlockingIOError if it is too much; a lone one never is."""
        known = self._waiting.get(feature)
        if known and (known.count >= MAX_EVENTS or known.size + size > MAX_EVENT_BYTES):
            raise BlockingIOError(errno.EAGAIN, f"{known.count} events of {feature} wait to be taken")
        self._waiting.setdefault(feature, _Sum()).add(1, size)

    def left(self, sequence: int, feature: str, size: int) -> None:
        """An event that was admitted is on its way as frame `sequence`."""
        self._flying.append((sequence, feature, size))

    def acknowledged(self, sequence: int) -> None:
        """The peer has all frames up to `sequence`."""
        while self._flying and self._flying[0][0] <= sequence:
            _, feature, size = self._flying.popleft()
            known = self._waiting[feature]
            known.add(-1, -size)
            if not known.count:
                del self._waiting[feature]

    def drained(self, feature: str) -> bool:
        """Half of what may wait is free."""
        known = self._waiting.get(feature)
        return known is None or known.within(2)


@define
class Inbox:
    """The peer's events since it was last told what we have."""

    _owed: _Sum = field(factory=_Sum, init=False)

    def arrived(self, size: int) -> bool:
        """One came. True: tell the peer now, before its room is used up."""
        self._owed.add(1, size)
        return not self._owed.within(4)

    def told(self) -> None:
        """The peer hears of all that came."""
        self._owed = _Sum()
