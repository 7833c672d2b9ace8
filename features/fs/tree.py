"""The tree: answers the kernel's requests from the cache, or asks the agent and then answers.

It runs in the session's event loop, which therefore never touches the mount. Nothing waits here:
what is known is answered within the reader's callback, the rest in a task each. The kernel's
caches are told of changes from a thread of their own, because such a notice can wait for a request
that this loop must answer.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import logging
import os
import posixpath
import stat
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from pymirror.core.errors import ChannelLost, PeerError
from pymirror.core.feature import Peer
from pymirror.features.fs import fuse
from pymirror.features.fs import messages as m
from pymirror.features.fs.attr import Attr, unpack_entries
from pymirror.features.fs.cache import Cache, Node, find, relative_link
from pymirror.features.fs.mount import Mount
from pymirror.features.fs.reader import AHEAD, Reader

log = logging.getLogger("pymirror.fs")

Entries = list[tuple[bytes, Attr, bytes]]


class Tree:
    """One mounted tree. `seed` prepares a path for the engine with at most one round trip."""

    def __init__(self, mount: Mount, peer: Peer, inline: int, read_ahead: bool) -> None:
        self.mount, self.peer, self.cache = mount, peer, Cache()
        self._inline = inline
        self._reader = Reader(self._read_remote, AHEAD if read_ahead else 0)
        self._buffer = memoryview(bytearray(fuse.READ_BUFFER))
        self._tasks: set[asyncio.Task[None]] = set()
        self._fetching: dict[tuple[bytes, bool, int], asyncio.Task[Node]] = {}
        self._in_flight = 0
        self._changed_meanwhile: set[bytes] = set()
        self._handles: dict[int, tuple[Node, Entries]] = {}
        self._numbers = itertools.count(1)
        self._notifier = ThreadPoolExecutor(1, thread_name_prefix="fs-notify")
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(mount.device, self._readable)

    # Known to the engine --------------------------------------------------------------------

    async def seed(self, path: bytes, follow: bool, content: bool) -> Node:
        """What `path` leads to; nothing more has to be asked when the kernel opens or looks at it."""
        known = find(self.cache, path, follow)
        if isinstance(known, int):
            raise OSError(known, os.strerror(known))
        if known is not None and known.attr is not None:
            ready = known.data is not None or known.handle or not known.attr.is_file
            if ready or not content:
                return known
        return await self.fetch(path, follow, self._inline if content else 0)

    async def fetch(self, path: bytes, follow: bool, inline: int) -> Node:
        """Ask the agent for a path. Several who want the same wait for one answer. OSError."""
        key = (path, follow, inline)
        task = self._fetching.get(key)
        if task is None:
            task = self._fetching[key] = asyncio.ensure_future(self._fetch(*key))
            task.add_done_callback(
                lambda done: (self._fetching.pop(key, None), done.cancelled() or done.exception())
            )
        return await asyncio.shield(task)

    async def _fetch(self, path: bytes, follow: bool, inline: int) -> Node:
        self._in_flight += 1
        try:
            reply: m.Fetched = await self.peer.request(m.Fetch(path, follow, inline))
            nodes = self.cache.learn_steps(reply.steps)
            for node in nodes:
                if node.path in self._changed_meanwhile:
                    node.watched = False  # true when it was sent, perhaps not any more: asked again next time
            if reply.errno:
                if reply.errno == errno.ENOENT and reply.missing:
                    self.cache.learn_missing(reply.missing)
                    if reply.missing in self._changed_meanwhile:
                        self.cache.missing[reply.missing] = False
                raise OSError(reply.errno, os.strerror(reply.errno))
            if not nodes:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            found = find(self.cache, path, follow)
            node = found if isinstance(found, Node) else nodes[-1]
            self._opened_there(node, reply, inline)
            return node
        finally:
            self._settled()

    def _opened_there(self, node: Node, reply: m.Fetched, inline: int) -> None:
        if reply.handle:
            if node.handle:
                self.cache.released.append(node.handle)
            node.handle = reply.handle
            self._send_released()
        if inline and node.attr is not None and node.attr.is_file:
            node.head = reply.data
            if node.watched and len(reply.data) == node.attr.size and node.attr.size < inline:
                self.cache.keep_data(node, reply.data)

    def _settled(self) -> None:
        self._in_flight -= 1
        if not self._in_flight:
            self._changed_meanwhile.clear()

    def _send_released(self) -> None:
        numbers = self.cache.take_released()
        if numbers:
            try:
                self.peer.send(m.Release(numbers))
            except ChannelLost as gone:
                log.debug("handles are gone with the channel: %s", gone)

    async def entries(self, node: Node) -> Entries:
        """The entries of a folder, all of them."""
        if node.listing is not None and node.watched:
            return node.listing
        self._in_flight += 1
        try:
            found: Entries = []
            version = node.version
            while True:
                reply: m.Listed = await self.peer.request(m.List(node.path, len(found)))
                found += unpack_entries(reply.entries, reply.count)
                if not reply.more or not reply.count:
                    break
            watched = reply.watched and node.path not in self._changed_meanwhile
            for name, attr, link in found:
                path = node.path.rstrip(b"/") + b"/" + name
                self.cache.learn(path, attr, link, watched and path not in self._changed_meanwhile)
            if watched and version == node.version:
                node.listing = found
            return found
        except ValueError as error:
            raise PeerError(f"a listing cannot be read: {error}") from error
        finally:
            self._settled()

    # News from the agent --------------------------------------------------------------------

    def changed(self, news: m.Changed) -> None:
        """Forget what may be different now, here and in the kernel."""
        paths = [*self.cache.by_path] if news.all else news.paths
        entries = [*self.cache.by_path, *self.cache.missing] if news.all else news.entries
        if self._in_flight:
            self._changed_meanwhile.update(paths, entries)
        notices = []
        for path in paths:
            node = self.cache.by_path.get(path)
            if node is not None:
                node.attr = None
                self.cache.forget_content(node)
                self._reader.forget(node)
                notices.append(fuse.inval_inode(node.number))
        for path in entries:
            notices += self._name_changed(path)
        if notices:
            self._notifier.submit(self._notify, notices)
        self._send_released()

    def _name_changed(self, path: bytes) -> list[bytes]:
        for inner in self.cache.below(path):
            self.cache.drop_name(inner)
            self.cache.missing.pop(inner, None)
        self.cache.drop_name(path)
        self.cache.missing.pop(path, None)
        folder = self.cache.by_path.get(posixpath.dirname(path))
        if folder is None:
            return []
        self.cache.forget_content(folder)
        return [fuse.inval_entry(folder.number, posixpath.basename(path))]

    def _notify(self, notices: list[bytes]) -> None:
        for notice in notices:
            try:
                os.write(self.mount.device, notice)
            except OSError as error:
                # ENOENT: the kernel does not know it (any more), which is what was wanted.
                if error.errno not in (
                    errno.ENOENT,
                    errno.ENOTDIR,
                    errno.ENODEV,
                    errno.EBADF,
                    errno.ENOTEMPTY,
                ):
                    log.warning("the kernel did not take a notice: %s", error)

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
        if request.opcode in (fuse.FORGET, fuse.BATCH_FORGET):
            for number, lookups in fuse.forgets(request):
                self.cache.forget(number, lookups)
            self._send_released()
            return
        if request.opcode in (fuse.INTERRUPT, fuse.DESTROY):
            return
        if request.opcode in fuse.CHANGING:
            self._write(fuse.failure(request.unique, errno.EROFS))
            return
        handler = _HANDLERS.get(request.opcode)
        if handler is None:
            self._write(fuse.failure(request.unique, errno.ENOSYS))
            return
        try:
            answer = handler(self, request)
        except OSError as error:
            self._write(fuse.failure(request.unique, error.errno or errno.EIO))
            return
        if isinstance(answer, bytes):
            self._reply(request.unique, answer)
            return
        task = self._loop.create_task(self._later(request.unique, request.opcode, answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _later(self, unique: int, opcode: int, work: Awaitable[bytes]) -> None:
        try:
            body = await work
        except OSError as error:
            self._write(fuse.failure(unique, error.errno or errno.EIO))
        except (PeerError, asyncio.CancelledError):
            self._write(fuse.failure(unique, errno.EIO))
        except Exception:
            log.exception("the tree failed on a request of kind %d", opcode)
            self._write(fuse.failure(unique, errno.EIO))
        else:
            self._reply(unique, body)

    def _reply(self, unique: int, body: bytes) -> None:
        self._write(fuse.answer_head(unique, len(body)), body)

    def _write(self, *parts: bytes) -> None:
        try:
            os.writev(self.mount.device, parts)
        except OSError as error:
            if error.errno not in (
                errno.ENOENT,
                errno.ENODEV,
                errno.EBADF,
            ):  # its asker was killed; or we end
                log.error("an answer was refused by the kernel: %s", error)

    def _node(self, number: int) -> Node:
        node = self.cache.by_number.get(number)
        if node is None:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return node

    def _init(self, request: fuse.Request) -> bytes:
        return fuse.init(request.body, m.MOST_READ)

    def _lookup(self, request: fuse.Request) -> bytes | Awaitable[bytes]:
        folder = self._node(request.node)
        path = folder.path.rstrip(b"/") + b"/" + fuse.name_of(request.body)
        node = self.cache.by_path.get(path)
        if node is not None and node.attr is not None and node.watched:
            return self._entry(folder, node)
        if node is None and self.cache.missing.get(path):
            return fuse.entry(0, 0, fuse.FOREVER, None)
        return self._lookup_there(folder, path)

    async def _lookup_there(self, folder: Node, path: bytes) -> bytes:
        return self._entry(folder, await self.fetch(path, False, 0))

    def _entry(self, folder: Node, node: Node) -> bytes:
        node.lookups += 1
        valid = fuse.FOREVER if folder.watched and node.watched else 0
        return fuse.entry(node.number, 1, valid, node.attr)

    def _getattr(self, request: fuse.Request) -> bytes | Awaitable[bytes]:
        node = self._node(request.node)
        if node.attr is not None and node.watched:
            return fuse.attributes(node.attr, fuse.FOREVER)
        return self._getattr_there(node)

    async def _getattr_there(self, node: Node) -> bytes:
        if self.cache.by_path.get(node.path) is node:
            found = await self.fetch(node.path, False, 0)
            if found is node and node.attr is not None:
                return fuse.attributes(node.attr, fuse.FOREVER if node.watched else 0)
        if node.handle:  # it has another name or none by now, and is open
            reply: m.Refreshed = await self.peer.request(m.Refresh(node.handle))
            return fuse.attributes(Attr.unpack(reply.attr), 0)
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    def _readlink(self, request: fuse.Request) -> bytes:
        node = self._node(request.node)
        return relative_link(node.path, node.link)

    def _open(self, request: fuse.Request) -> bytes | Awaitable[bytes]:
        node = self._node(request.node)
        if node.attr is not None and node.watched and (node.data is not None or node.handle):
            return self._opened(node)
        return self._open_there(node)

    async def _open_there(self, node: Node) -> bytes:
        if self.cache.by_path.get(node.path) is node:
            found = await self.fetch(node.path, False, self._inline)
            if found is not node:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        elif not node.handle:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return self._opened(node)

    def _opened(self, node: Node) -> bytes:
        node.opens += 1
        if node.watched:
            return fuse.opened(0, fuse.FOPEN_KEEP_CACHE)
        # Files of pseudo file systems say 0 bytes and have content: only direct reads show it.
        return fuse.opened(0, fuse.FOPEN_DIRECT_IO if node.attr is None or not node.attr.size else 0)

    def _read(self, request: fuse.Request) -> bytes | Awaitable[bytes]:
        node = self._node(request.node)
        _, offset, size = fuse.read_arguments(request.body)
        if node.data is not None:
            return node.data[offset : offset + size]
        if offset + size <= len(node.head) and node.watched:
            return node.head[offset : offset + size]
        return self._reader.read(node, offset, size)

    async def _read_remote(self, node: Node, offset: int, size: int) -> bytes:
        for attempt in (1, 2):
            if not node.handle:
                found = await self.fetch(node.path, False, self._inline or 1)
                if found is not node or not node.handle:
                    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            try:
                reply: m.Data = await self.peer.request(m.Read(node.handle, offset, min(size, m.MOST_READ)))
                return reply.data
            except OSError as error:
                if error.errno != errno.ESTALE or attempt == 2:
                    raise
                node.handle = 0  # the agent let it go: it holds so many files at most
        raise AssertionError("unreachable")

    def _release(self, request: fuse.Request) -> bytes:
        node = self.cache.by_number.get(request.node)
        if node is not None:
            self.cache.closed(node)
            if node.opens <= 0:
                self._reader.forget(node)
            self._send_released()
        return b""

    async def _opendir(self, request: fuse.Request) -> bytes:
        node = self._node(request.node)
        return self._directory(node, await self.entries(node))

    def _opendir_now(self, request: fuse.Request) -> bytes | Awaitable[bytes]:
        node = self._node(request.node)
        if node.listing is not None and node.watched:
            return self._directory(node, node.listing)
        return self._opendir(request)

    def _directory(self, node: Node, listing: Entries) -> bytes:
        handle = next(self._numbers)
        self._handles[handle] = (node, listing)
        return fuse.opened(handle, 0)

    def _releasedir(self, request: fuse.Request) -> bytes:
        self._handles.pop(int.from_bytes(request.body[:8], "little"), None)
        return b""

    def _readdir(self, request: fuse.Request) -> bytes:
        return self._entries(request, plus=False)

    def _readdirplus(self, request: fuse.Request) -> bytes:
        return self._entries(request, plus=True)

    def _entries(self, request: fuse.Request, plus: bool) -> bytes:
        handle, offset, size = fuse.read_arguments(request.body)
        folder, listing = self._handles[handle] if handle in self._handles else (self._node(request.node), [])
        made, room = [], size
        for number in range(offset, len(listing) + 2):
            name, attr, link = ((b".", b"..")[number], None, b"") if number < 2 else listing[number - 2]
            kind = stat.S_IFDIR if attr is None else stat.S_IFMT(attr.mode)
            ino = attr.ino if attr else (folder.attr.ino if folder.attr else 1)
            dirent = fuse.dirent(ino, number + 1, kind >> 12, name)
            if room < len(dirent) + (128 if plus else 0):
                break
            room -= len(dirent) + (128 if plus else 0)
            if plus:
                made.append(self._entry_of(folder, name, attr, link))
            made.append(dirent)
        return b"".join(made)

    def _entry_of(self, folder: Node, name: bytes, attr: Attr | None, link: bytes) -> bytes:
        """An entry with attributes; without them (node 0) where a change is on its way."""
        node = self.cache.by_path.get(folder.path.rstrip(b"/") + b"/" + name) if attr else None
        if node is None or node.attr is None:
            return fuse.entry(0, 0, 0, None)
        return self._entry(folder, node)

    async def _statfs(self, request: fuse.Request) -> bytes:
        reply: m.StatFsAnswer = await self.peer.request(m.StatFs(self._node(request.node).path))
        return fuse.statfs(reply.numbers)

    # The end --------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Answer what waits with EIO, then let the kernel drop the mount. Never hangs on it."""
        self._loop.remove_reader(self.mount.device)
        waiting = [*self._tasks, *self._fetching.values()]
        for task in waiting:
            task.cancel()
        if waiting:
            await asyncio.wait(waiting, timeout=2)
        self._notifier.shutdown(wait=False, cancel_futures=True)


_HANDLERS: dict[int, Callable[[Tree, fuse.Request], bytes | Awaitable[bytes]]] = {
    fuse.INIT: Tree._init,
    fuse.LOOKUP: Tree._lookup,
    fuse.GETATTR: Tree._getattr,
    fuse.READLINK: Tree._readlink,
    fuse.OPEN: Tree._open,
    fuse.READ: Tree._read,
    fuse.RELEASE: Tree._release,
    fuse.OPENDIR: Tree._opendir_now,
    fuse.READDIR: Tree._readdir,
    fuse.READDIRPLUS: Tree._readdirplus,
    fuse.RELEASEDIR: Tree._releasedir,
    fuse.STATFS: Tree._statfs,
}
