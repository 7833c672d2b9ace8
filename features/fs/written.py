"""What programs write, on its way: taken at once, sent in large pieces, errors kept for who asks.

Bytes that follow each other are one piece. A piece leaves when it is full, when it is old, or when somebody
must know; several of a file are under way at once, but for those that overlap or are appended: they follow
each other. What is on its way is bounded, for a file and for all: then a write waits, without an error.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Iterator
from functools import partial

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


@define(eq=False)
class File:
    """One open for writing. number: the kernel's handle; handle: the agent's. synced: O_SYNC or O_DSYNC.

    lasting: as `Done` has it. changed: something was written. error: what a piece failed with, until somebody
    is told; as errseq_t does it.
    """

    number: int
    node: Node
    handle: int
    lasting: bool
    synced: bool
    error: int = 0
    changed: bool = False
    size: int = 0
    """Bytes on their way."""
    piece: bytearray = field(factory=bytearray, init=False)
    piece_number: int = field(default=0, init=False)
    at: int = field(default=0, init=False)
    append: bool = field(default=False, init=False)
    flying: dict[int, tuple[int, int]] = field(
        factory=dict, init=False
    )  # number of a piece → its bytes' range
    timer: asyncio.TimerHandle | None = field(default=None, init=False)
    waiting: list[asyncio.Future[None]] = field(factory=list, init=False)


class Writes:
    """All files that are open for writing."""

    def __init__(self, questions: Questions) -> None:
        self._questions = questions
        self._loop = asyncio.get_running_loop()
        self._files: dict[int, File] = {}
        self._of: dict[int, list[File]] = {}  # by their node's number
        self._size = 0
        self._next = 1
        self._pieces = 0

    # Files ----------------------------------------------------------------------------------

    def open(self, node: Node, handle: int, lasting: bool, synced: bool) -> File:
        file = File(self._next, node, handle, lasting, synced)
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

    # Bytes ----------------------------------------------------------------------------------

    def put(self, file: File, offset: int, data: memoryview | bytes, append: bool) -> bool:
        """Take them. False: there is no room now; try again after `progress`."""
        if file.size + len(data) > max(MOST_OF_FILE, len(data)) or self._size + len(data) > max(
            MOST, len(data)
        ):
            self._leave(file)
            return False
        if file.piece and not self._follows(file, offset, len(data), append):
            self._leave(file)
            if file.piece:
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
        begin, end = file.at, file.at + len(file.piece)
        if file.flying and (file.append or any(b < end and begin < e for b, e in file.flying.values())):
            file.timer = self._loop.call_later(AGE, self._leave, file)
            return
        data, file.piece = bytes(file.piece), bytearray()
        file.flying[file.piece_number] = (begin, end)
        try:
            asked = self._questions.ask(m.Write(file.handle, begin, data, file.append))
        except Exception as error:
            asked = self._loop.create_future()
            asked.set_exception(error)
        asked.add_done_callback(partial(self._arrived, file, file.piece_number))

    def _arrived(self, file: File, piece: int, asked: asyncio.Future[m.Refreshed]) -> None:
        begin, end = file.flying.pop(piece)
        file.size -= end - begin
        self._size -= end - begin
        try:
            self._questions.learn_attr(file.node, asked.result())
        except asyncio.CancelledError:
            file.error = file.error or errno.EIO
        except Exception as error:
            file.error = file.error or getattr(error, "errno", None) or errno.EIO
            log.debug("a piece of %r was not written: %s", file.node.path, error)
        if file.piece and file.append:
            self._leave(file)
        waiting, file.waiting = file.waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def progress(self, file: File) -> asyncio.Future[None]:
        """Something of it has arrived."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        if file.flying or file.piece:
            file.waiting.append(waiter)
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

    def raised(self, file: File) -> None:
        """OSError: what failed since somebody was told."""
        code, file.error = file.error, 0
        if code:
            raise OSError(code, os.strerror(code))

    def files(self) -> Iterator[File]:
        return iter([*self._files.values()])


def _done(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
