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
import stat
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

from attrs import define, field

from pymirror.core.errors import ChannelLost, PeerError
from pymirror.core.feature import Peer
from pymirror.features.fs import fuse
from pymirror.features.fs import messages as m
from pymirror.features.fs.attr import Attr, unpack_entries
from pymirror.features.fs.cache import ROOT, Cache, Entries, Node, folder_of, relative_link
from pymirror.features.fs.mount import Mount, read_ahead
from pymirror.features.fs.reader import AHEAD, Reader

log = logging.getLogger("pymirror.fs")

Body = bytes | memoryview
RESTARTS = 3
"""Times a listing is begun again because the agent let its rest go."""

BUSY = (errno.ENOENT, errno.ENODEV, errno.EBADF)
"""What the kernel says to an answer nobody waits for any more: its asker was killed, or we end."""


@define
class _Meanwhile:
    """What changed while questions were on their way: their answers may be older than the news."""

    paths: set[bytes] = field(factory=set)
    below: set[bytes] = field(factory=set)
    all: bool = False

    def touched(self, path: bytes) -> bool:
        return self.all or path in self.paths or any(_is_below(path, top) for top in self.below)


def _is_below(path: bytes, top: bytes) -> bool:
    return path == top or path.startswith(top.rstrip(b"/") + b"/")


class Tree:
    """One mounted tree. `seed` prepares a path for the engine with at most one round trip.

    inline: bytes of content that come along. limit: seconds the target may take for one answer.
    """

    def __init__(self, mount: Mount, peer: Peer, inline: int, read_ahead: bool, limit: float) -> None:
        self.mount, self.peer, self.cache = mount, peer, Cache()
        self._inline, self._limit = inline, limit
        self._reader = Reader(self._read_remote, AHEAD if read_ahead else 0)
        self._buffer = memoryview(bytearray(fuse.READ_BUFFER))
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._fetching: dict[tuple[bytes, bool, int], list[asyncio.Future[Node]]] = {}
        self._in_flight = 0
        self._ended = False
        self._meanwhile = _Meanwhile()
        self._handles: dict[int, tuple[Node, Entries]] = {}
        self._numbers = itertools.count(1)
        self._notifier = ThreadPoolExecutor(1, thread_name_prefix="fs-notify")
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(mount.device, self._readable)

    def _ask(self, message: Any) -> asyncio.Future[Any]:
        """A question to the agent. OSError as the target's kernel said it, ETIMEDOUT after the limit."""
        return self.peer.request(message, self._limit)

    # Known to the engine --------------------------------------------------------------------

    def seed(self, path: bytes, follow: bool, content: bool) -> Node | asyncio.Future[Node]:
        """What `path` leads to; nothing more has to be asked when the kernel opens or looks at it.

        A node at once when it is known; OSError.
        """
        found = self.cache.locate(path, follow)
        if found.errno:
            raise OSError(found.errno, os.strerror(found.errno))
        node = found.node
        if node is not None and node.attr is not None:
            ready = node.data is not None or node.handle or not node.attr.is_file
            if ready or not content:
                return node
        return self.fetch(path, follow, self._inline if content else 0)

    def fetch(self, path: bytes, follow: bool, inline: int) -> asyncio.Future[Node]:
        """Ask the agent for a path, now. Several who want the same wait for one answer. OSError.

        Callbacks, not a coroutine: each task in the chain is a turn of the loop that the program waits for.
        """
        key = (path, follow, inline)
        waiter: asyncio.Future[Node] = self._loop.create_future()
        waiting = self._fetching.get(key)
        if waiting is not None:
            waiting.append(waiter)
            return waiter
        base, rest = self._way(path, follow)
        asked = self._ask(m.Fetch(base, rest, follow, inline))
        self._fetching[key] = [waiter]
        self._in_flight += 1
        asked.add_done_callback(partial(self._fetched, key))
        return waiter

    def _fetched(self, key: tuple[bytes, bool, int], asked: asyncio.Future[m.Fetched]) -> None:
        found: Node | None = None
        failed: BaseException | None = None
        try:
            found = self._learned(asked.result(), key[2])
        except (Exception, asyncio.CancelledError) as error:
            failed = error
        self._answered()
        for waiter in self._fetching.pop(key):
            if waiter.done():
                continue
            if found is not None:
                waiter.set_result(found)
            else:
                waiter.set_exception(
                    failed if isinstance(failed, Exception) else ChannelLost("the session ends")
                )

    def _learned(self, reply: m.Fetched, inline: int) -> Node:
        nodes = self.cache.learn_steps(reply.steps)
        for node in nodes:
            if self._meanwhile.touched(node.path):
                node.watched = False  # true when it was sent, perhaps not any more: asked again next time
        if reply.errno:
            if reply.errno == errno.ENOENT and reply.missing:
                self.cache.learn_missing(reply.missing, not self._meanwhile.touched(reply.missing))
            raise OSError(reply.errno, os.strerror(reply.errno))
        if not nodes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._opened_there(nodes[-1], reply, inline)
        return nodes[-1]

    def _way(self, path: bytes, follow: bool) -> tuple[bytes, bytes]:
        """The folder to begin at and the way from there; the last name is asked for even if it is known."""
        found = self.cache.locate(path, follow)
        if found.rest:
            return found.base, found.rest
        if found.node is None or found.node.number == ROOT:
            return b"/", path.lstrip(b"/")
        folder, _, name = found.node.path.rpartition(b"/")
        return folder or b"/", name

    @contextmanager
    def _asking(self) -> Iterator[None]:
        self._in_flight += 1
        try:
            yield
        finally:
            self._answered()

    def _answered(self) -> None:
        self._in_flight -= 1
        if not self._in_flight and (self._meanwhile.paths or self._meanwhile.below):
            self._meanwhile = _Meanwhile()

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

    def _send_released(self) -> None:
        numbers = self.cache.take_released()
        if numbers:
            try:
                self.peer.send(m.Release(numbers))
            except BlockingIOError:
                self.cache.released += numbers  # with the next ones
            except ChannelLost as gone:
                log.debug("handles are gone with the channel: %s", gone)

    async def entries(self, node: Node) -> Entries:
        """The entries of a folder, all of them. OSError, PeerError."""
        if node.listing is not None and node.watched:
            return node.listing
        with self._asking():
            version = node.version
            found, watched = await self._listed(node.path)
            if self._meanwhile.touched(node.path):
                watched = False
            for name, attr, link, told in found:
                path = node.path.rstrip(b"/") + b"/" + name
                self.cache.learn(path, attr, link, told and watched and not self._meanwhile.touched(path))
            if watched and version == node.version:
                self.cache.keep_listing(node, found)
            return found

    async def _listed(self, path: bytes) -> tuple[Entries, bool]:
        """All parts of a listing, and whether the folder is watched."""
        for _ in range(RESTARTS):
            found: Entries = []
            cursor = 0
            try:
                while True:
                    reply: m.Listed = await self._ask(m.List(path, cursor))
                    found += unpack_entries(reply.entries, reply.count)
                    cursor = reply.cursor
                    if not cursor:
                        return found, reply.watched
            except ValueError as error:
                raise PeerError(f"a listing cannot be read: {error}") from error
            except OSError as error:
                if error.errno != errno.ESTALE or not cursor:
                    raise  # ESTALE of a cursor: the agent let it go for others
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    # News from the agent --------------------------------------------------------------------

    def changed(self, news: m.Changed) -> None:
        """Forget what may be different now, here and in the kernel."""
        below = [b"/"] if news.all else news.below
        if self._in_flight:
            self._meanwhile.paths.update(news.paths)
            self._meanwhile.below.update(below)
            self._meanwhile.all |= news.all
        notices: list[bytes] = []
        for path in news.paths:
            node = self.cache.by_path.get(path)
            if node is not None:
                self._content_changed(node, notices)
        for path in below:
            self._name_changed(path, notices)
        if notices:
            self._notifier.submit(self._notify, notices)
        self._send_released()

    def _content_changed(self, node: Node, notices: list[bytes]) -> None:
        node.attr = None
        self.cache.forget_content(node)
        self._reader.forget(node)
        if node.lookups > 0:
            notices.append(fuse.inval_inode(node.number))

    def _name_changed(self, path: bytes, notices: list[bytes]) -> None:
        for inner in (*self.cache.below(path), path):
            node = self.cache.by_path.get(inner)
            if node is not None:
                self._content_changed(node, notices)
            self.cache.drop_name(inner)
            folder = self.cache.by_path.get(folder_of(inner))
            if folder is not None and folder.lookups > 0 and inner != b"/":
                notices.append(fuse.inval_entry(folder.number, inner.rpartition(b"/")[2]))
        folder = self.cache.by_path.get(folder_of(path))
        if folder is not None:
            self.cache.forget_content(folder)

    def _notify(self, notices: list[bytes]) -> None:
        for notice in notices:
            try:
                os.write(self.mount.device, notice)
            except OSError as error:
                # The kernel does not know it (any more), which is what was wanted.
                if error.errno not in (*BUSY, errno.ENOTDIR, errno.ENOTEMPTY):
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
        if request.opcode == fuse.INTERRUPT:
            if (task := self._tasks.get(fuse.interrupted(request.body))) is not None:
                task.cancel()
            return
        if request.opcode == fuse.DESTROY:
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
        if isinstance(answer, (bytes, memoryview)):
            self._reply(request.unique, answer)
            return
        task = self._loop.create_task(self._later(request.unique, request.opcode, answer))
        self._tasks[request.unique] = task
        task.add_done_callback(lambda _: self._tasks.pop(request.unique, None))

    async def _later(self, unique: int, opcode: int, work: Awaitable[Body]) -> None:
        try:
            body = await work
        except OSError as error:
            self._write(fuse.failure(unique, error.errno or errno.EIO))
        except asyncio.CancelledError:  # who asked was interrupted; at the session's end all are
            self._write(fuse.failure(unique, errno.EIO if self._ended else errno.EINTR))
        except PeerError:
            self._write(fuse.failure(unique, errno.EIO))
        except Exception:
            log.exception("the tree failed on a request of kind %d", opcode)
            self._write(fuse.failure(unique, errno.EIO))
        else:
            self._reply(unique, body)

    def _reply(self, unique: int, body: Body) -> None:
        self._write(fuse.answer_head(unique, len(body)), body)

    def _write(self, *parts: Body) -> None:
        try:
            os.writev(self.mount.device, parts)
        except OSError as error:
            if error.errno not in BUSY:
                log.error("an answer was refused by the kernel: %s", error)

    def _node(self, number: int) -> Node:
        node = self.cache.by_number.get(number)
        if node is None:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return node

    def _init(self, request: fuse.Request) -> bytes:
        self._loop.call_soon(read_ahead, self.mount, m.MOST_READ)
        return fuse.init(request.body, m.MOST_READ)

    def _lookup(self, request: fuse.Request) -> bytes | Awaitable[bytes]:
        folder = self._node(request.node)
        path = folder.path.rstrip(b"/") + b"/" + fuse.name_of(request.body)
        node = self.cache.by_path.get(path)
        if node is not None and node.current:
            return self._entry(folder, node)
        if node is None and path in self.cache.missing:
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
            reply: m.Refreshed = await self._ask(m.Refresh(node.handle))
            return fuse.attributes(Attr.unpack(reply.attr), 0)
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    def _readlink(self, request: fuse.Request) -> bytes:
        node = self._node(request.node)
        return relative_link(node.path, node.link)

    def _open(self, request: fuse.Request) -> bytes | Awaitable[bytes]:
        node = self._node(request.node)
        if node.current and (node.data is not None or node.handle):
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
        if node.watched and node.data and not node.opens:
            # Into the page cache, so that no read has to ask. Nobody has it open, so no read that this
            # loop must answer holds a page that the kernel would wait for.
            self._write(*fuse.store(node.number, node.data))
        node.opens += 1
        if node.watched:
            return fuse.opened(0, fuse.FOPEN_KEEP_CACHE)
        # Files of pseudo file systems say 0 bytes and have content: only direct reads show it.
        return fuse.opened(0, fuse.FOPEN_DIRECT_IO if node.attr is None or not node.attr.size else 0)

    def _read(self, request: fuse.Request) -> Body | Awaitable[Body]:
        node = self._node(request.node)
        _, offset, size = fuse.read_arguments(request.body)
        if node.data is not None:
            return node.data[offset : offset + size]
        if offset + size <= len(node.head) and node.watched:
            return node.head[offset : offset + size]
        return self._reader.ready(node, offset, size) or self._reader.read(node, offset, size)

    async def _read_remote(self, node: Node, offset: int, size: int) -> bytes:
        for attempt in (1, 2):
            if not node.handle:
                found = await self.fetch(node.path, False, self._inline or 1)
                if found is not node or not node.handle:
                    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            try:
                reply: m.Data = await self._ask(m.Read(node.handle, offset, min(size, m.MOST_READ)))
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
            name, attr = ((b".", b"..")[number], None) if number < 2 else listing[number - 2][:2]
            kind = stat.S_IFDIR if attr is None else stat.S_IFMT(attr.mode)
            ino = attr.ino if attr else (folder.attr.ino if folder.attr else 1)
            dirent = fuse.dirent(ino, number + 1, kind >> 12, name)
            if room < len(dirent) + (128 if plus else 0):
                break
            room -= len(dirent) + (128 if plus else 0)
            if plus:
                made.append(self._entry_of(folder, name, attr))
            made.append(dirent)
        return b"".join(made)

    def _entry_of(self, folder: Node, name: bytes, attr: Attr | None) -> bytes:
        """An entry with attributes; without them (node 0) where a change is on its way."""
        node = self.cache.by_path.get(folder.path.rstrip(b"/") + b"/" + name) if attr else None
        if node is None or node.attr is None:
            return fuse.entry(0, 0, 0, None)
        return self._entry(folder, node)

    async def _statfs(self, request: fuse.Request) -> bytes:
        reply: m.StatFsAnswer = await self._ask(m.StatFs(self._node(request.node).path))
        return fuse.statfs(reply.numbers)

    # The end --------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Answer what waits with EIO, then let the kernel drop the mount. Never hangs on it."""
        self._ended = True
        self._loop.remove_reader(self.mount.device)
        for waiter in itertools.chain.from_iterable(self._fetching.values()):
            waiter.cancel()
        for task in [*self._tasks.values()]:
            task.cancel()
        if self._tasks:
            await asyncio.wait([*self._tasks.values()], timeout=2)
        self._notifier.shutdown(wait=False, cancel_futures=True)


_HANDLERS: dict[int, Callable[[Tree, fuse.Request], Body | Awaitable[Body]]] = {
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
