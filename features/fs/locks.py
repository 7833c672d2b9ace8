"""Locks on files of the target, `fcntl`'s and `flock`'s: taken in the target, for whom the kernel here names.

What was written under a lock is there before it is let go, and who gets one sees what others did under it.
Who waits for one waits in the agent, by turns; a signal ends that, unless he has got it meanwhile.
A process's locks end as it closes the file (FLUSH), an open file's with it (RELEASE). Reading opens leave
FLUSH out as long as nobody has locked the file, so what was locked through one ends with it at the latest.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import logging
import os
from collections.abc import Awaitable, Callable

from attrs import define, field

from pymirror.core.errors import PymirrorError
from pymirror.features.fs import fuse
from pymirror.features.fs import fuse_changes as fc
from pymirror.features.fs import lock_messages as lm
from pymirror.features.fs.cache import Node
from pymirror.features.fs.questions import Questions
from pymirror.features.fs.ranges import NONE
from pymirror.features.fs.written import Writes

log = logging.getLogger("pymirror.fs")

MOST_HOLDERS = 1024
TURN = 2.0
"""Seconds that the agent is asked to wait at once."""
FIRST_HANDLE = 1 << 32
"""Of reading opens, which have none of written.py's."""


@define(eq=False)
class Holder:
    """number: the agent's. by: handles through which he has locked something."""

    number: int
    node: int
    owner: int
    whole: bool
    by: set[int] = field(factory=set)


@define(eq=False)
class _Wait:
    """number: the agent's. stop: nobody waits any more."""

    number: int
    stop: bool = False


class Locks:
    """current(node): when all news until now has reached the kernel, and nothing older is kept of it."""

    def __init__(
        self, questions: Questions, writes: Writes, current: Callable[[Node], Awaitable[None]]
    ) -> None:
        self._questions, self._writes, self._current = questions, writes, current
        self._loop = asyncio.get_running_loop()
        self._holders: dict[int, dict[tuple[int, bool], Holder]] = {}  # by their node's number
        self._count = 0
        self._numbers = itertools.count(1)
        self._handles = itertools.count(FIRST_HANDLE)
        self._ending: dict[int, set[asyncio.Task[None]]] = {}

    def handle(self) -> int:
        """For a reading open: what is locked through it is told by this number."""
        return next(self._handles)

    def any_of(self, node: Node) -> bool:
        """Has somebody locked something of it?"""
        return node.number in self._holders

    # Taking ---------------------------------------------------------------------------------

    def lock(self, node: Node, request: fuse.Request) -> Awaitable[bytes]:
        asked = fc.locking(request.body)
        if request.opcode == fuse.GETLK:
            return self._ask(node, asked)
        if request.opcode == fuse.SETLKW and asked.kind != NONE:
            return self._wait(node, asked)
        return self._take(node, asked)

    async def _ask(self, node: Node, asked: fc.Locking) -> bytes:
        await self._ended(node)
        holder = self._holders.get(node.number, {}).get((asked.owner, asked.whole))
        handle, _ = await self._held(node, asked.handle)
        number = holder.number if holder else 0
        found: lm.Conflict = await self._questions.ask(
            lm.AskLock(number, handle, asked.kind, asked.start, asked.end)
        )
        return fc.lock_answer(found.start, found.end, found.kind)

    async def _take(self, node: Node, asked: fc.Locking, wait: _Wait | None = None) -> bytes:
        await self._ended(node)
        await self._writes.settle_all(node)
        holder = self._holder(node, asked)
        if holder is None:
            return b""  # nothing is locked that could be unlocked
        try:
            await self._asked(node, holder, asked, wait)
        except OSError as error:
            if error.errno != errno.ESTALE or not node.handle:
                raise
            node.handle = 0  # the agent let it go: it holds so many files at most
            await self._asked(node, holder, asked, wait)
        if asked.kind != NONE:
            await self._current(node)
        return b""

    async def _asked(self, node: Node, holder: Holder, asked: fc.Locking, wait: _Wait | None) -> None:
        handle, changes = (0, False) if asked.kind == NONE else await self._held(node, asked.handle)
        bytes_ = (asked.whole, asked.kind, asked.start, asked.end)
        turn = (TURN, wait.number) if wait and not wait.stop else (0.0, 0)
        await self._questions.ask(lm.Lock(holder.number, handle, changes, *bytes_, *turn))

    async def _wait(self, node: Node, asked: fc.Locking) -> bytes:
        """Taken, or given up (CancelledError): never one and the other said, whenever a signal comes."""
        wait = _Wait(next(self._numbers))
        task = self._loop.create_task(self._turns(node, asked, wait))
        while True:
            try:
                taken = await asyncio.shield(task)
                break
            except asyncio.CancelledError:
                if task.cancelled():
                    raise
                wait.stop = True
                with contextlib.suppress(BlockingIOError, PymirrorError):
                    self._questions.peer.send(lm.GiveUp(wait.number))
        if not taken:
            raise asyncio.CancelledError
        return b""

    async def _turns(self, node: Node, asked: fc.Locking, wait: _Wait) -> bool:
        while True:
            try:
                await self._take(node, asked, wait)
                return True
            except BlockingIOError:
                if wait.stop:
                    return False

    def _holder(self, node: Node, asked: fc.Locking) -> Holder | None:
        held = self._holders.get(node.number, {})
        holder = held.get((asked.owner, asked.whole))
        if holder is None:
            if asked.kind == NONE:
                return None
            if self._count >= MOST_HOLDERS:
                raise _error(errno.ENOLCK)
            self._count += 1
            holder = Holder(next(self._numbers), node.number, asked.owner, asked.whole)
            self._holders.setdefault(node.number, held)[asked.owner, asked.whole] = holder
        holder.by.add(asked.handle)
        return holder

    async def _held(self, node: Node, number: int) -> tuple[int, bool]:
        """A handle of the agent's on the file, and whether it is for writing. OSError."""
        file = self._writes.get(number) or self._writes.of(node)
        return (file.handle, True) if file else (await self._questions.held(node), False)

    async def _ended(self, node: Node) -> None:
        """What was let go until now is free."""
        if ending := self._ending.get(node.number):
            await asyncio.wait(ending)

    # Letting go -----------------------------------------------------------------------------

    def flushed(self, node: int, owner: int) -> list[Holder]:
        """A process has closed the file: whose locks end by that."""
        holder = self._holders.get(node, {}).get((owner, False))
        return [holder] if holder else []

    def released(self, node: int, handle: int, owner: int) -> list[Holder]:
        """An open file's end. owner: of its flock, or 0."""
        held = self._holders.get(node, {}).values()
        return [h for h in held if (handle in h.by and not h.whole) or (h.whole and h.owner == owner)]

    def end(
        self, node: int, holders: list[Holder], first: Awaitable[object] | None = None
    ) -> asyncio.Task[None]:
        """They hold nothing any more, once `first` is done; who wants a lock waits until then."""
        for holder in holders:
            if self._holders.get(node, {}).pop((holder.owner, holder.whole), None) is holder:
                self._count -= 1
        if not self._holders.get(node, True):
            del self._holders[node]
        task = self._loop.create_task(self._end(holders, first))
        ending = self._ending.setdefault(node, set())
        ending.add(task)
        task.add_done_callback(lambda done: self._let_go(node, done))
        return task

    async def _end(self, holders: list[Holder], first: Awaitable[object] | None) -> None:
        try:
            if first is not None:
                await first
        finally:
            try:
                await self._questions.ask(lm.Unlock([holder.number for holder in holders]))
            except (OSError, PymirrorError) as error:
                log.debug("locks were not let go: %s", error)

    def _let_go(self, node: int, done: asyncio.Task[None]) -> None:
        self._ending[node].discard(done)
        if not self._ending[node]:
            del self._ending[node]
        if not done.cancelled():
            done.exception()  # told to who waits for it, if anybody does


def _error(code: int) -> OSError:
    return OSError(code, os.strerror(code))


HANDLED = frozenset({fuse.GETLK, fuse.SETLK, fuse.SETLKW})
