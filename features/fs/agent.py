"""The agent's half of `fs`: walks, listings and bytes of the target's tree, and news of changes.

Everything that may wait for a disk runs in a bounded pool of threads, so one slow file delays
nobody else. Sizes the layer asks for are bounded here, whatever it says.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import resource
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from pymirror.core.feature import AgentFeature, Target, handles
from pymirror.features.fs import messages as m
from pymirror.features.fs import walk
from pymirror.features.fs.attr import Attr, pack_entry
from pymirror.features.fs.config import Config
from pymirror.features.fs.watch import Watcher

T = TypeVar("T")

THREADS = 16
MOST_HANDLES = 4096


class Agent(AgentFeature):
    """Serves the layer's requests below the target's root."""

    name = "fs"
    Config = Config

    async def start(self, target: Target) -> None:
        self._root = target.root
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="fs")
        self._watcher = Watcher(self._changed)
        self._numbers = itertools.count(1)
        self._held: OrderedDict[int, int] = OrderedDict()
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = min(MOST_HANDLES, max(16, soft // 2))

    async def aclose(self) -> None:
        if not hasattr(self, "_pool"):
            return
        self._watcher.close()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for fd in self._held.values():
            os.close(fd)
        self._held.clear()

    async def _away(self, work: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *args)

    def _changed(self, paths: list[bytes], entries: list[bytes], lost: bool) -> None:
        self.peer.send(m.Changed(paths, entries, lost))

    @handles(m.Fetch)
    async def fetch(self, asked: m.Fetch) -> m.Fetched:
        reply, fd = await self._away(self._fetch, asked)
        return self._hold(reply, fd)

    def _fetch(self, asked: m.Fetch) -> tuple[m.Fetched, int]:
        code, missing, data, held = 0, b"", b"", -1
        with walk.walking(self._root, self._watcher.watch) as way:
            try:
                last = way.to(asked.path, asked.follow)
                if last.attr.is_file and asked.inline:
                    held = walk.reopen(last)
                    # Watched before it is looked at: what changes from here on is told.
                    last.watched = self._watcher.watch(held, last.path, last.attr.dev)
                    last.attr = Attr.of(os.fstat(held))
                    data = walk.read(held, 0, min(asked.inline, m.MOST_INLINE))
            except OSError as error:
                code, missing = error.errno or errno.EIO, getattr(error, "missing", b"")
            steps = [m.Step(s.path, s.attr.pack(), s.link, s.watched) for s in way.spots]
        return m.Fetched(steps, code, missing, 0, data), held

    def _hold(self, reply: m.Fetched, fd: int) -> m.Fetched:
        if fd < 0:
            return reply
        number = next(self._numbers)
        self._held[number] = fd
        while len(self._held) > self._most:
            os.close(self._held.popitem(last=False)[1])  # the layer fetches it again when it needs it
        return m.Fetched(reply.steps, reply.errno, reply.missing, number, reply.data)

    def _handle(self, number: int) -> int:
        fd = self._held.get(number)
        if fd is None:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        self._held.move_to_end(number)
        # A duplicate, so that the pool's thread never reads from a number that was closed and used again.
        return os.dup(fd)

    @handles(m.Read)
    async def read(self, asked: m.Read) -> m.Data:
        if asked.offset < 0 or not 0 <= asked.size <= m.MOST_READ:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return m.Data(await self._away(self._read, self._handle(asked.handle), asked.offset, asked.size))

    @staticmethod
    def _read(fd: int, offset: int, size: int) -> bytes:
        try:
            return walk.read(fd, offset, size)
        finally:
            os.close(fd)

    @handles(m.Refresh)
    async def refresh(self, asked: m.Refresh) -> m.Refreshed:
        fd = self._handle(asked.handle)
        try:
            return m.Refreshed(Attr.of(await self._away(os.fstat, fd)).pack())
        finally:
            os.close(fd)

    @handles(m.Release)
    async def release(self, asked: m.Release) -> None:
        for number in asked.handles:
            fd = self._held.pop(number, None)
            if fd is not None:
                os.close(fd)

    @handles(m.List)
    async def list(self, asked: m.List) -> m.Listed:
        return await self._away(self._list, asked)

    def _list(self, asked: m.List) -> m.Listed:
        with walk.walking(self._root, self._watcher.watch) as way:
            last = way.to(asked.path, follow=False)
            if not last.attr.is_dir:
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            folder = walk.reopen(last)
            try:
                found = walk.entries(folder, last.path, self._watcher.watch)
            finally:
                os.close(folder)
            chosen = found[max(0, asked.start) : max(0, asked.start) + m.MOST_ENTRIES]
            packed = b"".join(pack_entry(*entry) for entry in chosen)
            more = max(0, asked.start) + len(chosen) < len(found)
            return m.Listed(last.attr.pack(), last.watched, packed, len(chosen), more)

    @handles(m.StatFs)
    async def statfs(self, asked: m.StatFs) -> m.StatFsAnswer:
        return await self._away(self._statfs, asked.path)

    def _statfs(self, path: bytes) -> m.StatFsAnswer:
        with walk.walking(self._root, self._watcher.watch) as way:
            st = os.fstatvfs(way.to(path, follow=True).fd)
        return m.StatFsAnswer(
            [
                st.f_blocks,
                st.f_bfree,
                st.f_bavail,
                st.f_files,
                st.f_ffree,
                st.f_bsize,
                st.f_namemax,
                st.f_frsize,
            ]
        )
