"""What programs write, on its way: taken at once, sent in large pieces, errors kept for who asks.

Bytes that follow each other are one piece. A piece leaves when it is full, when it is old, or when somebody
must know; several of a file are under way at once, but for those that overlap or are appended, by whichever
descriptor: they follow each other. What is on its way is bounded, for a file and for all: then a write waits,
without an error.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from attrs import define, field

from pymirror.features.fs import messages as m
from pymirror.features.fs.cache import Node
from pymirror.features.fs.questions import Questions

log = logging.getLogger("pymirror.fs")

AGE = 0.004
"""Seconds that a piece waits for more of it."""
MOST_OF_FILE = 8 << 20
MOST = 64 << 20
"""Bytes on their way."""


class Range(NamedTuple):
    """Where bytes go; append: to the end, wherever that is by then."""

    begin: int
    end: int
    append: bool

    def meets(self, other: Range) -> bool:
        """Does it matter which of both comes first?"""
        return self.append or other.append or (self.begin < other.end and other.begin < self.end)


@define(eq=False)
class _Failed:
    """What pieces of a file failed with, the last time; number: counts. told: somebody knows."""

    number: int
    code: int
    told: bool = False


@define(eq=False)
class File:
    """One open for writing. number: the kernel's handle; handle: the agent's. synced: O_SYNC or O_DSYNC.

    lasting: as `Done` has it. changed: something was written. told: the number of the last failure that it
    need not be told; as errseq_t does it.
    """

    number: int
    node: Node
    handle: int
    lasting: bool
    synced: bool
    told: int = 0
    changed: bool = False
    size: int = 0
    """Bytes on their way."""
    piece: bytearray = field(factory=bytearray, init=False)
    piece_number: int = field(default=0, init=False)
    at: int = field(default=0, init=False)
    append: bool = field(default=False, init=False)
    flying: dict[int, Range] = field(factory=dict, init=False)
    """Number of a piece → where its bytes go."""
    timer: asyncio.TimerHandle | None = field(default=None, init=False)


class Writes:
    """All files that are open for writing."""

    def __init__(self, questions: Questions) -> None:
        self._questions = questions
        self._loop = asyncio.get_running_loop()
        self._files: dict[int, File] = {}
        self._of: dict[int, list[File]] = {}  # by their node's number, as all that follows
        self._failed: dict[int, _Failed] = {}
        self._waiting: dict[int, list[asyncio.Future[None]]] = {}
        self._size = 0
        self._next = 1
        self._pieces = 0

    # Files ----------------------------------------------------------------------------------

    def open(self, node: Node, handle: int, lasting: bool, synced: bool) -> File:
        file = File(self._next, node, handle, lasting, synced)
        if (failed := self._failed.get(node.number)) is not None and failed.told:
            file.told = failed.number
        self._next += 1
        self._files[file.number] = file
        self._of.setdefault(node.number, []).append(file)
        return file

    def get(self, number: int) -> File | None:
        """None: a handle of reading."""
        return self._files.get(number)

    def of(self, node: Node) -> File | None:
        """Any that is open on the node."""
        files = self._of.get(node.number)
        return files[0] if files else None

    def pending(self, node: Node) -> bool:
        """Is anything of it on its way?"""
        return any(file.size for file in self._of.get(node.number, ()))

    def closed(self, file: File) -> None:
        del self._files[file.number]
        files = self._of[file.node.number]
        files.remove(file)
        if not files:
            del self._of[file.node.number]
            self._last_closed(file.node)

    def _last_closed(self, node: Node) -> None:
        if code := self.untold(node):
            log.warning("%s: not all that was written arrived: %s", os.fsdecode(node.path), os.strerror(code))
        self._failed.pop(node.number, None)

    # Bytes ----------------------------------------------------------------------------------

    def put(self, file: File, offset: int, data: memoryview | bytes, append: bool) -> bool:
        """Take them. False: there is no room now; try again after `progress`."""
        if not self._has_room(file, len(data)):
            self._leave(file)
            return False
        if file.piece and not self._follows(file, offset, len(data), append):
            self._leave(file)
            if file.piece:
                return False
        if self._after_others(file, Range(offset, offset + len(data), append)):
            return False
        if not file.piece:
            self._pieces += 1
            file.piece_number, file.at, file.append = self._pieces, offset, append
        file.piece += data
        file.size += len(data)
        self._size += len(data)
        self._questions.written(file.node)
        if len(file.piece) >= m.MOST_WRITE:
            self._leave(file)
        elif file.timer is None:
            file.timer = self._loop.call_later(AGE, self._leave, file)
        return True

    def _has_room(self, file: File, size: int) -> bool:
        """One that is alone always has."""
        own = not file.size or file.size + size <= MOST_OF_FILE
        return own and (not self._size or self._size + size <= MOST)

    def _after_others(self, file: File, place: Range) -> bool:
        """Is something under way by another descriptor that has to be there first? It is sent, then."""
        for other in self._of[file.node.number]:
            if other is not file and other.size:
                self._leave(other)
                if other.piece or any(place.meets(flying) for flying in other.flying.values()):
                    return True
        return False

    @staticmethod
    def _follows(file: File, offset: int, size: int, append: bool) -> bool:
        fits = len(file.piece) + size <= m.MOST_WRITE and append == file.append
        return fits and (append or offset == file.at + len(file.piece))

    def _leave(self, file: File) -> None:
        """Send the piece, unless it has to wait for those under way."""
        if file.timer is not None:
            file.timer.cancel()
            file.timer = None
        if not file.piece:
            return
        place = Range(file.at, file.at + len(file.piece), file.append)
        if any(place.meets(flying) for flying in file.flying.values()):
            file.timer = self._loop.call_later(AGE, self._leave, file)
            return
        data, file.piece = bytes(file.piece), bytearray()
        file.flying[file.piece_number] = place
        try:
            asked = self._questions.ask(m.Write(file.handle, place.begin, data, file.append))
        except Exception as error:
            asked = self._loop.create_future()
            asked.set_exception(error)
        asked.add_done_callback(partial(self._arrived, file, file.piece_number))

    def _arrived(self, file: File, piece: int, asked: asyncio.Future[m.Refreshed]) -> None:
        place = file.flying.pop(piece)
        file.size -= place.end - place.begin
        self._size -= place.end - place.begin
        try:
            self._questions.learn_attr(file.node, asked.result())
        except asyncio.CancelledError:
            self._fail(file.node, errno.EIO)
        except Exception as error:
            self._fail(file.node, getattr(error, "errno", None) or errno.EIO)
            log.debug("a piece of %r was not written: %s", file.node.path, error)
        if file.piece and file.append:
            self._leave(file)
        for waiter in self._waiting.pop(file.node.number, ()):
            _done(waiter)

    def _fail(self, node: Node, code: int) -> None:
        """The first error that nobody was told of stays."""
        failed = self._failed.get(node.number)
        if failed is None or failed.told:
            self._failed[node.number] = _Failed(failed.number + 1 if failed else 1, code)

    def progress(self, file: File) -> asyncio.Future[None]:
        """Something of it has arrived, by whichever descriptor."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        if self.pending(file.node):
            self._waiting.setdefault(file.node.number, []).append(waiter)
        else:  # what is in the way is other files'
            self._loop.call_later(AGE, _done, waiter)
        return waiter

    # Who must know --------------------------------------------------------------------------

    async def settle(self, file: File) -> None:
        """All that was written until now has arrived, or failed."""
        last = self._pieces

        def missing() -> bool:
            return (bool(file.piece) and file.piece_number <= last) or any(n <= last for n in file.flying)

        while missing():
            self._leave(file)
            if missing():
                await self.progress(file)

    async def settle_all(self, node: Node) -> None:
        """The same for all that is open on a file."""
        for file in [*self._of.get(node.number, ())]:
            await self.settle(file)

    def failing(self, file: File) -> bool:
        """Is there something that it must be told?"""
        failed = self._failed.get(file.node.number)
        return failed is not None and failed.number > file.told

    def untold(self, node: Node) -> int:
        """The errno that nobody was told of; 0: none."""
        failed = self._failed.get(node.number)
        return 0 if failed is None or failed.told else failed.code

    def raised(self, file: File) -> None:
        """OSError: what failed and was not told to this descriptor, by whichever it was written."""
        failed = self._failed.get(file.node.number)
        if failed is not None and self.failing(file):
            file.told, failed.told = failed.number, True
            raise OSError(failed.code, os.strerror(failed.code))

    def files(self) -> Iterator[File]:
        return iter([*self._files.values()])


def _done(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
