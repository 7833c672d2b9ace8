"""How much may come on one HTTP/2 connection: bounded by what is held of it, given back as that leaves. Pure.

A stream that does not move costs its own window, and of the connection's nothing as long as there is room
below `MOST`; when the agent as a whole holds much, below `REACH`.
"""

from __future__ import annotations

from pymirror.features.network.incoming.http2_flow import Budget
from pymirror.features.network.incoming.http2_frames import FLOW_CONTROL_ERROR, Wrong

REACH = 1 << 20
"""Bytes that may be on their way at once."""
MOST = 4 << 20
"""Bytes held of one connection; a stream holds 64 KiB to 1 MiB of them."""
BUDGET = Budget(64 << 20)
UNLIMITED = 1 << 62


class Credit:
    """open: bytes that may still come. held: those that came and have not left."""

    def __init__(self, begins: int, budget: Budget) -> None:
        self.open, self.held = begins, 0
        self._budget = budget

    def arrived(self, size: int, kept: int) -> None:
        """So many, of which so many are held. Wrong."""
        self.open -= size
        if self.open < 0:
            raise Wrong(FLOW_CONTROL_ERROR, "more data than the connection's window")
        self.held += kept
        self._budget.held += kept

    def left(self, size: int) -> None:
        self.held -= size
        self._budget.held -= size

    def due(self) -> int:
        """How much more may come now; 0 while that is not worth a frame."""
        most = REACH if self._budget.tight else MOST
        more = min(REACH, most - self.held) - self.open
        if more < REACH // 8:
            return 0
        self.open += more
        return more
