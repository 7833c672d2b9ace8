"""Reading large files: pieces of 1 MiB, several on their way at once when the reads are in order.

A read out of order fetches just what it asks for. Pieces belong to a version of the content; what
arrives for an older one is not kept. All of it together is bounded.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from attrs import define, field

from pymirror.features.fs.cache import Node
from pymirror.features.fs.messages import MOST_READ

AHEAD = 6
"""Pieces on their way: 6 MiB fill a pipe of 150 MB/s with 40 ms."""
MOST_KEPT = 64

Fetch = Callable[[Node, int, int], Awaitable[bytes]]


@define
class _Progress:
    """Where the last read in order ended, and how far ahead to be."""

    end: int = 0
    ahead: int = 1


@define
class Reader:
    """fetch(node, offset, size) asks the agent. ahead: pieces fetched in advance at most."""

    fetch: Fetch
    ahead: int = AHEAD
    _pieces: OrderedDict[tuple[int, int, int], asyncio.Task[bytes]] = field(factory=OrderedDict)
    _progress: dict[int, _Progress] = field(factory=dict)

    def ready(self, node: Node, offset: int, size: int) -> memoryview | None:
        """The bytes if they are here and in one piece; else None."""
        task = self._at(node, offset)
        progress = self._progress.get(node.number)
        if task is None or progress is None or not task.done() or task.cancelled() or task.exception():
            return None
        piece, inside = task.result(), offset % MOST_READ
        if len(piece) < min(inside + size, MOST_READ) or inside + size > MOST_READ:
            return None  # the file's end, or two pieces
        progress.end = max(progress.end, offset + size)
        self._look_ahead(node, offset, progress)
        return memoryview(piece)[inside : inside + size]

    @property
    def _room(self) -> int:
        """Pieces ahead that each file may have: half of what is kept is for where the readers are."""
        return min(self.ahead, MOST_KEPT // 2 // max(1, len(self._progress)))

    async def read(self, node: Node, offset: int, size: int) -> bytes | memoryview:
        """Up to `size` bytes; less only at the end of the file."""
        progress = self._progress.setdefault(node.number, _Progress())
        # The kernel sends the parts of one read ahead in any order: near counts as in order.
        in_order = abs(offset - progress.end) <= 2 * size
        if (not in_order or not self._room) and self._at(node, offset) is None:
            progress.end, progress.ahead = offset + size, 1
            return await self.fetch(node, offset, size)
        progress.end = max(progress.end, offset + size)
        parts = []
        while size:
            piece = await asyncio.shield(self._want(node, offset))
            inside = offset % MOST_READ
            part = memoryview(piece)[inside : inside + size]
            self._look_ahead(node, offset, progress)
            parts.append(part)
            offset += len(part)
            size -= len(part)
            if not part or (len(piece) < MOST_READ and inside + len(part) >= len(piece)):
                break
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _key(self, node: Node, offset: int) -> tuple[int, int, int]:
        return node.number, node.version, offset // MOST_READ

    def _at(self, node: Node, offset: int) -> asyncio.Task[bytes] | None:
        return self._pieces.get(self._key(node, offset))

    def _want(self, node: Node, offset: int) -> asyncio.Task[bytes]:
        key = self._key(node, offset)
        task = self._pieces.get(key)
        if task is None or (task.done() and (task.cancelled() or task.exception())):
            task = asyncio.ensure_future(self._piece(node, key))
            self._pieces[key] = task
            while len(self._pieces) > MOST_KEPT:
                self._drop_one()
        return task

    def _drop_one(self) -> None:
        """The oldest that lies behind its reader; else the one that is needed last."""

        def distance(key: tuple[int, int, int]) -> int:
            progress = self._progress.get(key[0])
            return key[2] - progress.end // MOST_READ if progress else -1

        behind = next((key for key in self._pieces if distance(key) < 0), None)
        del self._pieces[max(self._pieces, key=distance) if behind is None else behind]

    async def _piece(self, node: Node, key: tuple[int, int, int]) -> bytes:
        try:
            piece = await self.fetch(node, key[2] * MOST_READ, MOST_READ)
        except BaseException:
            self._pieces.pop(key, None)
            raise
        if len(piece) < MOST_READ and not node.watched:
            self._pieces.pop(key, None)  # its end may be elsewhere by the next read
        return piece

    def _look_ahead(self, node: Node, offset: int, progress: _Progress) -> None:
        """Ask for what comes next, twice as much each time, and drop what lies behind."""
        size, room = node.attr.size, self._room
        first = offset // MOST_READ + 1
        if (room and offset % MOST_READ >= MOST_READ // 4) or progress.ahead > 1:
            progress.ahead = max(1, min(room, progress.ahead * 2))
        for number in range(first, first + min(room, progress.ahead)):
            if number * MOST_READ < size and (node.number, node.version, number) not in self._pieces:
                self._want(node, number * MOST_READ).add_done_callback(_seen)
        self._pieces.pop((node.number, node.version, first - 4), None)

    def forget(self, node: Node) -> None:
        """The file is closed or has changed."""
        self._progress.pop(node.number, None)
        for key in [k for k in self._pieces if k[0] == node.number]:
            del self._pieces[key]


def _seen(task: asyncio.Task[bytes]) -> None:
    """A piece nobody waited for may fail; the read that needs it asks again and says why."""
    if not task.cancelled():
        task.exception()
