"""Extended attributes of the target's files, access lists among them: shown and changed as its kernel says.

The kernel keeps none of them and asks for each: `ls -l` of every file's access list, a first write for the
rights it would take away. Of a file that is known to have none nobody is asked. A value comes whole and is
kept until there is news of the file, as who wants it asks for its size first.
As long as no file with a label or an access list was seen, there are none here (EOPNOTSUPP): `ls` asks once.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable

from pymirror.features.fs import fuse
from pymirror.features.fs import fuse_changes as fc
from pymirror.features.fs import messages as m
from pymirror.features.fs.cache import Node
from pymirror.features.fs.marks import UNTOLD, unseen
from pymirror.features.fs.questions import Questions
from pymirror.features.fs.written import Writes

MOST_KEPT = 4 << 20
"""Bytes of values; then all go."""
OVERHEAD = 200
LIST = b""
"""In place of a name: the names of all."""

Kept = dict[bytes, bytes | None]
"""Values by name; None: there is no such attribute."""


class Extended:
    """allow(path): OSError unless the target's file may be changed."""

    def __init__(self, questions: Questions, writes: Writes, allow: Callable[[bytes], None]) -> None:
        self._questions, self._writes, self._allow = questions, writes, allow
        self._kept: dict[int, Kept] = {}  # by their node's number
        self._size = 0

    def forget(self, node: Node) -> None:
        """There is news of it."""
        node.extended = UNTOLD
        self._kept.pop(node.number, None)

    # Reading --------------------------------------------------------------------------------

    def get(self, node: Node, request: fuse.Request) -> bytes | Awaitable[bytes]:
        return self._read(node, fuse.xattr_name(request.body), fuse.xattr_size(request.body))

    def list(self, node: Node, request: fuse.Request) -> bytes | Awaitable[bytes]:
        return self._read(node, LIST, fuse.xattr_size(request.body))

    def _read(self, node: Node, name: bytes, size: int) -> bytes | Awaitable[bytes]:
        if self._named(node):
            if node.lacks(name):
                if unseen(self._questions.cache.marked, name):
                    raise _error(errno.EOPNOTSUPP)
                return _answer(None if name else b"", size)
            kept = self._kept.get(node.number)
            if kept is not None and name in kept and node.current:
                return _answer(kept[name], size)
        return self._read_there(node, name, size)

    async def _read_there(self, node: Node, name: bytes, size: int) -> bytes:
        await self._writes.settle_all(node)
        kept = self._kept.setdefault(node.number, {})
        value = await self._asked(node, name)
        if self._kept.get(node.number) is kept and node.current:
            kept[name] = value
            self._size += len(value or b"") + len(name) + OVERHEAD
            if self._size > MOST_KEPT:
                self._kept.clear()
                self._size = 0
        return _answer(value, size)

    async def _asked(self, node: Node, name: bytes) -> bytes | None:
        path, handle = self._place(node)
        question = m.GetXattr(path, handle, name) if name else m.ListXattr(path, handle)
        try:
            reply: m.Xattr = await self._questions.ask(question)
        except OSError as error:
            if error.errno == errno.ENODATA:
                return None
            raise _known(error) from error
        return reply.value

    # Changing -------------------------------------------------------------------------------

    def set(self, node: Node, request: fuse.Request) -> Awaitable[bytes]:
        flags, name, value = fc.new_xattr(request.body)
        return self._change(node, lambda path, handle: m.SetXattr(path, handle, name, value, flags))

    def remove(self, node: Node, request: fuse.Request) -> Awaitable[bytes]:
        name = fuse.name_of(request.body)
        return self._change(node, lambda path, handle: m.RemoveXattr(path, handle, name))

    async def _change(self, node: Node, message: Callable[[bytes, int], object]) -> bytes:
        if node.path:
            self._allow(node.path)
        await self._writes.settle_all(node)
        path, handle = self._place(node)
        try:
            if handle:
                await self._questions.changed(node, message(path, handle))
                node.extended = UNTOLD
            else:
                await self._questions.change(message(path, handle))
        except OSError as error:
            raise _known(error) from error
        finally:
            self._kept.pop(node.number, None)
        return b""

    # Which file -----------------------------------------------------------------------------

    def _named(self, node: Node) -> bool:
        return self._questions.cache.by_path.get(node.path) is node

    def _place(self, node: Node) -> tuple[bytes, int]:
        """Its path, or the handle of one that is open and has no name any more. OSError."""
        if self._named(node):
            return node.path, 0
        file = self._writes.of(node)
        handle = file.handle if file else node.handle
        if not handle:
            raise _error(errno.ESTALE)
        return node.path, handle


def _answer(value: bytes | None, size: int) -> bytes:
    """As getxattr(2) with room for `size` bytes."""
    if value is None:
        raise _error(errno.ENODATA)
    if not size:
        return fuse.xattr_needs(len(value))
    if len(value) > size:
        raise _error(errno.ERANGE)
    return value


def _known(error: OSError) -> OSError:
    """ENOSYS would have the kernel never ask again."""
    return _error(errno.EOPNOTSUPP if error.errno == errno.ENOSYS else error.errno or errno.EIO)


def _error(code: int) -> OSError:
    return OSError(code, os.strerror(code))


READING = frozenset({fuse.GETXATTR, fuse.LISTXATTR})
"""Those that a signal may end."""
HANDLERS: dict[int, Callable[[Extended, Node, fuse.Request], bytes | Awaitable[bytes]]] = {
    fuse.GETXATTR: Extended.get,
    fuse.LISTXATTR: Extended.list,
    fuse.SETXATTR: Extended.set,
    fuse.REMOVEXATTR: Extended.remove,
}
