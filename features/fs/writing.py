"""The agent's half of `fs` where it writes: what changes the target's tree, as its first process would.

Each is one system call or two in a thread that has that process's rights (owner.py). What it left behind is
looked at afterwards, once all news from before has been told: so an answer and the news say which is younger.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

from attrs import define, field

from pymirror.core.feature import AgentFeature, Target, handles
from pymirror.features.fs import alter, walk
from pymirror.features.fs import messages as m
from pymirror.features.fs.attr import Attr
from pymirror.features.fs.away import Away
from pymirror.features.fs.cache import folder_of
from pymirror.features.fs.config import Config
from pymirror.features.fs.owner import Owner, owner_of, put_on
from pymirror.features.fs.watch import Watcher

T = TypeVar("T")

WRITERS = 8


@define(eq=False)
class _File:
    """One that is open for writing. order: its writes, one after the other, and its close after them.

    lasting: on a file system of this machine: a close says nothing new, and its attributes are at hand.
    """

    fd: int
    lasting: bool
    order: asyncio.Lock = field(factory=asyncio.Lock)


class Writing(AgentFeature):
    """What `Agent` has for changes; the first of these are its own."""

    config: Config
    _root: int
    _watcher: Watcher
    _view: walk.View
    _calm_view: walk.View
    _numbers: itertools.count[int]
    _away: Away
    _handle: Callable[[int], int]
    _changed: Callable[[list[bytes], list[bytes], bool], None]
    _turn = 0
    """How often news was told."""
    _most_open: int

    def _start_writing(self, target: Target) -> None:
        self._open: dict[int, _File] = {}
        self._cannot_write = "" if self.config.writes else "the session's configuration does not let it"
        self._owner = self.config.owner_of(owner_of(target.pid))
        if not self._cannot_write:
            self._cannot_write = _tried(self._owner)
        self._writers = Away(WRITERS, "fs-write", partial(put_on, self._owner))
        self._closing: set[asyncio.Task[None]] = set()

    def _close_writing(self) -> None:
        if hasattr(self, "_writers"):
            self._writers.close()
            for file in self._open.values():
                os.close(file.fd)
            self._open.clear()

    def _may_write(self) -> None:
        if self._cannot_write:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    # Names and attributes -------------------------------------------------------------------

    async def _change(
        self, paths: list[bytes], work: Callable[[], T], lost: Callable[[T], None] | None = None
    ) -> T:
        """`work()`, as the owner; the news of it is not told where `paths`, looked at next, tell as much."""
        self._may_write()
        touched = {*paths, *map(folder_of, paths)}
        self._watcher.hold(touched)
        try:
            done = await self._writers(work, lost=lost)
        except BaseException:
            self._watcher.let_go(touched, tell=True)
            raise
        self._watcher.let_go(touched, tell=False)
        return done

    async def _look(self, *paths: bytes) -> m.Done:
        turn = self._turn
        with contextlib.suppress(walk.NotCalm):
            return self._looked(paths, self._calm_view, turn)
        try:
            return await self._away(self._looked, paths, self._view, 0)  # any news is younger
        except BaseException:
            self._changed(list(paths), list(paths), False)  # nobody else tells of it
            raise

    def _looked(self, paths: Iterable[bytes], view: walk.View, turn: int) -> m.Done:
        steps: dict[bytes, m.Step] = {}
        gone, empty = [], False
        for path in paths:
            base = self._watcher.folder(folder_of(path)) if view.calm else -1
            with walk.walking(self._root, view, base, folder_of(path)) as way:
                try:
                    last = way.to(path.rpartition(b"/")[2] if base >= 0 else path, follow=False)
                    empty = _is_empty(last)
                except walk.WalkFailed as error:
                    if error.errno != errno.ENOENT:
                        continue
                    gone.append(error.missing)
                spots = [way.start, *way.spots] if base >= 0 else way.spots
                steps.update((spot.path, step(spot)) for spot in spots)
        return m.Done(list(steps.values()), gone, turn, empty=empty)

    @handles(m.Make)
    async def make(self, asked: m.Make) -> m.Done:
        await self._change([asked.path], partial(alter.make, self._root, asked))
        return await self._look(asked.path)

    @handles(m.Link)
    async def link(self, asked: m.Link) -> m.Done:
        if asked.handle:
            file = self._file(asked.handle)
            await self._writers.on(file.fd, alter.link_open, self._root, asked)
            return await self._look(asked.new)
        both = [asked.old, asked.new]
        await self._change(both, partial(alter.link, self._root, asked))
        return await self._look(*both)

    @handles(m.Remove)
    async def remove(self, asked: m.Remove) -> m.Done:
        await self._change([asked.path], partial(alter.remove, self._root, asked))
        self._watcher.forget([asked.path], folders=False)  # a folder that can be removed is empty
        return await self._look(asked.path)

    @handles(m.Rename)
    async def rename(self, asked: m.Rename) -> m.Done:
        both = [asked.old, asked.new]
        folder = await self._change(both, partial(alter.rename, self._root, asked))
        moves = [(asked.old, asked.new)]
        if asked.flags & m.EXCHANGE:
            moves = [(asked.old, m.ASIDE), (asked.new, asked.old), (m.ASIDE, asked.new)]
        for old, new in moves:
            self._watcher.rename(old, new, folder)
        return await self._look(*both)

    @handles(m.SetAttr)
    async def set_attributes(self, asked: m.SetAttr) -> m.Done | m.Refreshed:
        if asked.handle:
            return await self._on(self._file(asked.handle), alter.set_attributes_of, asked)
        await self._change([asked.path], partial(alter.set_attributes, self._root, asked))
        return await self._look(asked.path)

    @handles(m.SetXattr)
    async def set_xattr(self, asked: m.SetXattr) -> m.Done | m.Refreshed:
        if len(asked.value) > m.MOST_VALUE:
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        return await self._extended(asked, alter.set_xattr)

    @handles(m.RemoveXattr)
    async def remove_xattr(self, asked: m.RemoveXattr) -> m.Done | m.Refreshed:
        return await self._extended(asked, alter.remove_xattr)

    async def _extended(
        self, asked: m.SetXattr | m.RemoveXattr, work: Callable[[int, Any], None]
    ) -> m.Done | m.Refreshed:
        if asked.handle in self._open:
            return await self._on(self._open[asked.handle], work, asked)
        if asked.handle:  # open for reading, and without a name
            return await self._on_held(asked.handle, work, asked)
        await self._change([asked.path], partial(alter.on_path, self._root, asked.path, work, asked))
        return await self._look(asked.path)

    # Open files -----------------------------------------------------------------------------

    def _file(self, number: int) -> _File:
        file = self._open.get(number)
        if file is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return file

    @handles(m.Open)
    async def open(self, asked: m.Open) -> m.Done:
        if len(self._open) >= self._most_open:
            raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))
        nameless = asked.flags & os.O_TMPFILE == os.O_TMPFILE
        paths = [] if nameless else [asked.path]
        fd = await self._change(paths, partial(alter.open_file, self._root, asked), lost=os.close)
        number = next(self._numbers)
        attr = Attr.of(os.fstat(fd))
        self._open[number] = file = _File(fd, self._watcher.tells(fd, attr.dev))
        try:
            done = m.Done([m.Step(b"", attr.pack())], [], self._turn)
            if not nameless:
                done = await self._look(asked.path)
        except BaseException:
            self._closed(number)
            raise
        return m.Done(done.steps, done.gone, done.turn, number, lasting=file.lasting)

    async def _on(self, file: _File, work: Callable[..., object], *args: Any) -> m.Refreshed:
        """`work(fd, …)` as the owner, in the order of this file's writes; its attributes then."""
        self._may_write()
        # Who asked may not wait any more: the thread goes on, and what comes next waits for it.
        await asyncio.shield(self._in_order(file, work, *args))
        self._watcher.tell_now()
        if file.lasting:
            return m.Refreshed(Attr.of(os.fstat(file.fd)).pack(), self._turn)
        return m.Refreshed(Attr.of(await self._writers.on(file.fd, os.fstat)).pack(), 0)

    async def _on_held(self, number: int, work: Callable[..., object], *args: Any) -> m.Refreshed:
        """The same by a descriptor that is held for reading."""
        self._may_write()
        fd = self._handle(number)
        await self._writers.on(fd, work, *args)
        return m.Refreshed(Attr.of(await self._away.on(fd, os.fstat)).pack())

    def _in_order(self, file: _File, work: Callable[..., object], *args: Any) -> asyncio.Task[None]:
        async def ordered() -> None:
            async with file.order:
                await self._writers.on(file.fd, work, *args)

        task = asyncio.get_running_loop().create_task(ordered())
        self._closing.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[None]) -> None:
        self._closing.discard(task)
        if not task.cancelled():
            task.exception()  # who waited was told

    @handles(m.Write)
    async def write(self, asked: m.Write) -> m.Refreshed:
        if asked.offset < 0 or len(asked.data) > m.MOST_WRITE:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return await self._on(self._file(asked.handle), alter.write, asked)

    @handles(m.Sync)
    async def sync(self, asked: m.Sync) -> m.Refreshed:
        file = self._open.get(asked.handle)
        if file is not None:
            return await self._on(file, alter.sync, asked)
        if asked.handle:
            return await self._on_held(asked.handle, alter.sync, asked)
        self._may_write()
        await self._writers(alter.sync_folder, self._root, asked.folder)
        return m.Refreshed(b"")

    @handles(m.Allocate)
    async def allocate(self, asked: m.Allocate) -> m.Refreshed:
        return await self._on(self._file(asked.handle), alter.allocate, asked)

    @handles(m.Seek)
    async def seek(self, asked: m.Seek) -> m.Sought:
        if asked.whence not in (os.SEEK_DATA, os.SEEK_HOLE):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fd = self._handle(asked.handle)
        return m.Sought(await self._away.on(fd, os.lseek, asked.offset, asked.whence))

    def _closed(self, number: int) -> bool:
        """Close it after its last write; False: it is none of these."""
        file = self._open.pop(number, None)
        if file is not None:
            closing = asyncio.get_running_loop().create_task(self._close(file))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        return file is not None

    async def _close(self, file: _File) -> None:
        async with file.order:
            await self._writers(os.close, file.fd)


def step(spot: walk.Spot) -> m.Step:
    """As it is told to the layer."""
    return m.Step(spot.path, spot.attr.pack(), spot.link, spot.watched, spot.extended())


def _is_empty(spot: walk.Spot) -> bool:
    """Is it a folder whose changes are told from now on, with nothing in it?"""
    if not spot.attr.is_dir or not spot.watched:
        return False
    try:
        folder = walk.reopen(spot)
    except OSError:
        return False
    try:
        with os.scandir(folder) as names:
            return next(names, None) is None
    finally:
        os.close(folder)


def _tried(owner: Owner) -> str:
    """Why no thread can be `owner`; empty if one can."""
    failed: list[str] = []

    def work() -> None:
        try:
            put_on(owner)
        except OSError as error:
            failed.append(error.strerror or str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return failed[0] if failed else ""
