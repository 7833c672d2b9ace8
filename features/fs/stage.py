"""A file system of stand-ins: empty files whose only use is that the kernel tells what is done to them.

A program that watches a file of the target has its watch on one. It is a FUSE file system, no folder of this
machine's: a name is there as soon as it is looked for, so a file that is changed in the target need not be
made here first, which would be told, too. The kernel says when nobody watches any more (FORGET), once names
that it remembers are taken from it. One thread does all this; the loop answers the kernel and never touches
the mount.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import logging
import os
import stat
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count

from pymirror.features.fs import fuse
from pymirror.features.fs.attr import Attr
from pymirror.features.fs.mount import Mount
from pymirror.features.fs.replay import Do, Place, Step

log = logging.getLogger("pymirror.fs")

_libc = ctypes.CDLL(None, use_errno=True)
ROOT, OUT = 1, 3
"""Nodes: the top, and the folder of what was moved out of all that is watched. A node's bit 1 says that it is
a folder, bit 0 that its number is a stand-in's; the others are of names in one."""
_AWAY = b"out"
_OMIT = (1 << 30) - 2  # UTIME_OMIT
GONE = (errno.ENOENT, errno.ENODEV, errno.EBADF)


class _Time(ctypes.Structure):
    _fields_ = [("sec", ctypes.c_long), ("nsec", ctypes.c_long)]


_TOUCHED = (_Time * 2)(_Time(0, _OMIT), _Time(1, 0))


class Stage:
    """Serves `mount`. unwatched(number): nobody looks at that stand-in. For the loop's thread."""

    def __init__(self, mount: Mount, unwatched: Callable[[int], None]) -> None:
        self.mount, self._unwatched = mount, unwatched
        self._folders: dict[int, bool] = {}  # stand-in → is it one
        self._lookups: dict[int, int] = {}
        self._gone: set[int] = set()
        self._fresh = count(1)
        self._expected: dict[tuple[int, bytes], int] = {}  # what the thread's next step finds
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="fs-stage")
        self._ended = False
        self._buffer = memoryview(bytearray(fuse.READ_BUFFER))
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(mount.device, self._readable)

    def __len__(self) -> int:
        return len(self._folders)

    def add(self, number: int, folder: bool) -> None:
        """A stand-in named by its number; once it is there nothing changes what it is."""
        self._folders.setdefault(number, folder)

    def has(self, number: int) -> bool:
        return number in self._folders

    def is_watched(self, number: int) -> bool:
        return self._lookups.get(_node(number, self._folders.get(number, False)), 0) > 0

    def let_go(self, number: int) -> None:
        """Have the kernel keep it only for those who watch it."""
        if not self._ended:
            self._loop.run_in_executor(self._pool, self._forget_name, b"%d" % number)

    def drop(self, number: int) -> None:
        self._folders.pop(number, None)
        self._gone.discard(number)

    # What is done, by the thread ------------------------------------------------------------

    async def play(self, steps: Sequence[Step]) -> None:
        """Do what the steps say, in order; returns when the kernel has told it all."""
        await self._loop.run_in_executor(self._pool, self._play, steps)

    def _play(self, steps: Sequence[Step]) -> None:
        for step in steps:
            if self._ended:
                return
            try:
                self._do(step)
            except OSError as error:
                log.debug("%s is not told: %s", step, error)
        places = {place for step in steps for place in (step.at, step.to) if place is not None}
        for number in {number for number, _ in places}:
            self._forget_name(b"%d" % number)
        self._forget_name(_AWAY)

    def _forget_name(self, name: bytes) -> None:
        """In the top, with all below it; an inode stays as long as it is watched."""
        self._send(fuse.inval_entry(ROOT, name))

    def _do(self, step: Step) -> None:
        at, to = self._find(step.at), self._find(step.to)
        if at is None:
            return
        self._expected = {} if step.do is Do.MAKE else {at[0]: self._new(step.folder)}
        root, path = self.mount.root, at[1]
        if step.do is Do.MOVE and to is not None:
            os.rename(path, to[1], src_dir_fd=root, dst_dir_fd=root)
        elif step.do is Do.MAKE and step.folder:
            os.mkdir(path, dir_fd=root)
        elif step.do is Do.MAKE:
            os.mknod(path, dir_fd=root)
        elif step.do is Do.REMOVE:
            (os.rmdir if step.folder else os.unlink)(path, dir_fd=root)
        elif step.do is Do.TOUCH:
            _touch(root, path)
        elif step.do is Do.ATTRIB:
            os.chmod(path, 0o700, dir_fd=root)
        elif step.do is Do.CLOSE:
            os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=root))
        elif step.do is Do.LEFT:
            os.rename(path, path + b"-", src_dir_fd=root, dst_dir_fd=root)
            self._forget_name(path + b"-")
        elif step.do is Do.GONE and step.at is not None:
            self._gone.add(step.at[0])  # without a link and a name: the kernel tells it and ends the watches
            os.stat(path, dir_fd=root)
            self._forget_name(path)

    def _find(self, place: Place | None) -> tuple[tuple[int, bytes], bytes] | None:
        """(folder's node, name) and path of a place; elsewhere is a folder nobody watches. None: gone."""
        if place is None:
            name = b"%d" % next(self._fresh)
            return (OUT, name), _AWAY + b"/" + name
        number, name = place
        if number not in self._folders:
            return None
        own = b"%d" % number
        node = _node(number, self._folders[number])
        return ((node, name), own + b"/" + name) if name else ((ROOT, own), own)

    def _new(self, folder: bool) -> int:
        return next(self._fresh) << 2 | folder << 1

    # The kernel's requests, in the loop -----------------------------------------------------

    def _readable(self) -> None:
        for _ in range(32):
            try:
                size = os.readv(self.mount.device, [self._buffer])
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.EINTR):
                    continue
                self._loop.remove_reader(self.mount.device)
                return
            self._serve(fuse.parse(self._buffer[:size]))

    def _serve(self, request: fuse.Request) -> None:
        if request.opcode in (fuse.FORGET, fuse.BATCH_FORGET):
            for node, lookups in fuse.forgets(request):
                self._forget(node, lookups)
        elif request.opcode not in (fuse.INTERRUPT, fuse.DESTROY):
            try:
                self._write(request.unique, self._answer(request))
            except OSError as error:
                self._send(fuse.failure(request.unique, error.errno or errno.EIO))

    def _answer(self, request: fuse.Request) -> bytes:
        if request.opcode == fuse.INIT:
            minor = fuse.INIT_IN.unpack_from(request.body)[1]
            return fuse.INIT_OUT.pack(7, min(minor, 38), 0, 0, 16, 12, 4096, 1, 0, 0, 0)
        if request.opcode == fuse.LOOKUP:
            return self._look_up(request.node, fuse.name_of(request.body))
        if request.opcode in (fuse.MKNOD, fuse.MKDIR):
            return self._entry(self._new(request.opcode == fuse.MKDIR))
        if request.opcode in (fuse.GETATTR, fuse.SETATTR):
            return fuse.attributes(self._attr(request.node), 0)
        if request.opcode == fuse.OPEN:
            return fuse.opened(0, 0)
        if request.opcode in (fuse.UNLINK, fuse.RMDIR, fuse.RENAME, fuse.RENAME2, fuse.FLUSH, fuse.RELEASE):
            return b""
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    def _look_up(self, folder: int, name: bytes) -> bytes:
        if folder == ROOT and name == _AWAY:
            return self._entry(OUT)
        node = self._expected.get((folder, name))
        if folder == ROOT:
            number = int(name) if name.isdigit() else 0
            node = _node(number, self._folders[number]) if number in self._folders else None
        if node is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return self._entry(node)

    def _entry(self, node: int) -> bytes:
        """Valid for no time: the kernel drops the name with its last user, and looks for it anew then."""
        if node & 1:
            self._lookups[node] = self._lookups.get(node, 0) + 1
        return fuse.entry(node, 0, 0, self._attr(node))

    def _attr(self, node: int) -> Attr:
        folder = node in (ROOT, OUT) or bool(node & 2)
        links = 0 if node & 1 and node >> 2 in self._gone else 1 + folder
        mode = stat.S_IFDIR | 0o700 if folder else stat.S_IFREG | 0o700
        return Attr(mode, os.getuid(), os.getgid(), links, node, 0, 0, 0, 0, 0, 0, 0, 0)

    def _forget(self, node: int, lookups: int) -> None:
        left = self._lookups.get(node, 0) - lookups
        if left > 0:
            self._lookups[node] = left
            return
        self._lookups.pop(node, None)
        if node & 1 and node not in (ROOT, OUT):
            self._unwatched(node >> 2)

    def _write(self, unique: int, body: bytes) -> None:
        self._send(fuse.answer_head(unique, len(body)) + body)

    def _send(self, answer: bytes) -> None:
        try:
            os.write(self.mount.device, answer)
        except OSError as error:
            if error.errno not in GONE:
                log.error("an answer was refused by the kernel: %s", error)

    async def aclose(self) -> None:
        """The thread first: the kernel's questions about what it does are answered until then."""
        self._ended = True
        await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)
        self._loop.remove_reader(self.mount.device)


def _node(number: int, folder: bool) -> int:
    return number << 2 | folder << 1 | 1


def _touch(root: int, path: bytes) -> None:
    """The time of the last change alone: told as a change of content."""
    if _libc.utimensat(root, path, _TOUCHED, 0) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
