"""How much may come on one HTTP/2 connection: bounded by what is held of it, given back as that leaves. Pure.

A stream that does not move costs its own window, and of the connection's nothing as long as there is room
below `MOST`. How much may be on its way grows while bytes leave as they come, and shrinks while they pile up:
slow readers hold little each. When the agent as a whole holds much (`budget`), each may have `BEGINS`.
"""

from __future__ import annotations

from pymirror.features.network.incoming.budget import Share
from pymirror.features.network.incoming.http2_frames import FLOW_CONTROL_ERROR, Wrong

BEGINS = 64 << 10
REACH = 1 << 20
"""Bytes that may be on their way at once, at most."""
MOST = 4 << 20
"""Bytes held of one connection; a stream holds 64 KiB to 1 MiB of them."""
UNLIMITED = 1 << 62


class Credit:
    """open: bytes that may still come. held: those that came and have not left. share: what all that the
    client's connection holds counts to."""

    def __init__(self, begins: int, share: Share) -> None:
        self.open, self.held, self.share = begins, 0, share
        self._reach, self._moved = BEGINS, 0

    def arrived(self, size: int, kept: int) -> None:
        """So many, of which so many are held. Wrong."""
        self.open -= size
        if self.open < 0:
            raise Wrong(FLOW_CONTROL_ERROR, "more data than the connection's window")
        self.held += kept
        self.share.add(kept)

    def left(self, size: int) -> None:
        self.held -= size
        self.share.add(-size)
        self._moved += size
        if self._moved >= self._reach:
            self._moved = 0
            piles = self.held > self._reach // 2
            self._reach = max(BEGINS, self._reach // 2) if piles else min(REACH, self._reach * 2)

    def due(self) -> int:
        """How much more may come now; 0 while that is not worth a frame."""
        most = BEGINS if self.share.budget.tight else MOST
        more = min(self._reach, most - self.held) - self.open
        if more < BEGINS // 4:
            return 0
        self.open += more
        return more
