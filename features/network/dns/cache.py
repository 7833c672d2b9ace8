"""Answers kept for as long as they say themselves. Pure: the time comes in.

An answer is handed out with what is left of its times to live, so that whoever asks keeps it no
longer than the name server said. Bounded by count and by bytes; what was used last stays.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from attrs import frozen

MOST_BYTES = 16 << 20
MOST_SECONDS = 86_400
"""A day, as other caches have it (RFC 8767, 4): a longer time is hardly meant."""


@frozen
class Kept:
    """wire: the answer. ttls: where in it the times to live stand. since, until: in the clock's seconds."""

    wire: bytes
    ttls: tuple[int, ...]
    since: float
    until: float


class Cache:
    """most: answers at most; 0 keeps none."""

    def __init__(self, most: int, most_bytes: int = MOST_BYTES) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._kept: OrderedDict[Hashable, Kept] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, key: Hashable, wire: bytes, ttls: tuple[int, ...], seconds: int, now: float) -> None:
        """Keep `wire` for `seconds`; not at all for 0."""
        self._drop(key)
        if seconds <= 0 or not self._most:
            return
        self._kept[key] = Kept(wire, ttls, now, now + min(seconds, MOST_SECONDS))
        self._bytes += len(wire)
        while len(self._kept) > self._most or self._bytes > self._most_bytes:
            self._drop(next(iter(self._kept)))

    def get(self, key: Hashable, now: float) -> bytes | None:
        """The answer with its times counted down, or None."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        if now >= kept.until:
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return older(kept.wire, kept.ttls, int(now - kept.since))

    def clear(self) -> None:
        """Forget everything: the name servers are others now."""
        self._kept.clear()
        self._bytes = 0

    def _drop(self, key: Hashable) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._bytes -= len(kept.wire)


def older(wire: bytes, ttls: tuple[int, ...], seconds: int) -> bytes:
    """`wire` with each time to live (4 bytes at these places) lowered, to 0 at least."""
    made = bytearray(wire)
    for place in ttls:
        left = max(0, int.from_bytes(made[place : place + 4], "big") - seconds)
        made[place : place + 4] = left.to_bytes(4, "big")
    return bytes(made)
