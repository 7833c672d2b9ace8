"""How much may come on one HTTP/2 connection: bounded by what is held of it, given back as that leaves. Pure.

A stream that does not move costs its own window, and of the connection's nothing as long as there is room
below `MOST`. How much may be on its way grows while bytes leave as they come, and shrinks while they pile up:
slow readers hold little each. When the agent as a whole holds much (`tight`), each may have `BEGINS`; when
that does not help (`full`), connections that hold more and do not move are ended.
"""

from __future__ import annotations

from pymirror.features.network.incoming.http2_frames import ENHANCE_YOUR_CALM, FLOW_CONTROL_ERROR, Wrong

BEGINS = 64 << 10
REACH = 1 << 20
"""Bytes that may be on their way at once, at most."""
MOST = 4 << 20
"""Bytes held of one connection; a stream holds 64 KiB to 1 MiB of them."""
LITTLE = 2 * BEGINS
UNLIMITED = 1 << 62


class Budget:
    """Bytes that all connections of one agent hold. tight: less is allowed; full: that is enforced."""

    def __init__(self, tight: int, full: int) -> None:
        self.held = 0
        self._tight, self._full = tight, full

    @property
    def tight(self) -> bool:
        return self.held > self._tight

    @property
    def full(self) -> bool:
        return self.held > self._full


BUDGET = Budget(16 << 20, 48 << 20)


class Credit:
    """open: bytes that may still come. held: those that came and have not left."""

    def __init__(self, begins: int, budget: Budget) -> None:
        self.open, self.held = begins, 0
        self._budget, self._reach, self._moved = budget, BEGINS, 0

    def arrived(self, size: int, kept: int) -> None:
        """So many, of which so many are held. Wrong."""
        self.open -= size
        if self.open < 0:
            raise Wrong(FLOW_CONTROL_ERROR, "more data than the connection's window")
        if self.held > LITTLE and self._budget.full:
            raise Wrong(ENHANCE_YOUR_CALM, "the agent holds too much that does not move")
        self.held += kept
        self._budget.held += kept

    def left(self, size: int) -> None:
        self.held -= size
        self._budget.held -= size
        self._moved += size
        if self._moved >= self._reach:
            self._moved = 0
            piles = self.held > self._reach // 2
            self._reach = max(BEGINS, self._reach // 2) if piles else min(REACH, self._reach * 2)

    def due(self) -> int:
        """How much more may come now; 0 while that is not worth a frame."""
        most = BEGINS if self._budget.tight else MOST
        more = min(self._reach, most - self.held) - self.open
        if more < BEGINS // 4:
            return 0
        self.open += more
        return more
