"""What changes the target's tree, one system call each. For threads that have an `Owner` on.

A folder is found by one openat2 that crosses no link: the kernel on the other side has resolved them, and
where one has come up since, the path is stale. Only regular files are opened, as others' open has effects.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from pymirror.core.below import BENEATH, NO_MAGICLINKS, NO_SYMLINKS, open_below
from pymirror.core.syscalls import syscall
from pymirror.features.fs import messages as m
from pymirror.features.fs.walk import open_name

A = TypeVar("A")

_STAYS = NO_MAGICLINKS | NO_SYMLINKS | BENEATH
_FLAGS = os.O_ACCMODE | os.O_TRUNC | os.O_SYNC | os.O_DSYNC | os.O_NOATIME
"""Of those asked for: O_APPEND is each write's own (`write`), O_DIRECT would be about memory over there."""
_ALWAYS = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
RACES = 8
"""Times an open begins again because the name came or went meanwhile."""
_EMPTY_PATH = 0x1000
_UTIME_NOW, _UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
_NS = 1_000_000_000

_libc = ctypes.CDLL(None, use_errno=True)


class _Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


def folder_and_name(path: bytes) -> tuple[bytes, bytes]:
    """`/a/b` → `/a`, `b`. EINVAL for a path that names nothing in a folder."""
    folder, _, name = path.rpartition(b"/")
    if not path.startswith(b"/") or name in (b"", b".", b".."):
        raise _error(errno.EINVAL)
    return folder or b"/", name


@contextmanager
def _folder(root: int, path: bytes) -> Iterator[int]:
    try:
        fd = open_below(root, path.lstrip(b"/") or b".", os.O_PATH | os.O_DIRECTORY, _STAYS)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _error(errno.ESTALE) from error
        raise
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _place(root: int, path: bytes) -> Iterator[tuple[int, bytes]]:
    folder, name = folder_and_name(path)
    with _folder(root, folder) as fd:
        yield fd, name


def _error(code: int) -> OSError:
    return OSError(code, os.strerror(code))


# Names -----------------------------------------------------------------------------------------


def make(root: int, asked: m.Make) -> None:
    """mkdir, symlink, mknod. OSError."""
    with _place(root, asked.path) as (folder, name):
        kind = stat.S_IFMT(asked.mode)
        if kind == stat.S_IFDIR:
            os.mkdir(name, stat.S_IMODE(asked.mode), dir_fd=folder)
        elif kind == stat.S_IFLNK:
            os.symlink(asked.link, name, dir_fd=folder)
        else:
            os.mknod(name, asked.mode, asked.rdev, dir_fd=folder)


def link(root: int, asked: m.Link) -> None:
    """A further name. OSError."""
    with _place(root, asked.old) as (old, old_name), _place(root, asked.new) as (new, name):
        os.link(old_name, name, src_dir_fd=old, dst_dir_fd=new, follow_symlinks=False)


def link_open(fd: int, root: int, asked: m.Link) -> None:
    """A name for an open file. OSError."""
    with _place(root, asked.new) as (folder, name):
        os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=folder, follow_symlinks=True)


def remove(root: int, asked: m.Remove) -> None:
    """unlink, rmdir. OSError."""
    with _place(root, asked.path) as (folder, name):
        if asked.folder:
            os.rmdir(name, dir_fd=folder)
        else:
            os.unlink(name, dir_fd=folder)


def rename(root: int, asked: m.Rename) -> bool:
    """renameat2; is one of both a folder? OSError."""
    with _place(root, asked.old) as (old, old_name), _place(root, asked.new) as (new, new_name):
        syscall("renameat2", old, old_name, new, new_name, asked.flags)
        places = [(new_name, new)] + [(old_name, old)] * bool(asked.flags & m.EXCHANGE)
        return any(map(_is_folder, places))


def _is_folder(place: tuple[bytes, int]) -> bool:
    """Where it is gone again, too: it may have been one."""
    try:
        return stat.S_ISDIR(os.stat(place[0], dir_fd=place[1], follow_symlinks=False).st_mode)
    except OSError:
        return True


# Attributes ------------------------------------------------------------------------------------


def on_path(root: int, path: bytes, work: Callable[[int, A], None], asked: A) -> None:
    """`work` with a descriptor (O_PATH) of what is there. OSError."""
    if path == b"/":
        work(root, asked)
        return
    with _place(root, path) as (folder, name):
        fd = open_name(folder, name)
        try:
            work(fd, asked)
        finally:
            os.close(fd)


def set_attributes(root: int, asked: m.SetAttr) -> None:
    """By path. OSError."""
    on_path(root, asked.path, _set, asked)


def set_xattr(fd: int, asked: m.SetXattr) -> None:
    """Of what `fd` is on. OSError."""
    os.setxattr(f"/proc/self/fd/{fd}", asked.name, asked.value, asked.flags)


def remove_xattr(fd: int, asked: m.RemoveXattr) -> None:
    """The same."""
    os.removexattr(f"/proc/self/fd/{fd}", asked.name)


def _set(fd: int, asked: m.SetAttr) -> None:
    """Of what `fd` (O_PATH) is on."""
    file = f"/proc/self/fd/{fd}"
    is_link = stat.S_ISLNK(os.fstat(fd).st_mode)
    if asked.size != m.KEEP:
        os.truncate(file, asked.size)
    if (asked.uid, asked.gid) != (m.KEEP, m.KEEP):
        _own(fd, asked.uid, asked.gid)
    if asked.mode != m.KEEP:
        if is_link:
            raise _error(errno.EOPNOTSUPP)
        os.chmod(file, stat.S_IMODE(asked.mode))
    if (asked.atime, asked.mtime) != (m.KEEP, m.KEEP):
        _set_times(fd, asked)


def _own(fd: int, uid: int, gid: int) -> None:
    """fchownat with an empty path, which takes descriptors of links too."""
    made = _libc.fchownat(
        fd, b"", ctypes.c_uint(uid & 0xFFFFFFFF), ctypes.c_uint(gid & 0xFFFFFFFF), _EMPTY_PATH
    )
    if made != 0:
        raise _error(ctypes.get_errno())


def set_attributes_of(fd: int, asked: m.SetAttr) -> None:
    """Of an open file. OSError."""
    if asked.size != m.KEEP:
        os.ftruncate(fd, asked.size)
    if (asked.uid, asked.gid) != (m.KEEP, m.KEEP):
        os.fchown(fd, asked.uid, asked.gid)
    if asked.mode != m.KEEP:
        os.fchmod(fd, stat.S_IMODE(asked.mode))
    if (asked.atime, asked.mtime) != (m.KEEP, m.KEEP):
        _set_times(fd, asked)


def _set_times(fd: int, asked: m.SetAttr) -> None:
    times = (_Timespec * 2)(_timespec(asked.atime), _timespec(asked.mtime))
    if _libc.utimensat(fd, b"", times, _EMPTY_PATH) != 0:
        raise _error(ctypes.get_errno())


def _timespec(time: int) -> _Timespec:
    if time in (m.KEEP, m.NOW):
        return _Timespec(0, _UTIME_OMIT if time == m.KEEP else _UTIME_NOW)
    return _Timespec(time // _NS, time % _NS)


# Content ---------------------------------------------------------------------------------------


def open_file(root: int, asked: m.Open) -> int:
    """A descriptor for it, the caller's. OSError."""
    flags = asked.flags & _FLAGS | _ALWAYS
    if asked.flags & os.O_TMPFILE == os.O_TMPFILE:
        with _folder(root, asked.path) as folder:
            return os.open(b".", flags | os.O_TMPFILE | asked.flags & os.O_EXCL, asked.mode, dir_fd=folder)
    with _place(root, asked.path) as (folder, name):
        for _ in range(RACES):
            fd = _open_there(folder, name, asked, flags)
            if fd >= 0:
                return fd
    raise _error(errno.ESTALE)


def _open_there(folder: int, name: bytes, asked: m.Open, flags: int) -> int:
    """-1: it came while it was made."""
    try:
        found = open_name(folder, name)
    except FileNotFoundError:
        if not asked.flags & os.O_CREAT:
            raise
        try:
            return os.open(name, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, asked.mode, dir_fd=folder)
        except FileExistsError:
            if asked.flags & os.O_EXCL:
                raise
            return -1
    try:
        if asked.flags & os.O_CREAT and asked.flags & os.O_EXCL:
            raise _error(errno.EEXIST)
        return _reopen(found, asked, flags)
    finally:
        os.close(found)


def _reopen(found: int, asked: m.Open, flags: int) -> int:
    kind = stat.S_IFMT(os.fstat(found).st_mode)
    if kind != stat.S_IFREG:
        raise _error({stat.S_IFDIR: errno.EISDIR, stat.S_IFLNK: errno.ELOOP}.get(kind, errno.ENXIO))
    place = f"/proc/self/fd/{found}"
    try:
        return os.open(place, flags)
    except PermissionError as error:
        if error.errno != errno.EPERM or not asked.flags & os.O_APPEND:
            raise
        return os.open(
            place, flags | os.O_APPEND
        )  # an append-only file (chattr +a) is opened for nothing else


def write(fd: int, asked: m.Write) -> None:
    """All of it. OSError, and some of it may be there."""
    rest, offset = memoryview(asked.data), asked.offset
    flags = os.RWF_APPEND if asked.append else 0
    while rest:
        size = os.pwritev(fd, [rest], offset, flags)
        rest, offset = rest[size:], offset + size


def sync(fd: int, asked: m.Sync) -> None:
    """What the kernel has of it is on its disk; or what a close says. OSError."""
    if asked.close:
        os.close(os.dup(fd))
    elif asked.data:
        os.fdatasync(fd)
    else:
        os.fsync(fd)


def sync_folder(root: int, path: bytes) -> None:
    """Its names are on its disk. OSError."""
    with _folder(root, path) as fd:
        own = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(own)
        finally:
            os.close(own)


def allocate(fd: int, asked: m.Allocate) -> None:
    """fallocate(2), all modes. OSError."""
    if _libc.fallocate(fd, asked.mode, ctypes.c_long(asked.offset), ctypes.c_long(asked.size)) != 0:
        raise _error(ctypes.get_errno())
