"""The part of the kernel's FUSE protocol (include/uapi/linux/fuse.h) that changes files. Pure, as fuse.py."""

from __future__ import annotations

import stat
import struct
from typing import NamedTuple

from pymirror.features.fs import messages as m

_SETATTR_IN = struct.Struct("<IIQQQQQQIIIIIII")
_WRITE_IN = struct.Struct("<QQIIQII")
_CREATE_IN = struct.Struct("<IIII")
_MKNOD_IN = struct.Struct("<IIII")
_FALLOCATE_IN = struct.Struct("<QQQI")
_LSEEK_IN = struct.Struct("<QQI")
_LK_IN = struct.Struct("<QQQQIIII")
_LK_OUT = struct.Struct("<QQII")
_WRITE_OUT = struct.Struct("<II")

_MODE, _UID, _GID, _SIZE, _ATIME, _MTIME, _FH, _ATIME_NOW, _MTIME_NOW = (1 << bit for bit in range(9))
_WRITE_CACHE = 1
_LK_FLOCK, _RELEASE_FLOCK = 1 << 0, 1 << 1
FSYNC_DATA = 1
NS = 1_000_000_000


class NewAttributes(NamedTuple):
    """What SETATTR asks for; handle: of an open file, or 0. The rest as messages.SetAttr."""

    handle: int
    mode: int
    uid: int
    gid: int
    size: int
    atime: int
    mtime: int


def new_attributes(body: memoryview) -> NewAttributes:
    """Of SETATTR."""
    valid, _, handle, size, _, atime, mtime, _, atime_ns, mtime_ns, _, mode, _, uid, gid = (
        _SETATTR_IN.unpack_from(body)
    )

    def if_valid(bit: int, value: int) -> int:
        return value if valid & bit else m.KEEP

    return NewAttributes(
        handle if valid & _FH else 0,
        if_valid(_MODE, stat.S_IMODE(mode)),
        if_valid(_UID, uid),
        if_valid(_GID, gid),
        if_valid(_SIZE, size),
        if_valid(_ATIME, m.NOW if valid & _ATIME_NOW else _time(atime, atime_ns)),
        if_valid(_MTIME, m.NOW if valid & _MTIME_NOW else _time(mtime, mtime_ns)),
    )


def _time(seconds: int, nanoseconds: int) -> int:
    """Nanoseconds since 1970; the kernel's seconds have a sign. What -1 and -2 mean otherwise is avoided."""
    time = (seconds - (1 << 64) if seconds >> 63 else seconds) * NS + nanoseconds
    return -1000 if time in (m.KEEP, m.NOW) else time


class Written(NamedTuple):
    """What WRITE brings. flags: the file's, as open(2). mapped: pages of a shared mapping, not a write(2)."""

    handle: int
    offset: int
    data: memoryview
    flags: int
    mapped: bool


def written(body: memoryview) -> Written:
    """Of WRITE; the data is the request's own memory."""
    handle, offset, size, write_flags, _, flags, _ = _WRITE_IN.unpack_from(body)
    return Written(
        handle, offset, body[_WRITE_IN.size : _WRITE_IN.size + size], flags, bool(write_flags & _WRITE_CACHE)
    )


def write_answer(size: int) -> bytes:
    return _WRITE_OUT.pack(size, 0)


def created(body: memoryview) -> tuple[int, int, bytes]:
    """(flags, mode, name) of CREATE and TMPFILE."""
    flags, mode, _, _ = _CREATE_IN.unpack_from(body)
    return flags, mode, _name(body, _CREATE_IN.size)


def opening(body: memoryview) -> int:
    """The flags of OPEN, as open(2)."""
    return int.from_bytes(body[:4], "little")


def made_node(body: memoryview) -> tuple[int, int, bytes]:
    """(mode, rdev, name) of MKNOD."""
    mode, rdev, _, _ = _MKNOD_IN.unpack_from(body)
    return mode, rdev, _name(body, _MKNOD_IN.size)


def made_folder(body: memoryview) -> tuple[int, bytes]:
    """(mode, name) of MKDIR."""
    return int.from_bytes(body[:4], "little"), _name(body, 8)


def made_link(body: memoryview) -> tuple[bytes, bytes]:
    """(name, target) of SYMLINK."""
    name, target, _ = bytes(body).split(b"\0", 2)
    return name, target


def named(body: memoryview) -> tuple[int, bytes]:
    """(node of the file, new name) of LINK."""
    return int.from_bytes(body[:8], "little"), _name(body, 8)


def renamed(body: memoryview, flags: bool) -> tuple[int, int, bytes, bytes]:
    """(node of the new folder, flags, old name, new name) of RENAME, and RENAME2, which has flags."""
    old, new, _ = bytes(body[16 if flags else 8 :]).split(b"\0", 2)
    return int.from_bytes(body[:8], "little"), int.from_bytes(body[8:12], "little") if flags else 0, old, new


def handle_of(body: memoryview) -> int:
    """Of FLUSH, FSYNC, RELEASE and all others that begin with it."""
    return int.from_bytes(body[:8], "little")


def handle_asked(body: memoryview) -> int:
    """Of GETATTR, 0 where it is not about an open file."""
    return int.from_bytes(body[8:16], "little") if body[0] & 1 else 0


def sync_data(body: memoryview) -> bool:
    """FSYNC is fdatasync."""
    return bool(body[8] & FSYNC_DATA)


def allocated(body: memoryview) -> tuple[int, int, int, int]:
    """(handle, offset, size, mode) of FALLOCATE."""
    handle, offset, size, mode = _FALLOCATE_IN.unpack_from(body)
    return handle, offset, size, mode


def sought(body: memoryview) -> tuple[int, int, int]:
    """(handle, offset, whence) of LSEEK."""
    handle, offset, whence = _LSEEK_IN.unpack_from(body)
    return handle, offset, whence


def sought_answer(offset: int) -> bytes:
    return offset.to_bytes(8, "little")


def new_xattr(body: memoryview) -> tuple[int, bytes, bytes]:
    """(flags, name, value) of SETXATTR, without SETXATTR_EXT."""
    size, flags = int.from_bytes(body[:4], "little"), int.from_bytes(body[4:8], "little")
    name, rest = bytes(body[8:]).split(b"\0", 1)
    return flags, name, rest[:size]


class Locking(NamedTuple):
    """What GETLK, SETLK and SETLKW ask for; kind, start, end as ranges.py has them, whole: flock(2)."""

    handle: int
    owner: int
    start: int
    end: int
    kind: int
    whole: bool


def locking(body: memoryview) -> Locking:
    """Of GETLK, SETLK and SETLKW."""
    handle, owner, start, end, kind, _, flags, _ = _LK_IN.unpack_from(body)
    return Locking(handle, owner, start, end, kind, bool(flags & _LK_FLOCK))


def lock_answer(start: int, end: int, kind: int) -> bytes:
    """struct fuse_lk_out; whose lock it is has no number here."""
    return _LK_OUT.pack(start, end, kind, 0)


def flush_owner(body: memoryview) -> int:
    """Whose locks FLUSH ends."""
    return int.from_bytes(body[16:24], "little")


def flock_owner(body: memoryview) -> int:
    """Whose flock RELEASE ends, or 0."""
    return int.from_bytes(body[16:24], "little") if body[12] & _RELEASE_FLOCK else 0


def _name(body: memoryview, at: int) -> bytes:
    return bytes(body[at:]).split(b"\0", 1)[0]
