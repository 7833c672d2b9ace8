"""The kernel's requests that change files: one question to the agent each, whose answer tells all it did.

Whether a path may be changed in the target is the rules' to say, for every request: a descriptor, and a path
from inside the tree, come here without the engine's having asked. Nothing here is taken back when a signal
comes: it is over there by then. A request's body is read at once, since the next one comes into the same
memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import stat
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from pymirror.features.fs import fuse
from pymirror.features.fs import fuse_changes as fc
from pymirror.features.fs import messages as m
from pymirror.features.fs.attr import Attr
from pymirror.features.fs.cache import Node
from pymirror.features.fs.extended import Extended
from pymirror.features.fs.questions import Questions
from pymirror.features.fs.written import File, Writes

log = logging.getLogger("pymirror.fs")

T = TypeVar("T")
Entry = Callable[[Node, Node, Attr], bytes]
SYNCED = os.O_SYNC | os.O_DSYNC


class Changing:
    """writable(path): may the target's be changed? entry: see Tree. dirtied(node): it has other content."""

    def __init__(
        self,
        questions: Questions,
        writable: Callable[[bytes], bool],
        entry: Entry,
        dirtied: Callable[[Node], None],
    ) -> None:
        self.questions, self.cache = questions, questions.cache
        self.writes = Writes(questions)
        self.extended = Extended(questions, self.writes, self._allow)
        self._writable, self._entry, self._dirtied = writable, entry, dirtied

    def _node(self, number: int) -> Node:
        node = self.cache.by_number.get(number)
        if node is None:
            raise _error(errno.ESTALE)
        return node

    def _folder(self, number: int, name: bytes) -> tuple[Node, bytes]:
        """The folder, and the path of a name in it that may be changed. OSError."""
        folder = self._node(number)
        path = folder.path.rstrip(b"/") + b"/" + name
        self._allow(path)
        if self.cache.by_path.get(folder.path) is not folder:
            raise _error(errno.ENOENT)  # it was removed while it was somebody's working folder
        return folder, path

    def _allow_node(self, node: Node) -> None:
        """Every name of it that is known may be changed; a file without a name is the program's own."""
        for path in node.names or ({node.path} if node.path else ()):
            self._allow(path)

    def _allow(self, path: bytes) -> None:
        if not self._writable(path):
            raise _error(errno.EROFS)

    # Names ----------------------------------------------------------------------------------

    def mkdir(self, request: fuse.Request) -> Awaitable[bytes]:
        mode, name = fc.made_folder(request.body)
        folder, path = self._folder(request.node, name)
        return self._made(folder, path, m.Make(path, stat.S_IFDIR | stat.S_IMODE(mode)))

    def mknod(self, request: fuse.Request) -> Awaitable[bytes]:
        mode, rdev, name = fc.made_node(request.body)
        folder, path = self._folder(request.node, name)
        return self._made(folder, path, m.Make(path, mode, rdev))

    def symlink(self, request: fuse.Request) -> Awaitable[bytes]:
        name, link = fc.made_link(request.body)
        folder, path = self._folder(request.node, name)
        return self._made(folder, path, m.Make(path, stat.S_IFLNK | 0o777, 0, link))

    def link(self, request: fuse.Request) -> Awaitable[bytes]:
        number, name = fc.named(request.body)
        folder, path = self._folder(request.node, name)
        node = self._node(number)
        file = self.writes.of(node)
        if self.cache.by_path.get(node.path) is node:
            self._allow_node(node)
            return self._linked(folder, path, node, m.Link(node.path, path))
        if file is None:
            raise _error(errno.ENOENT)
        named = partial(self.cache.give_name, node, path)
        return self._linked(folder, path, node, m.Link(b"", path, file.handle), named)

    async def _linked(
        self, folder: Node, path: bytes, node: Node, message: m.Link, named: Callable[[], None] = lambda: None
    ) -> bytes:
        """Who finds the new name finds all that was written before."""
        await self.writes.settle_all(node)
        await self.questions.sure(folder)
        await self.questions.change(message, named)
        return self._shown(folder, path)

    async def _made(self, folder: Node, path: bytes, message: m.Make) -> bytes:
        await self.questions.sure(folder)
        await self.questions.change(message)
        return self._shown(folder, path)

    def _shown(self, folder: Node, path: bytes) -> bytes:
        node = self.cache.by_path.get(path)
        if node is None:
            raise _error(errno.ESTALE)  # gone again
        return self._entry(folder, node, node.attr)

    def unlink(self, request: fuse.Request) -> Awaitable[bytes]:
        return self._removed(request, folder=False)

    def rmdir(self, request: fuse.Request) -> Awaitable[bytes]:
        return self._removed(request, folder=True)

    def _removed(self, request: fuse.Request, folder: bool) -> Awaitable[bytes]:
        inside, path = self._folder(request.node, fuse.name_of(request.body))
        return self._changed(m.Remove(path, folder), inside)

    async def _changed(
        self, message: object, *folders: Node, moved: Callable[[], None] = lambda: None
    ) -> bytes:
        await self.questions.sure(*folders)
        await self.questions.change(message, moved)
        return b""

    def rename(self, request: fuse.Request) -> Awaitable[bytes]:
        number, flags, old_name, new_name = fc.renamed(request.body, request.opcode == fuse.RENAME2)
        one, old = self._folder(request.node, old_name)
        other, new = self._folder(number, new_name)

        def moved() -> None:
            (self.cache.exchange if flags & m.EXCHANGE else self.cache.move)(old, new)

        return self._changed(m.Rename(old, new, flags), one, other, moved=moved)

    # Attributes -----------------------------------------------------------------------------

    def set_attributes(self, request: fuse.Request) -> Awaitable[bytes]:
        node, wanted = self._node(request.node), fc.new_attributes(request.body)
        self._allow_node(node)
        return self._set(node, wanted)

    async def _set(self, node: Node, wanted: fc.NewAttributes) -> bytes:
        await self.writes.settle_all(node)
        file = self.writes.get(wanted.handle) or self.writes.of(node)
        named = self.cache.by_path.get(node.path) is node
        if named and not wanted.handle:
            await self.questions.sure(node)
        if file is None and not named:
            raise _error(errno.ESTALE)
        values = wanted[1:]
        if file is not None and (wanted.handle or not named):
            await self.questions.changed(node, m.SetAttr(node.path, file.handle, *values))
        else:
            await self.questions.change(m.SetAttr(node.path, 0, *values))
        self.extended.forget(node)  # modes are in the access list, too
        if wanted.size != m.KEEP:
            self._dirtied(node)
        valid = fuse.FOREVER if node.current else 0
        return fuse.attributes(node.attr, valid)

    # Open files -----------------------------------------------------------------------------

    def create(self, request: fuse.Request) -> Awaitable[bytes]:
        flags, mode, name = fc.created(request.body)
        folder, path = self._folder(request.node, name)
        return self._created(folder, path, flags, stat.S_IMODE(mode))

    async def _created(self, folder: Node, path: bytes, flags: int, mode: int) -> bytes:
        await self.questions.sure(folder)
        done = await self.questions.change(m.Open(path, flags | os.O_CREAT, mode))
        if path not in self.cache.by_path:
            self.questions.let_go(done.handle)
        shown = self._shown(folder, path)
        return shown + self._opened(self.cache.by_path[path], done, flags)

    def tmpfile(self, request: fuse.Request) -> Awaitable[bytes]:
        flags, mode, name = fc.created(request.body)
        folder, _ = self._folder(request.node, name.lstrip(b"/"))
        return self._nameless(folder, flags, stat.S_IMODE(mode))

    async def _nameless(self, folder: Node, flags: int, mode: int) -> bytes:
        done = await self.questions.change(m.Open(folder.path, flags | os.O_TMPFILE, mode))
        node = self.cache.nameless(Attr.unpack(done.steps[0].attr))
        shown = fuse.entry(node.number, 1, 0, node.attr)
        self.cache.told(node)
        return shown + self._opened(node, done, flags)

    def open(self, node: Node, flags: int) -> Awaitable[bytes]:
        """One that is there, for writing. A signal does not take it back: it is open over there by then."""
        self._allow_node(node)
        return _to_its_end(self._open(node, flags))

    async def _open(self, node: Node, flags: int) -> bytes:
        await self.writes.settle_all(node)
        if self.cache.by_path.get(node.path) is not node:
            raise _error(errno.ESTALE)
        await self.questions.sure(node)
        done = await self.questions.change(m.Open(node.path, flags & ~(os.O_CREAT | os.O_EXCL)))
        if self.cache.by_path.get(node.path) is not node:
            self.questions.let_go(done.handle)
            raise _error(errno.ESTALE)
        if flags & os.O_TRUNC:
            self._dirtied(node)
        return self._opened(node, done, flags)

    def _opened(self, node: Node, done: m.Done, flags: int) -> bytes:
        file = self.writes.open(node, done.handle, done.lasting, bool(flags & SYNCED))
        node.opens += 1
        # Where a write lands is the target's to say: the kernel's pages would have it where it thinks.
        direct = fuse.FOPEN_DIRECT_IO if flags & os.O_APPEND else fuse.FOPEN_KEEP_CACHE
        return fuse.opened(file.number, direct)

    def _file(self, number: int) -> File:
        file = self.writes.get(number)
        if file is None:
            raise _error(errno.EBADF)
        return file

    def write(self, request: fuse.Request) -> bytes | Awaitable[bytes]:
        got = fc.written(request.body)
        file = self._file(got.handle)
        self.writes.raised(file)
        append = bool(got.flags & os.O_APPEND) and not got.mapped
        if not file.synced and self.writes.put(file, got.offset, got.data, append):
            self._changes(file)
            return fc.write_answer(len(got.data))
        return self._write_later(file, got.offset, bytes(got.data), append)

    def _changes(self, file: File) -> None:
        """Reads go past what is kept of a file as long as it is open for writing: once is enough, mostly."""
        node = file.node
        if not file.changed or node.data is not None or node.head:
            file.changed = True
            self._dirtied(node)

    async def _write_later(self, file: File, offset: int, data: bytes, append: bool) -> bytes:
        while not self.writes.put(file, offset, data, append):
            await self.writes.progress(file)
        self._changes(file)
        if file.synced:
            await _to_its_end(self.writes.settle(file))
            self.writes.raised(file)
        return fc.write_answer(len(data))

    async def read(self, node: Node, file: File | None, offset: int, size: int) -> bytes:
        """What is there by now. file: it is read by this one; None: by one that was opened to read."""
        await self.writes.settle_all(node)
        if file is None:
            return await self.questions.read(node, offset, min(size, m.MOST_READ))
        reply: m.Data = await self.questions.ask(m.Read(file.handle, offset, min(size, m.MOST_READ)))
        return reply.data

    async def attributes(self, node: Node, file: File) -> bytes:
        """Of an open file, whatever its name is by now."""
        await self.writes.settle_all(node)
        if not node.current:
            await self.questions.changed(node, m.Refresh(file.handle))
        return fuse.attributes(node.attr, fuse.FOREVER if node.current else 0)

    def flush(self, request: fuse.Request) -> bytes | Awaitable[bytes]:
        file = self.writes.get(fc.handle_of(request.body))
        if file is None:
            return b""
        if not file.size and file.lasting:
            return self._closed(file, request.thread)
        return self.flushed(file, request.thread)

    async def flushed(self, file: File, thread: int) -> bytes:
        await self.writes.settle(file)
        if not file.lasting and not _ours(thread):
            await self.questions.changed(file.node, m.Sync(file.handle, close=True))
        return self._closed(file, thread)

    def _closed(self, file: File, thread: int) -> bytes:
        if self.writes.failing(file) and not _ours(thread):
            self.writes.raised(file)
        return b""

    def fsync(self, request: fuse.Request) -> bytes | Awaitable[bytes]:
        file = self.writes.get(fc.handle_of(request.body))
        node = self._node(request.node)
        return self._fsync(node, file, fc.sync_data(request.body))

    async def _fsync(self, node: Node, file: File | None, data: bool) -> bytes:
        """By a descriptor for reading, too: what was written by others is on its disk then."""
        await self.writes.settle_all(node)
        by = file or self.writes.of(node)
        handle = by.handle if by is not None else node.handle
        if handle and self._writable(node.path):
            await self.questions.changed(node, m.Sync(handle, data=data))
        if file is not None:
            self.writes.raised(file)
        return b""

    async def fsync_folder(self, request: fuse.Request) -> bytes:
        folder = self._node(request.node)
        if self._writable(folder.path):
            await self.questions.ask(m.Sync(0, folder=folder.path))
        return b""

    def allocate(self, request: fuse.Request) -> Awaitable[bytes]:
        handle, offset, size, mode = fc.allocated(request.body)
        file = self._file(handle)
        return self._allocate(file, m.Allocate(file.handle, mode, offset, size))

    async def _allocate(self, file: File, message: m.Allocate) -> bytes:
        await self.writes.settle_all(file.node)
        await self.questions.changed(file.node, message)
        self._dirtied(file.node)
        return b""

    def seek(self, request: fuse.Request) -> Awaitable[bytes]:
        return self._seek(self._node(request.node), *fc.sought(request.body))

    async def _seek(self, node: Node, number: int, offset: int, whence: int) -> bytes:
        await self.writes.settle_all(node)
        file = self.writes.get(number)
        handle = file.handle if file else node.handle
        if not handle:
            raise _error(errno.ENOSYS)  # the kernel takes the file for one without holes
        found: m.Sought = await self.questions.ask(m.Seek(handle, offset, whence))
        return fc.sought_answer(found.offset)

    async def release(self, file: File) -> None:
        """The last descriptor is gone. What is still to be written is written."""
        await self.writes.settle(file)
        self.writes.closed(file)
        self.questions.let_go(file.handle)
        self.cache.closed(file.node)

    async def aclose(self, limit: float) -> None:
        """All that was taken arrives, if it does so within `limit` seconds."""
        settling = [asyncio.ensure_future(self.writes.settle(file)) for file in self.writes.files()]
        if settling:
            _, late = await asyncio.wait(settling, timeout=limit)
            for task in late:
                task.cancel()
        for file in self.writes.files():
            code = self.writes.untold(file.node)
            if file.size or code:
                why = os.strerror(code) if code else "the target did not answer in time"
                log.warning("%s: not all that was written arrived: %s", os.fsdecode(file.node.path), why)


async def _to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Whatever signal comes: what has been taken must not be said to have been interrupted."""
    task = asyncio.ensure_future(work)
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(task)
    return task.result()


def _ours(thread: int) -> bool:
    """The engine closes its copy of a descriptor when the program has it and may have written by it already:
    that close is told no error, for it would be lost."""
    return bool(thread) and os.path.exists(f"/proc/self/task/{thread}")


def _error(code: int) -> OSError:
    return OSError(code, os.strerror(code))


HANDLERS: dict[int, Callable[[Changing, fuse.Request], bytes | Awaitable[bytes]]] = {
    fuse.SETATTR: Changing.set_attributes,
    fuse.SYMLINK: Changing.symlink,
    fuse.MKNOD: Changing.mknod,
    fuse.MKDIR: Changing.mkdir,
    fuse.UNLINK: Changing.unlink,
    fuse.RMDIR: Changing.rmdir,
    fuse.RENAME: Changing.rename,
    fuse.RENAME2: Changing.rename,
    fuse.LINK: Changing.link,
    fuse.CREATE: Changing.create,
    fuse.TMPFILE: Changing.tmpfile,
    fuse.WRITE: Changing.write,
    fuse.FSYNC: Changing.fsync,
    fuse.FSYNCDIR: Changing.fsync_folder,
    fuse.FALLOCATE: Changing.allocate,
    fuse.LSEEK: Changing.seek,
}
