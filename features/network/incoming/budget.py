"""Bytes that one agent holds for all connections it looks into, bounded together.

Each connection has a share. When all of them hold too much, those give back first of which nothing has left
for longest: who comes then, or whose bytes move, is not the one to blame.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

LITTLE = 8 << 10
"""Bytes of a share that is spared as long as there are larger ones."""


class Budget:
    """tight: each is to hold less. full: bytes beyond which some give back all they hold."""

    def __init__(self, tight: int, full: int) -> None:
        self.held = 0
        self._tight, self._full = tight, full
        self._shares: dict[Share, None] = {}  # that hold something, by when something last left
        self._relieves = False

    @property
    def tight(self) -> bool:
        return self.held > self._tight

    def count(self, share: Share, size: int, left: bool) -> None:
        """What a share does when it holds so much more, or less. left: what is less went where it should."""
        self.held += size
        if not share.size:
            self._shares.pop(share, None)
        elif (size < 0 and left) or share not in self._shares:
            self._shares.pop(share, None)
            self._shares[share] = None
        if self.held > self._full and not self._relieves:
            self._relieves = True
            asyncio.get_running_loop().call_soon(self._relieve)

    def _relieve(self) -> None:
        self._relieves = False
        for least in (LITTLE, 0):
            for share in list(self._shares):
                if self.held <= self._full:
                    return
                if share.size > least:
                    self._ask(share)

    @staticmethod
    def _ask(share: Share) -> None:
        try:
            share.give_back()
        except Exception as error:  # one connection's; others hold something, too
            words = {"message": "a connection that was to hold less", "exception": error}
            asyncio.get_running_loop().call_exception_handler(words)


BUDGET = Budget(12 << 20, 24 << 20)
"""Of an agent's pod, which may have 200 MiB (runtimes/kubernetes/agentspec.py): a head that is not whole
costs three times its bytes."""


class Share:
    """size: bytes that one connection holds. give_back: called when it is to end, or to hold less."""

    def __init__(self, give_back: Callable[[], object] = lambda: None, budget: Budget = BUDGET) -> None:
        self.size = 0
        self.give_back, self.budget = give_back, budget

    def add(self, size: int, left: bool = True) -> None:
        """So much more; less, if it is negative. left: by what left for the other side, so that it moves."""
        if size:
            self.size += size
            self.budget.count(self, size, left)
