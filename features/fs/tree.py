"""The tree: answers the kernel's requests from the cache, or asks the agent and then answers.

It runs in the session's event loop, which therefore never touches the mount.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from pymirror.features.fs import changing, extended, fuse, fuse_changes
from pymirror.features.fs import messages as m
from pymirror.features.fs.access import Identity, W, refusal
from pymirror.features.fs.attr import Attr
from pymirror.features.fs.cache import Node, folder_of, relative_link
from pymirror.features.fs.changing import Changing
from pymirror.features.fs.device import Body, Device
from pymirror.features.fs.folders import Folders
from pymirror.features.fs.locks import HANDLED, Holder, Locks
from pymirror.features.fs.mount import Mount, read_ahead
from pymirror.features.fs.notices import Notices
from pymirror.features.fs.questions import Questions
from pymirror.features.fs.reader import AHEAD, Reader

log = logging.getLogger("pymirror.fs")

END_LIMIT = 5.0
"""Seconds for the kernel to take the last notices, and for tasks to end; both end at once in health."""


class Tree:
    """One mounted tree over the questions to one agent.

    readers, writers: as whom the agent reads and writes. writable: of changing.Changing; None: nothing is.
    """

    def __init__(
        self,
        mount: Mount,
        questions: Questions,
        ahead: bool,
        readers: Identity,
        writers: Identity | None = None,
        writable: Callable[[bytes], bool] = lambda path: False,
    ) -> None:
        self.mount, self.questions, self.cache = mount, questions, questions.cache
        self._readers, self._writers, self._writable = readers, writers, writable
        self._changing = Changing(questions, writable, self._entry, self._dirtied)
        questions.pending = self._changing.writes.pending
        self._locks = Locks(questions, self._changing.writes, self._current)
        self._reader = Reader(questions.read, AHEAD if ahead else 0)
        self._folders = Folders(self._listed_entry)
        self._notices = Notices(mount.device)
        self._closing: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        # A change is over there by the time a signal comes; a write may still wait for room.
        self._device = Device(mount.device, self._begin, _INTERRUPTIBLE, frozenset({fuse.WRITE, fuse.FSYNC}))

    # News from the agent --------------------------------------------------------------------

    def changed(self, news: m.Changed) -> None:
        """Forget what may be different now, here and in the kernel."""
        below = [b"/"] if news.all else news.below
        self.questions.news(news.paths, below, news.all, news.turn)
        for path in news.paths:
            node = self.cache.by_path.get(path)
            if node is not None:
                self._content_changed(node)
        for path in below:
            self._name_changed(path)
        self.questions.send_released()

    def _content_changed(self, node: Node) -> None:
        node.fresh = False
        self._changing.extended.forget(node)
        self.cache.forget_content(node)
        self._reader.forget(node)
        if node.lookups > 0:
            self._notices.content(node.number)

    def _name_changed(self, path: bytes) -> None:
        for inner in (*self.cache.below(path), path):
            node = self.cache.by_path.get(inner)
            if node is not None:
                self._content_changed(node)
            self.cache.doubt_name(inner)
            folder = self.cache.by_path.get(folder_of(inner))
            if folder is not None and folder.lookups > 0 and inner != b"/":
                self._notices.name(folder.number, inner.rpartition(b"/")[2])
        folder = self.cache.by_path.get(folder_of(path))
        if folder is not None:
            self.cache.forget_content(folder)

    async def settled(self) -> None:
        """When the kernel has forgotten what there was news of until now."""
        await self._notices.settled()

    async def _current(self, node: Node) -> None:
        """The same, and of a file whose changes nobody tells nothing is kept."""
        if not node.watched:
            self._content_changed(node)
        await self._notices.settled()

    # The kernel's requests ------------------------------------------------------------------

    def _begin(self, request: fuse.Request) -> Body | Awaitable[Body] | None:
        handler = _HANDLERS.get(request.opcode)
        if handler is not None:
            return handler(self, request)
        change = changing.HANDLERS.get(request.opcode)
        if change is not None:
            return change(self._changing, request)
        about = extended.HANDLERS.get(request.opcode)
        if about is not None:
            return about(self._changing.extended, self._node(request.node), request)
        if request.opcode in HANDLED:
            return self._locks.lock(self._node(request.node), request)
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    def _forget(self, request: fuse.Request) -> None:
        for number, lookups in fuse.forgets(request):
            self.cache.forget(number, lookups)
        self.questions.send_released()

    def _node(self, number: int) -> Node:
        node = self.cache.by_number.get(number)
        if node is None:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return node

    def _init(self, request: fuse.Request) -> bytes:
        self._loop.call_soon(read_ahead, self.mount, m.MOST_READ)
        return fuse.init(request.body, m.MOST_READ, self._writers is not None)

    # Names and attributes -------------------------------------------------------------------

    def _lookup(self, request: fuse.Request) -> bytes | Awaitable[bytes]:
        folder = self._node(request.node)
        path = folder.path.rstrip(b"/") + b"/" + fuse.name_of(request.body)
        node = self.cache.by_path.get(path)
        if node is not None and self._changing.writes.pending(node):
            return self._lookup_there(folder, path, node)
        if node is not None and node.current:
            return self._entry(folder, node, node.attr)
        if node is None and self.cache.is_missing(path):
            return fuse.entry(0, 0, fuse.FOREVER, None)
        return self._lookup_there(folder, path)

    async def _lookup_there(self, folder: Node, path: bytes, written: Node | None = None) -> bytes:
        if written is not None:
            await self._changing.writes.settle_all(written)
        seen = await self.questions.fetch(path, False, 0)
        return self._entry(folder, seen.node, seen.attr)

    def _entry(self, folder: Node, node: Node, attr: Attr) -> bytes:
        shown = fuse.entry(node.number, 1, self._valid(node, attr) if folder.watched else 0, attr)
        self.cache.told(node)
        return shown

    @staticmethod
    def _valid(node: Node, attr: Attr) -> int:
        """For ever, unless news came since: then the kernel asks again next time."""
        return fuse.FOREVER if node.current and node.attr is attr else 0

    def _listed_entry(self, folder: Node, name: bytes) -> bytes:
        """An entry with attributes; without them (node 0) what is not watched: it is asked when needed."""
        node = self.cache.by_path.get(folder.path.rstrip(b"/") + b"/" + name)
        if node is None or not node.current or self._changing.writes.pending(node):
            return fuse.entry(0, 0, 0, None)
        return self._entry(folder, node, node.attr)

    def _getattr(self, request: fuse.Request) -> bytes | Awaitable[bytes]:
        node, writes = self._node(request.node), self._changing.writes
        if node.current and not writes.pending(node):
            return fuse.attributes(node.attr, fuse.FOREVER)
        file = writes.get(fuse_changes.handle_asked(request.body)) or writes.of(node)
        return self._changing.attributes(node, file) if file else self._getattr_there(node)

    async def _getattr_there(self, node: Node) -> bytes:
        if self.cache.by_path.get(node.path) is node:
            try:
                seen = await self.questions.fetch(node.path, False, 0)
            except FileNotFoundError:
                log.debug("%r has no name any more", node.path)
            else:
                if seen.node is node:
                    return fuse.attributes(seen.attr, self._valid(node, seen.attr))
        if node.handle:  # it has another name or none by now, and is open
            return fuse.attributes(await self.questions.refresh(node), 0)
        return fuse.attributes(node.attr, 0)  # as it was when it still had its name

    def _access(self, request: fuse.Request) -> bytes | Awaitable[bytes]:
        node = self._node(request.node)
        mask = fuse.access_mask(request.body)
        if mask & W and not self._writable(node.path):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return self._accessed(node.attr, mask) if node.current else self._access_there(node, mask)

    async def _access_there(self, node: Node, mask: int) -> bytes:
        if self.cache.by_path.get(node.path) is node:
            return self._accessed((await self.questions.fetch(node.path, False, 0)).attr, mask)
        return self._accessed(node.attr, mask)

    def _accessed(self, attr: Attr, mask: int) -> bytes:
        code = refusal(attr, mask & ~W, self._readers)
        if not code and mask & W and self._writers is not None:
            code = refusal(attr, mask & W, self._writers)
        if code:
            raise OSError(code, os.strerror(code))
        return b""

    def _readlink(self, request: fuse.Request) -> bytes:
        node = self._node(request.node)
        return relative_link(node.path, node.link)

    async def _statfs(self, request: fuse.Request) -> bytes:
        return fuse.statfs(await self.questions.statfs(self._node(request.node)))

    # Files ----------------------------------------------------------------------------------

    def _open(self, request: fuse.Request) -> bytes | Awaitable[bytes]:
        node, flags = self._node(request.node), fuse_changes.opening(request.body)
        if flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC:
            return self._changing.open(node, flags)
        if node.current and (node.data is not None or node.handle):
            return self._opened(node)
        return self._open_there(node)

    async def _open_there(self, node: Node) -> bytes:
        await self._changing.writes.settle_all(node)
        if self.cache.by_path.get(node.path) is node:
            seen = await self.questions.fetch(node.path, False, self.questions.inline)
            if seen.node is not node:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        elif not node.handle:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return self._opened(node)

    def _opened(self, node: Node) -> bytes:
        if node.watched and node.data and not node.opens:
            # Into the page cache, so that no read has to ask. Nobody has it open, so no read that this
            # loop must answer holds a page that the kernel would wait for.
            self._device.put(*fuse.store(node.number, node.data))
        node.opens += 1
        handle = self._locks.handle()
        flags = 0 if self._locks.any_of(node) else fuse.FOPEN_NOFLUSH
        if node.watched:
            return fuse.opened(handle, flags | fuse.FOPEN_KEEP_CACHE)
        # Files of pseudo file systems say 0 bytes and have content: only direct reads show it.
        return fuse.opened(handle, flags | (0 if node.attr.size else fuse.FOPEN_DIRECT_IO))

    def _dirtied(self, node: Node) -> None:
        """The program has changed its content: what is known of it here is not it any more."""
        self.cache.forget_content(node)
        self._reader.forget(node)

    def _read(self, request: fuse.Request) -> Body | Awaitable[Body]:
        node = self._node(request.node)
        handle, offset, size = fuse.read_arguments(request.body)
        file = self._changing.writes.get(handle)
        if file is not None or self._changing.writes.of(node) is not None:
            return self._changing.read(node, file, offset, size)
        if node.data is not None:
            return node.data[offset : offset + size]
        if offset + size <= len(node.head) and node.watched:
            return node.head[offset : offset + size]
        return self._reader.ready(node, offset, size) or self._reader.read(node, offset, size)

    def _flush(self, request: fuse.Request) -> bytes | Awaitable[bytes]:
        ended = self._locks.flushed(request.node, fuse_changes.flush_owner(request.body))
        if not ended:
            return self._changing.flush(request)
        file = self._changing.writes.get(fuse_changes.handle_of(request.body))
        return self._unlocked(
            request.node, ended, self._changing.flushed(file, request.thread) if file else None
        )

    async def _unlocked(self, node: int, ended: list[Holder], flushed: Awaitable[bytes] | None) -> bytes:
        await asyncio.shield(self._locks.end(node, ended, flushed))
        return b""

    def _release(self, request: fuse.Request) -> bytes:
        node = self.cache.by_number.get(request.node)
        handle, owner = fuse_changes.handle_of(request.body), fuse_changes.flock_owner(request.body)
        file = self._changing.writes.get(handle)
        closing = self._changing.release(file) if file is not None else None
        if ended := self._locks.released(request.node, handle, owner):
            self._locks.end(request.node, ended, closing)
        elif closing is not None:
            self._spawn(closing)
        if file is None and node is not None:
            self.cache.closed(node)
            if node.opens <= 0:
                self._reader.forget(node)
            self.questions.send_released()
        return b""

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Nobody waits for it, but the end."""
        task = self._loop.create_task(work)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    # Folders --------------------------------------------------------------------------------

    def _opendir(self, request: fuse.Request) -> bytes | Awaitable[bytes]:
        node = self._node(request.node)
        if node.listing is not None and node.watched:
            return self._folders.opened(node, node.listing)
        return self._opendir_there(node)

    async def _opendir_there(self, node: Node) -> bytes:
        return self._folders.opened(node, await self.questions.entries(node))

    def _releasedir(self, request: fuse.Request) -> bytes:
        self._folders.closed(int.from_bytes(request.body[:8], "little"))
        return b""

    def _readdir(self, request: fuse.Request) -> bytes | Awaitable[bytes]:
        return self._entries(request, plus=False)

    def _readdirplus(self, request: fuse.Request) -> bytes | Awaitable[bytes]:
        return self._entries(request, plus=True)

    def _entries(self, request: fuse.Request, plus: bool) -> bytes | Awaitable[bytes]:
        handle, offset, size = fuse.read_arguments(request.body)
        if self._folders.stale(handle, offset):
            return self._entries_again(handle, size, plus)
        return self._folders.read(handle, offset, size, plus)

    async def _entries_again(self, handle: int, size: int, plus: bool) -> bytes:
        """Rewound: what the folder holds now."""
        held = self._folders.stale(handle, 0)
        if held is not None and self.cache.by_path.get(held.node.path) is held.node:
            version = held.node.version
            held.listing = await self.questions.entries(held.node)
            held.version = version
        return self._folders.read(handle, 0, size, plus)

    # The end --------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Answer what waits, and all that still comes, with EIO, until no notice is under way.

        A thread in such a notice holds the device open, and whoever waits for an answer holds the thread:
        without this order both would stay for ever, in a sleep that no signal ends.
        """
        await self._changing.aclose(self.questions.limit)
        self.questions.end()
        await self._device.end(END_LIMIT)
        if not await self._notices.aclose(END_LIMIT):
            log.warning("the kernel did not take a notice within %g s", END_LIMIT)
        self._device.close()


_HANDLERS: dict[int, Callable[[Tree, fuse.Request], Body | Awaitable[Body] | None]] = {
    fuse.FORGET: Tree._forget,
    fuse.BATCH_FORGET: Tree._forget,
    fuse.DESTROY: lambda tree, request: None,
    fuse.INIT: Tree._init,
    fuse.LOOKUP: Tree._lookup,
    fuse.GETATTR: Tree._getattr,
    fuse.ACCESS: Tree._access,
    fuse.READLINK: Tree._readlink,
    fuse.OPEN: Tree._open,
    fuse.READ: Tree._read,
    fuse.RELEASE: Tree._release,
    fuse.FLUSH: Tree._flush,
    fuse.OPENDIR: Tree._opendir,
    fuse.READDIR: Tree._readdir,
    fuse.READDIRPLUS: Tree._readdirplus,
    fuse.RELEASEDIR: Tree._releasedir,
    fuse.STATFS: Tree._statfs,
}
_WAITING = frozenset({*extended.READING, fuse.SETLKW})
_INTERRUPTIBLE = _WAITING.union(_HANDLERS) - {fuse.FLUSH}
