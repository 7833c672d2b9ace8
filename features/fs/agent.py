"""The agent's half of `fs`: walks, listings and bytes of the target's tree, and news of changes.

What the kernel has in memory is answered at once, in the event loop. Everything that may wait for a
disk runs in a bounded pool of threads, so one slow file delays nobody else. Sizes the layer asks for
are bounded here, whatever it says.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import resource
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import attrs
from attrs import field, frozen

from pymirror.core.errors import ChannelLost
from pymirror.core.feature import Target, handles
from pymirror.features.fs import messages as m
from pymirror.features.fs import walk
from pymirror.features.fs.attr import Attr, pack_entry
from pymirror.features.fs.away import Away
from pymirror.features.fs.config import Config
from pymirror.features.fs.locking import Locking
from pymirror.features.fs.mounts import Mounts
from pymirror.features.fs.owner import owner_of
from pymirror.features.fs.watch import MOST_FOLDERS, Watcher
from pymirror.features.fs.watched import Watched
from pymirror.features.fs.writing import step

T = TypeVar("T")

THREADS = 16
MOST_HANDLES = 4096
MOST_CURSORS = 8
DAC_RIGHTS = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
MOST_PART = 4 << 20
"""Bytes of one part of a listing: all of what 20,000 usual names need, half of what may be sent."""
MOST_NEWS = 1 << 20
"""Bytes of paths in one `Changed`; above it is cheaper for both sides to forget everything."""


@frozen
class _Found:
    """What a walk brought: the reply, the file to hold (-1: none), the last folder on the way."""

    reply: m.Fetched
    held: int = -1
    folder: tuple[bytes, int] | None = None

    def close(self) -> None:
        for fd in (self.held, self.folder[1] if self.folder else -1):
            if fd >= 0:
                os.close(fd)


@frozen
class _Rest:
    """Entries of a listing that were not sent yet, packed."""

    watched: bool
    entries: list[bytes] = field(repr=False)


class Agent(Locking):
    """Serves the layer's requests below the target's root."""

    name = "fs"
    Config = Config

    async def start(self, target: Target) -> None:
        self._root = target.root
        self._away = Away(THREADS, "fs")
        self._most, folders = shares(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        self._most_open = self._most // 2  # together three quarters of its descriptors
        self._watcher = Watcher(self._changed, most_folders=folders)
        self._watched = Watched(self._happened)
        self._mounts = Mounts(target.pid, self._watcher.forget_all)
        self._view = walk.View(
            self._watcher.watch,
            self._mounts.apart,
            self._mounts.quick,
            self._watcher.in_memory,
            self._watcher.crossed,
        )
        self._calm_view = attrs.evolve(self._view, calm=True)
        self._numbers = itertools.count(1)
        self._held: OrderedDict[int, int] = OrderedDict()
        self._cursors: OrderedDict[int, _Rest] = OrderedDict()
        self._telling: asyncio.Task[None] | None = None
        self._start_writing(target)
        self._untold = False  # events that the layer did not take

    async def aclose(self) -> None:
        if not hasattr(self, "_away"):
            return
        self._watched.close()
        self._watcher.close()
        self._mounts.close()
        if self._telling is not None:
            self._telling.cancel()
        self._away.close()
        self._close_writing()
        for fd in self._held.values():
            os.close(fd)
        self._held.clear()

    # News -----------------------------------------------------------------------------------

    def _changed(self, paths: list[bytes], below: list[bytes], lost: bool) -> None:
        if self._telling is not None:  # the layer does not keep up: it will be told of everything at once
            return
        self._turn += 1
        try:
            self.peer.send(news(paths, below, lost, self._turn))
        except BlockingIOError:
            self._telling = asyncio.get_running_loop().create_task(self._tell_all_later())
        except ChannelLost:
            return  # nobody is left to be told; the session ends by itself

    async def _tell_all_later(self) -> None:
        await self.peer.drained()
        self._telling = None
        self._changed([], [], True)

    # What programs watch --------------------------------------------------------------------

    @handles(m.Watch)
    async def watch(self, asked: m.Watch) -> m.Watched:
        return await self._away(self._watch, asked)

    def _watch(self, asked: m.Watch) -> m.Watched:
        with walk.walking(self._root, self._view) as way:
            last = way.to(asked.path, follow=False)
            return m.Watched(self._watched.add(last.fd, asked.number), last.attr.is_dir)

    @handles(m.Unwatch)
    def unwatch(self, asked: m.Unwatch) -> None:
        self._watched.remove(asked.numbers)

    def _happened(self, events: list[m.Event], lost: bool) -> None:
        """What caches must forget first: who hears of a change looks for it."""
        self._watcher.tell_now()
        try:
            self.peer.send(m.Happened(events, lost or self._untold))
            self._untold = False
        except BlockingIOError:
            self._untold = True
        except ChannelLost:
            return

    @handles(m.AskPlace)
    def place(self, _: m.AskPlace) -> m.Place:
        reader, writer = owner_of(0), self._owner
        return m.Place(
            self._mounts.volumes(),
            reader.uid,
            [reader.gid, *reader.groups],
            bool(reader.rights & DAC_RIGHTS),
            writer.uid,
            [writer.gid, *writer.groups],
            writer.overrides and reader.overrides,  # a thread that writes has no right that the agent has not
            self._cannot_write,
        )

    # Names ----------------------------------------------------------------------------------

    @handles(m.Fetch)
    def fetch(self, asked: m.Fetch) -> m.Fetched | Awaitable[m.Fetched]:
        turn, base = self._watcher.turns, self._watcher.folder(asked.base)
        try:
            return self._take(self._fetch(asked, base, self._calm_view), turn)
        except walk.NotCalm:
            return self._fetch_away(asked, base, turn)

    async def _fetch_away(self, asked: m.Fetch, base: int, turn: int) -> m.Fetched:
        def work(own: int = -1) -> _Found:
            return self._fetch(asked, own, self._view)

        if base < 0:
            return self._take(await self._away(work, lost=_Found.close), turn)
        return self._take(await self._away.on(base, work, lost=_Found.close), turn)

    def _take(self, found: _Found, turn: int) -> m.Fetched:
        """Keep what a walk brought that was begun at `turn`; the reply."""
        if found.folder is not None:
            self._watcher.keep_folder(*found.folder, turn)
        if found.held < 0:
            return found.reply
        number = next(self._numbers)
        self._held[number] = found.held
        while len(self._held) > self._most:
            os.close(self._held.popitem(last=False)[1])  # the layer fetches it again when it needs it
        reply = found.reply
        return m.Fetched(reply.steps, reply.errno, reply.missing, number, reply.data)

    def _fetch(self, asked: m.Fetch, base: int, view: walk.View) -> _Found:
        try:
            if base >= 0:
                return self._walked(asked, asked.path, view, base)
        except walk.LeftBase:
            pass  # as if nothing were known
        return self._walked(asked, asked.base + b"/" + asked.path, view)

    def _walked(self, asked: m.Fetch, path: bytes, view: walk.View, base: int = -1) -> _Found:
        code, missing, data, held = 0, b"", b"", -1
        with walk.walking(self._root, view, base, asked.base) as way:
            try:
                last = way.to(path, asked.follow)
                if last.attr.is_file and asked.inline:
                    last.watch_itself(view)
                    held = walk.reopen(last)
                    data = _beginning(held, last, asked.inline, view)
            except OSError as error:
                code, missing = error.errno or errno.EIO, getattr(error, "missing", b"")
            except BaseException:
                if held >= 0:
                    os.close(held)
                raise
            steps = [step(spot) for spot in way.spots]
            return _Found(m.Fetched(steps, code, missing, 0, data), held, _last_folder(way))

    # Held files -----------------------------------------------------------------------------

    def _handle(self, number: int) -> int:
        if (written := self._open.get(number)) is not None:
            return written.fd
        fd = self._held.get(number)
        if fd is None:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        self._held.move_to_end(number)
        return fd

    @handles(m.Read)
    async def read(self, asked: m.Read) -> m.Data:
        if asked.offset < 0 or not 0 <= asked.size <= m.MOST_READ:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return m.Data(await self._away.on(self._handle(asked.handle), walk.read, asked.offset, asked.size))

    @handles(m.Refresh)
    async def refresh(self, asked: m.Refresh) -> m.Refreshed:
        return m.Refreshed(Attr.of(await self._away.on(self._handle(asked.handle), os.fstat)).pack())

    @handles(m.Release)
    def release(self, asked: m.Release) -> None:
        for number in asked.handles:
            if self._closed(number):
                continue
            fd = self._held.pop(number, None)
            if fd is not None:
                os.close(fd)

    # Folders --------------------------------------------------------------------------------

    @handles(m.List)
    async def list(self, asked: m.List) -> m.Listed:
        if asked.cursor:
            rest = self._cursors.pop(asked.cursor, None)
            if rest is None:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            return self._part(rest)
        return self._part(await self._away(self._list, asked.path))

    def _part(self, rest: _Rest) -> m.Listed:
        most = fitting([len(entry) for entry in rest.entries[: m.MOST_ENTRIES]], MOST_PART)
        now, later = rest.entries[:most], rest.entries[most:]
        cursor = 0
        if later:
            cursor = next(self._numbers)
            self._cursors[cursor] = _Rest(rest.watched, later)
            if len(self._cursors) > MOST_CURSORS:
                self._cursors.popitem(last=False)
        return m.Listed(rest.watched, b"".join(now), len(now), cursor)

    def _list(self, path: bytes) -> _Rest:
        with walk.walking(self._root, self._view) as way:
            last = way.to(path, follow=False)
            if not last.attr.is_dir:
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            folder = walk.reopen(last)
            try:
                found = walk.entries(folder, last, self._view)
            finally:
                os.close(folder)
            return _Rest(last.watched, [pack_entry(*entry) for entry in found])

    # Extended attributes --------------------------------------------------------------------

    @handles(m.GetXattr)
    async def xattr(self, asked: m.GetXattr) -> m.Xattr:
        if asked.handle:
            return m.Xattr(await self._away.on(self._handle(asked.handle), walk.xattr, asked.name))
        return m.Xattr(await self._away(self._at, asked.path, walk.xattr, asked.name))

    @handles(m.ListXattr)
    async def xattrs(self, asked: m.ListXattr) -> m.Xattr:
        if asked.handle:
            return m.Xattr(await self._away.on(self._handle(asked.handle), walk.xattrs))
        return m.Xattr(await self._away(self._at, asked.path, walk.xattrs))

    def _at(self, path: bytes, work: Callable[..., T], *args: Any) -> T:
        """`work(fd, …)` of what is there."""
        with walk.walking(self._root, self._view) as way:
            return work(way.to(path, follow=False).fd, *args)

    @handles(m.StatFs)
    async def statfs(self, asked: m.StatFs) -> m.StatFsAnswer:
        return await self._away(self._statfs, asked.path)

    def _statfs(self, path: bytes) -> m.StatFsAnswer:
        with walk.walking(self._root, self._view) as way:
            st = os.fstatvfs(way.to(path, follow=True).fd)
        numbers = (st.f_blocks, st.f_bfree, st.f_bavail, st.f_files, st.f_ffree, st.f_bsize, st.f_namemax)
        return m.StatFsAnswer([*numbers, st.f_frsize])


def shares(limit: int) -> tuple[int, int]:
    """Files and folders held open at most by a process that may have `limit` descriptors.

    The rest is for walks, which hold every folder on their way, and for what others in it need.
    """
    if limit == resource.RLIM_INFINITY:
        return MOST_HANDLES, MOST_FOLDERS
    return max(16, min(MOST_HANDLES, limit // 2)), max(16, min(MOST_FOLDERS, limit // 8))


def news(paths: list[bytes], below: list[bytes], lost: bool, turn: int) -> m.Changed:
    """What is told of a change: that everything may be different, when all of it were too much."""
    if lost or sum(map(len, paths)) + sum(map(len, below)) > MOST_NEWS:
        return m.Changed([], [], True, turn)
    return m.Changed(paths, below, False, turn)


def fitting(sizes: list[int], most: int) -> int:
    """How many of `sizes`, in order, make at most `most` together; one always goes."""
    within = sum(1 for total in itertools.accumulate(sizes) if total <= most)
    return max(1, within)


def _beginning(held: int, last: walk.Spot, inline: int, view: walk.View) -> bytes:
    """The file's first bytes, read after it was watched: what changes from here on is told.

    None when they cannot be read: it is open, and a read of it says what is wrong.
    """
    size = min(inline, m.MOST_INLINE)
    try:
        last.attr = Attr.of(os.fstat(held))
        return walk.read_calmly(held, 0, size, last.attr, view) if view.calm else walk.read(held, 0, size)
    except OSError:
        return b""


def _last_folder(way: walk.Walk) -> tuple[bytes, int] | None:
    """The last watched folder on the way and its descriptor, the caller's."""
    for spot in reversed(way.spots):
        if spot.attr.is_dir and spot.watched:
            return spot.path, spot.give()
    return None
