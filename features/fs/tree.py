"""The tree: answers the kernel's requests from the cache, or asks the agent and then answers.

It runs in the session's event loop, which therefore never touches the mount. Nothing waits here:
what is known is answered within the reader's callback, the rest in a task each. Each request gets
exactly one answer, whatever happens.
"""

from __future__ import annotations

import asyncio
import errno
import inspect
import logging
import os
from collections.abc import Awaitable, Callable
from functools import partial

from pymirror.core.errors import PeerError
from pymirror.features.fs import fuse
from pymirror.features.fs import messages as m
from pymirror.features.fs.access import Identity, refusal
from pymirror.features.fs.attr import Attr
from pymirror.features.fs.cache import Node, folder_of, relative_link
from pymirror.features.fs.folders import Folders
from pymirror.features.fs.mount import Mount, read_ahead
from pymirror.features.fs.notices import Notices
from pymirror.features.fs.questions import Questions
from pymirror.features.fs.reader import AHEAD, Reader

log = logging.getLogger("pymirror.fs")

Body = bytes | memoryview
BUSY = (errno.ENOENT, errno.ENODEV, errno.EBADF)
"""What the kernel says to an answer nobody waits for any more: its asker was killed, or we end."""
END_LIMIT = 5.0
"""Seconds for the kernel to take the last notices, and for tasks to end; both end at once in health."""


class Tree:
    """One mounted tree over the questions to one agent. who: see access.Identity."""

    def __init__(self, mount: Mount, questions: Questions, ahead: bool, who: Identity) -> None:
        self.mount, self.questions, self.cache = mount, questions, questions.cache
        self._who = who
        self._reader = Reader(questions.read, AHEAD if ahead else 0)
        self._folders = Folders(self._listed_entry)
        self._notices = Notices(mount.device)
        self._buffer = memoryview(bytearray(fuse.READ_BUFFER))
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._ended = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(mount.device, self._readable)

    # News from the agent --------------------------------------------------------------------

    def changed(self, news: m.Changed) -> None:
        """Forget what may be different now, here and in the kernel."""
        below = [b"/"] if news.all else news.below
        self.questions.news(news.paths, below, news.all)
        for path in news.paths:
            node = self.cache.by_path.get(path)
            if node is not None:
                self._content_changed(node)
        for path in below:
            self._name_changed(path)
        self.questions.send_released()

    def _content_changed(self, node: Node) -> None:
        node.fresh = False
        self.cache.forget_content(node)
        self._reader.forget(node)
        if node.lookups > 0:
            self._notices.content(node.number)

    def _name_changed(self, path: bytes) -> None:
        for inner in (*self.cache.below(path), path):
            node = self.cache.by_path.get(inner)
            if node is not None:
                self._content_changed(node)
            self.cache.drop_name(inner)
            folder = self.cache.by_path.get(folder_of(inner))
            if folder is not None and folder.lookups > 0 and inner != b"/":
                self._notices.name(folder.number, inner.rpartition(b"/")[2])
        folder = self.cache.by_path.get(folder_of(path))
        if folder is not None:
            self.cache.forget_content(folder)

    async def settled(self) -> None:
        """When the kernel has forgotten what there was news of until now."""
        await self._notices.settled()

    # The kernel's requests ------------------------------------------------------------------

    def _readable(self) -> None:
        for _ in range(32):
            try:
                size = os.readv(self.mount.device, [self._buffer])
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.EINTR):
                    continue  # taken back before it was read
                if error.errno != errno.ENODEV:
                    log.error("the tree's device failed: %s", error)
                self._loop.remove_reader(self.mount.device)
                return
            self._serve(fuse.parse(self._buffer[:size]))

    def _serve(self, request: fuse.Request) -> None:
        if request.opcode in _SILENT:
            _SILENT[request.opcode](self, request)
            return
        try:
            answer = self._begin(request)
        except Exception as error:
            self._write(fuse.failure(request.unique, self._code(error, request.opcode)))
            return
        if isinstance(answer, (bytes, memoryview)):
            self._reply(request.unique, answer)
            return
        task = self._loop.create_task(self._later(request.unique, request.opcode, answer))
        self._tasks[request.unique] = task
        task.add_done_callback(partial(self._done, request.unique, answer))

    def _done(self, unique: int, answer: Awaitable[Body], task: asyncio.Task[None]) -> None:
        del self._tasks[unique]
        if task.cancelled():  # before its first step: nobody has answered
            if inspect.iscoroutine(answer):
                answer.close()
            self._write(fuse.failure(unique, self._cancelled()))

    def _cancelled(self) -> int:
        """Who asked was interrupted; at the session's end all are."""
        return errno.EIO if self._ended else errno.EINTR

    def _begin(self, request: fuse.Request) -> Body | Awaitable[Body]:
        if self._ended:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if request.opcode in fuse.CHANGING:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        handler = _HANDLERS.get(request.opcode)
        if handler is None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        return handler(self, request)

    async def _later(self, unique: int, opcode: int, work: Awaitable[Body]) -> None:
        try:
            body = await work
        except asyncio.CancelledError:
            self._write(fuse.failure(unique, self._cancelled()))
        except Exception as error:
            self._write(fuse.failure(unique, self._code(error, opcode)))
        else:
            self._reply(unique, body)

    @staticmethod
    def _code(error: Exception, opcode: int) -> int:
        if isinstance(error, OSError):
            return error.errno or errno.EIO
        if not isinstance(error, PeerError):
            log.error("the tree failed on a request of kind %d", opcode, exc_info=error)
        return errno.EIO

    def _reply(self, unique: int, body: Body) -> None:
        self._write(fuse.answer_head(unique, len(body)), body)

    def _write(self, *parts: Body) -> None:
        try:
            os.writev(self.mount.device, parts)
        except OSError as error:
            if error.errno not in BUSY:
                log.error("an answer was refused by the kernel: %s", error)

    def _forget(self, request: fuse.Request) -> None:
        for number, lookups in fuse.forgets(request):
            self.cache.forget(number, lookups)
        self.questions.send_released()

    def _interrupt(self, request: fuse.Request) -> None:
        if (task := self._tasks.get(fuse.interrupted(request.body))) is not None:
            task.cancel()

    def _node(self, number: int) -> Node:
        node = self.cache.by_number.get(number)
        if node is None:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return node

    def _init(self, request: fuse.Request) -> bytes:
        self._loop.call_soon(read_ahead, self.mount, m.MOST_READ)
        return fuse.init(request.body, m.MOST_READ)

    # Names and attributes -------------------------------------------------------------------

    def _lookup(self, request: fuse.Request) -> bytes | Awaitable[bytes]:
        folder = self._node(request.node)
        path = folder.path.rstrip(b"/") + b"/" + fuse.name_of(request.body)
        node = self.cache.by_path.get(path)
        if node is not None and node.current:
            return self._entry(folder, node, node.attr)
        if node is None and path in self.cache.missing:
            return fuse.entry(0, 0, fuse.FOREVER, None)
        return self._lookup_there(folder, path)

    async def _lookup_there(self, folder: Node, path: bytes) -> bytes:
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
        if node is None or not node.current:
            return fuse.entry(0, 0, 0, None)
        return self._entry(folder, node, node.attr)

    def _getattr(self, request: fuse.Request) -> bytes | Awaitable[bytes]:
        node = self._node(request.node)
        if node.current:
            return fuse.attributes(node.attr, fuse.FOREVER)
        return self._getattr_there(node)

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
        return self._accessed(node.attr, mask) if node.current else self._access_there(node, mask)

    async def _access_there(self, node: Node, mask: int) -> bytes:
        if self.cache.by_path.get(node.path) is node:
            return self._accessed((await self.questions.fetch(node.path, False, 0)).attr, mask)
        return self._accessed(node.attr, mask)

    def _accessed(self, attr: Attr, mask: int) -> bytes:
        code = refusal(attr, mask, self._who)
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
        node = self._node(request.node)
        if node.current and (node.data is not None or node.handle):
            return self._opened(node)
        return self._open_there(node)

    async def _open_there(self, node: Node) -> bytes:
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
            self._write(*fuse.store(node.number, node.data))
        node.opens += 1
        if node.watched:
            return fuse.opened(0, fuse.FOPEN_KEEP_CACHE)
        # Files of pseudo file systems say 0 bytes and have content: only direct reads show it.
        return fuse.opened(0, 0 if node.attr.size else fuse.FOPEN_DIRECT_IO)

    def _read(self, request: fuse.Request) -> Body | Awaitable[Body]:
        node = self._node(request.node)
        _, offset, size = fuse.read_arguments(request.body)
        if node.data is not None:
            return node.data[offset : offset + size]
        if offset + size <= len(node.head) and node.watched:
            return node.head[offset : offset + size]
        return self._reader.ready(node, offset, size) or self._reader.read(node, offset, size)

    def _release(self, request: fuse.Request) -> bytes:
        node = self.cache.by_number.get(request.node)
        if node is not None:
            self.cache.closed(node)
            if node.opens <= 0:
                self._reader.forget(node)
            self.questions.send_released()
        return b""

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
        self._ended = True
        self.questions.end()
        for task in [*self._tasks.values()]:
            task.cancel()
        if self._tasks:
            await asyncio.wait([*self._tasks.values()], timeout=END_LIMIT)
        if not await self._notices.aclose(END_LIMIT):
            log.warning("the kernel did not take a notice within %g s", END_LIMIT)
        self._loop.remove_reader(self.mount.device)


_SILENT: dict[int, Callable[[Tree, fuse.Request], None]] = {
    fuse.FORGET: Tree._forget,
    fuse.BATCH_FORGET: Tree._forget,
    fuse.INTERRUPT: Tree._interrupt,
    fuse.DESTROY: lambda tree, request: None,
}
"""Requests that get no answer."""

_HANDLERS: dict[int, Callable[[Tree, fuse.Request], Body | Awaitable[Body]]] = {
    fuse.INIT: Tree._init,
    fuse.LOOKUP: Tree._lookup,
    fuse.GETATTR: Tree._getattr,
    fuse.ACCESS: Tree._access,
    fuse.READLINK: Tree._readlink,
    fuse.OPEN: Tree._open,
    fuse.READ: Tree._read,
    fuse.RELEASE: Tree._release,
    fuse.OPENDIR: Tree._opendir,
    fuse.READDIR: Tree._readdir,
    fuse.READDIRPLUS: Tree._readdirplus,
    fuse.RELEASEDIR: Tree._releasedir,
    fuse.STATFS: Tree._statfs,
}
