"""How far writers of streams may be ahead of their readers: windows out of one pool. No I/O, no clock.

A window follows what its reader takes, up to a share of what is free in the pool. A part of the pool is
for small windows alone, so that readers which stalled when theirs were wide leave enough to all others;
LEAST is everybody's whatever the others do. All that one side may have to keep is the pool and LEAST for
each stream. Both sides count the same bytes: written, and not credited.
"""

from __future__ import annotations

from bisect import bisect_left, insort

from attrs import define, field, frozen

FIRST = 256 << 10
"""Bytes of a new stream's window. It triples with each round trip for which it was too small."""
LEAST = 8 << 10
SHARE = 2
"""A window ends where it is half of what is free for wide ones: alone at a quarter of the pool."""
APART = 4
"""A quarter of the pool is for small windows: up to FIRST, and up to a part of what is free of it all."""
FEW = 64
"""That part: a 64th. Of what was free 24 stalled readers leave two thirds, 100 a fifth."""
SMALLEST = 2 << 20
"""A pool. Who is held up by one that is not tight has nearly an eighth of it ahead: more than CREDIT_FROM."""
TO_LAYER = 64 << 20
"""Bytes of the pool for what the layer keeps: 500 MB/s on one stream at 40 ms there and back."""
TO_AGENT = 24 << 20
"""The same for what the agent keeps, whose memory is the target's node's: 190 MB/s."""
CREDIT_FROM = 192 << 10
"""Bytes taken from which on they are credited: two chunks. Below FIRST, so that none waits for ever."""
CREDIT_FROM_TIGHT = LEAST // 2
"""The same while half of the pool is used, when windows are down to LEAST."""


@frozen
class Terms:
    """What both sides must count by, in bytes. The pools are configured, the rest is this checkout's own."""

    to_layer: int = TO_LAYER
    to_agent: int = TO_AGENT
    first: int = FIRST
    least: int = LEAST
    share: int = SHARE
    apart: int = APART
    few: int = FEW
    credit_from: int = CREDIT_FROM
    credit_from_tight: int = CREDIT_FROM_TIGHT


TERMS = Terms()


@define
class Window:
    """One direction of one stream."""

    size: int = FIRST
    ahead: int = 0  # bytes written, and not credited
    short: bool = False  # its writer had to wait for it since it grew last
    taken: int = 0  # bytes the reader took, of those ahead; known to the reader's side alone
    needs: int = 0  # bytes that must be free in the pool for its writer, which waits for them; 0: it does not


@define
class Stream:
    """Both directions of one, on one side."""

    out: Window = field(factory=Window)
    into: Window = field(factory=Window)
    ours_open: bool = True
    end_left: bool = False  # our end is on its way, not only in its lane
    theirs_open: bool = True

    @property
    def over(self) -> bool:
        """Both halves have ended, and no more is unread than is not worth a credit."""
        return self.end_left and not self.theirs_open and max(self.out.ahead, self.into.ahead) < LEAST


def reach(free: int, size: int) -> int:
    """How many bytes ahead a window may be, of a pool of `size` bytes of which so many are free."""
    return max(LEAST, (free - size // APART) // SHARE, min(FIRST, free // FEW))


def needed(ahead: int, size: int) -> int:
    """The least that must be free for a window to reach `ahead` bytes, more than LEAST."""
    wide = size // APART + SHARE * ahead
    return min(wide, FEW * ahead) if ahead <= FIRST else wide


def pools(initiator: bool, terms: Terms) -> tuple[Pool, Pool]:
    """(out, into) of the layer, or else of the agent."""
    layer, agent = Pool(terms.to_layer), Pool(terms.to_agent)
    return (agent, layer) if initiator else (layer, agent)


@define
class Pool:
    """All windows of one direction, on one side. tight: half of it is used."""

    size: int
    used: int = field(default=0, init=False)
    tight: bool = field(default=False, init=False)
    _waiting: list[tuple[int, int]] = field(factory=list, init=False)  # (needs, stream), ascending

    # The writer's side ----------------------------------------------------------------------

    def room(self, window: Window) -> int:
        """Bytes that may be written now; none rather than so few that they cost more than they carry."""
        room = min(window.size, reach(self.size - self.used, self.size)) - window.ahead
        if room >= CREDIT_FROM_TIGHT:
            return room
        window.short = True
        return 0

    def wait(self, window: Window, stream: int) -> None:
        """There was no room. Where others leave too little, `freed` names the stream when that has changed.

        Its own credit need not come by then: the reader may have taken less than is worth one. Where its
        own window is used up it does come, and nothing else helps.
        """
        self._wait_no_more(window, stream)
        if window.size - window.ahead >= CREDIT_FROM_TIGHT:
            window.needs = needed(window.ahead + CREDIT_FROM_TIGHT, self.size)
            insort(self._waiting, (window.needs, stream))

    def freed(self) -> list[int]:
        """The streams that `wait` was called for and that there is room for now."""
        count = bisect_left(self._waiting, (self.size - self.used + 1,))
        found, self._waiting[:count] = self._waiting[:count], []
        return [stream for _, stream in found]

    def _wait_no_more(self, window: Window, stream: int) -> None:
        if window.needs:
            at = bisect_left(self._waiting, (window.needs, stream))
            if self._waiting[at : at + 1] == [(window.needs, stream)]:
                del self._waiting[at]
            window.needs = 0

    def wrote(self, window: Window, size: int) -> None:
        window.ahead += size
        self.used += size

    def credited(self, window: Window, size: int) -> bool:
        """The reader has taken so many. False: more than were written."""
        if window.short:
            window.size = min(window.size + 2 * size, self.size)
            window.short = False
        self._free(window, size)
        return window.ahead >= 0

    # The reader's side ----------------------------------------------------------------------

    def arrived(self, window: Window, size: int, streams: int) -> bool:
        """So many came, of one of `streams`. False: the writer is further ahead than the pool allows."""
        self.wrote(window, size)
        return self.used <= self.size + streams * LEAST

    def tightened(self) -> bool:
        """Has it become tight just now? Then all that was taken is to be credited."""
        before, self.tight = self.tight, self.used > self.size // (4 if self.tight else 2)
        return self.tight and not before

    def due(self, window: Window, ended: bool) -> int:
        """Bytes to credit now; they count as credited. ended: nothing more will be written."""
        size = window.taken
        if ended:
            due = size == window.ahead and size >= LEAST
        else:
            due = size >= (CREDIT_FROM_TIGHT if self.tight else CREDIT_FROM)
        if not due:
            return 0
        window.taken = 0
        self._free(window, size)
        return size

    # Both -----------------------------------------------------------------------------------

    def forget(self, window: Window, stream: int) -> None:
        self._wait_no_more(window, stream)
        self._free(window, window.ahead)

    def _free(self, window: Window, size: int) -> None:
        window.ahead -= size
        self.used -= size
