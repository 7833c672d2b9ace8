"""The agent's side of files: every name is one openat2 that crosses no link and leaves no root.

Links are resolved here, name by name, so `..` and absolute links end in the target's root however
they are laid. Nothing but regular files and directories is ever opened for its content: opening a
FIFO or a device has effects.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pymirror.features.fs.attr import Attr

_OPENAT2 = 437  # one number on every architecture since Linux 5.6
_RESOLVE = 0x02 | 0x04 | 0x08  # NO_MAGICLINKS | NO_SYMLINKS | BENEATH
_libc = ctypes.CDLL(None, use_errno=True)
MOST_LINKS = 40  # as the kernel


class _How(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


def open_name(folder: int, name: bytes, flags: int = os.O_PATH | os.O_NOFOLLOW) -> int:
    """Open one name in the directory `folder` is open on; a link itself, never what it names. OSError."""
    how = _How(flags | os.O_CLOEXEC, 0, _RESOLVE)
    made = _libc.syscall(_OPENAT2, folder, name, ctypes.byref(how), ctypes.sizeof(how))
    if made < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(made)


Watch = Callable[[int, bytes, int], bool]
"""(descriptor, path, device) → changes of it will be told."""


class Spot:
    """A place the walk reached: descriptor (O_PATH), path without links, attributes, link target."""

    __slots__ = ("attr", "fd", "link", "path", "watched")

    def __init__(self, fd: int, path: bytes, watch: Watch) -> None:
        self.fd, self.path, self.link, self.watched = fd, path, b"", False
        self.attr = Attr.of(os.fstat(fd))
        if self.attr.is_dir and watch(fd, path, self.attr.dev):
            # Looked at again now that changes are told: what happened in between is not lost.
            self.watched, self.attr = True, Attr.of(os.fstat(fd))
        if self.attr.is_link:
            self.link = os.readlink(b"", dir_fd=fd)


class WalkFailed(OSError):
    """The walk ended early. missing: the path that could not be reached."""

    def __init__(self, code: int, missing: bytes) -> None:
        super().__init__(code, os.strerror(code))
        self.missing = missing


class Walk:
    """The walk to one path; keeps the descriptors of the way open until `close`."""

    def __init__(self, root: int, watch: Watch) -> None:
        self._watch = watch
        self.spots = [Spot(os.dup(root), b"/", watch)]  # every place seen, in order
        self._here = [self.spots[0]]  # the present way down from the root, for `..`

    def to(self, path: bytes, follow: bool) -> Spot:
        """Go to absolute `path`. WalkFailed, with every place seen so far in `spots`."""
        todo = [name for name in path.split(b"/") if name and name != b"."][::-1]
        must_be_dir = path.endswith((b"/", b"/."))
        links = 0
        while todo:
            name = todo.pop()
            if name == b"..":
                if len(self._here) > 1:
                    self._here.pop()
                continue
            spot = self._down(name)
            if spot.attr.is_link and (todo or follow or must_be_dir):
                links += 1
                if links > MOST_LINKS:
                    raise WalkFailed(errno.ELOOP, spot.path)
                if spot.link.startswith(b"/"):
                    del self._here[1:]
                todo += [n for n in spot.link.split(b"/") if n and n != b"."][::-1]
                continue
            if todo and not spot.attr.is_dir:
                raise WalkFailed(errno.ENOTDIR, spot.path)
            self._here.append(spot)
        last = self._here[-1]
        if must_be_dir and not last.attr.is_dir:
            raise WalkFailed(errno.ENOTDIR, last.path)
        return last

    def _down(self, name: bytes) -> Spot:
        folder = self._here[-1]
        path = folder.path.rstrip(b"/") + b"/" + name
        try:
            spot = Spot(open_name(folder.fd, name), path, self._watch)
        except OSError as error:
            raise WalkFailed(error.errno or errno.EIO, path) from error
        # Its folder's watch tells what happens to a name: a file needs none of its own for that.
        spot.watched = spot.watched or (folder.watched and not spot.attr.is_dir)
        self.spots.append(spot)
        return spot

    def close(self) -> None:
        for spot in self.spots:
            os.close(spot.fd)


@contextmanager
def walking(root: int, watch: Watch) -> Iterator[Walk]:
    """A walk whose descriptors are closed at the end."""
    walk = Walk(root, watch)
    try:
        yield walk
    finally:
        walk.close()


def reopen(spot: Spot) -> int:
    """A descriptor for reading what `spot` is on; only regular files and directories. OSError."""
    kind = stat.S_IFMT(spot.attr.mode)
    if kind not in (stat.S_IFREG, stat.S_IFDIR):
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
    return os.open(f"/proc/self/fd/{spot.fd}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)


def entries(folder: int, path: bytes, watch: Watch) -> list[tuple[bytes, Attr, bytes]]:
    """(name, attributes, link target) of everything in an open directory, in the directory's order.

    Folders in it are watched themselves: what happens inside changes their times, and only they
    are told. What vanishes meanwhile is left out, as readdir and stat one after the other would.
    """
    found = []
    for name in os.listdir(folder):
        text = os.fsencode(name)
        try:
            attr = Attr.of(os.stat(text, dir_fd=folder, follow_symlinks=False))
            link = os.readlink(text, dir_fd=folder) if attr.is_link else b""
            if attr.is_dir:
                attr = _watched_folder(folder, text, path, watch)
        except OSError:
            continue
        found.append((text, attr, link))
    return found


def _watched_folder(folder: int, name: bytes, path: bytes, watch: Watch) -> Attr:
    fd = open_name(folder, name)
    try:
        return Spot(fd, path.rstrip(b"/") + b"/" + name, watch).attr
    finally:
        os.close(fd)


def read(fd: int, offset: int, size: int) -> bytes:
    """Up to `size` bytes; less only at the end of the file."""
    parts = []
    while size:
        part = os.pread(fd, size, offset)
        if not part:
            break
        parts.append(part)
        offset += len(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
