"""The kernel's FUSE protocol (include/uapi/linux/fuse.h, 7.31 and later): pack and unpack. Pure.

A binding was weighed and set aside: libfuse's Python wrappers cost 67 to 105 us a call, and neither
gives a detached mount, the notifications and answers from the session's own loop together.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from pymirror.features.fs.attr import Attr

LOOKUP, FORGET, GETATTR, SETATTR, READLINK, SYMLINK, MKNOD, MKDIR = 1, 2, 3, 4, 5, 6, 8, 9
UNLINK, RMDIR, RENAME, LINK, OPEN, READ, WRITE, STATFS, RELEASE = 10, 11, 12, 13, 14, 15, 16, 17, 18
FSYNC, SETXATTR, GETXATTR, LISTXATTR, REMOVEXATTR, FLUSH, INIT = 20, 21, 22, 23, 24, 25, 26
OPENDIR, READDIR, RELEASEDIR, FSYNCDIR, ACCESS, CREATE, INTERRUPT = 27, 28, 29, 30, 34, 35, 36
GETLK, SETLK, SETLKW = 31, 32, 33
DESTROY, BATCH_FORGET, FALLOCATE, READDIRPLUS, RENAME2, LSEEK, COPY_FILE_RANGE = 38, 42, 43, 44, 45, 46, 47
TMPFILE = 51

SILENT = frozenset({FORGET, BATCH_FORGET, INTERRUPT, DESTROY})
"""Requests that get no answer."""

HEADER = struct.Struct("<IIQQIIIHH")
OUT = struct.Struct("<IiQ")
INIT_IN = struct.Struct("<IIII")
INIT_OUT = struct.Struct("<IIIIHHIIHHI28x")
ENTRY_OUT = struct.Struct("<QQQQII")
ATTR_OUT = struct.Struct("<QII")
OPEN_OUT = struct.Struct("<QIi")
READ_IN = struct.Struct("<QQI")
STATFS_OUT = struct.Struct("<QQQQQIII28x")
DIRENT = struct.Struct("<QQII")
FORGET_ONE = struct.Struct("<QQ")

ASYNC_READ, ATOMIC_O_TRUNC, BIG_WRITES = 1 << 0, 1 << 3, 1 << 5
POSIX_LOCKS, FLOCK_LOCKS = 1 << 1, 1 << 10
AUTO_INVAL_DATA, DO_READDIRPLUS, PARALLEL_DIROPS = 1 << 12, 1 << 13, 1 << 18
MAX_PAGES, CACHE_SYMLINKS, HANDLE_KILLPRIV_V2 = 1 << 22, 1 << 23, 1 << 28
WANTED = ASYNC_READ | AUTO_INVAL_DATA | DO_READDIRPLUS | PARALLEL_DIROPS | MAX_PAGES | CACHE_SYMLINKS
"""What is asked of the kernel in INIT, where it offers it."""
WRITING = ATOMIC_O_TRUNC | BIG_WRITES | HANDLE_KILLPRIV_V2 | POSIX_LOCKS | FLOCK_LOCKS
"""The same, where files can be changed. Set-user-ID bits are taken off by the target's kernel, and
locks are its own: without writing they are this kernel's, and hold among the program's processes.
Links are asked for each time: an absolute one is shown by its place, which a rename changes."""

FOPEN_DIRECT_IO, FOPEN_KEEP_CACHE, FOPEN_NOFLUSH = 1 << 0, 1 << 1, 1 << 5

INVAL_INODE, INVAL_ENTRY, STORE = 2, 3, 4
FOREVER = 10**9
"""Seconds; what is watched is invalidated by push, not by time."""
MAX_WRITE = 1 << 20
READ_BUFFER = MAX_WRITE + 8192
MOST_PAGES = 256


class Request(NamedTuple):
    opcode: int
    unique: int
    node: int
    body: memoryview
    thread: int = 0
    """Who asks; 0: one that has no number here."""


def parse(data: memoryview) -> Request:
    """One request as read from /dev/fuse."""
    _size, opcode, unique, node, _uid, _gid, thread, _ext, _pad = HEADER.unpack_from(data)
    return Request(opcode, unique, node, data[HEADER.size :], thread)


def answer_head(unique: int, size: int) -> bytes:
    """The head of an answer whose body of `size` bytes is written beside it."""
    return OUT.pack(OUT.size + size, 0, unique)


def failure(unique: int, code: int) -> bytes:
    return OUT.pack(OUT.size, -code, unique)


def init(body: memoryview, read_ahead: int, writing: bool) -> bytes:
    """The answer to INIT: the younger protocol of the two, and what both want."""
    _major, minor, offered_ahead, flags = INIT_IN.unpack_from(body)
    return INIT_OUT.pack(
        7,
        min(minor, 38),
        min(offered_ahead, read_ahead) or offered_ahead,
        flags & (WANTED & ~CACHE_SYMLINKS | WRITING if writing else WANTED),
        64,  # requests in the background at once: read-ahead of several files
        48,
        MAX_WRITE,
        1,  # times to the nanosecond
        MOST_PAGES,
        0,
        0,
    )


def entry(node: int, generation: int, valid: int, attr: Attr | None) -> bytes:
    """struct fuse_entry_out; node 0 and no attributes: the name is known not to exist."""
    shown = attr.fuse() if attr else bytes(88)
    return ENTRY_OUT.pack(node, generation, valid, valid, 0, 0) + shown


def attributes(attr: Attr, valid: int) -> bytes:
    return ATTR_OUT.pack(valid, 0, 0) + attr.fuse()


def opened(handle: int, flags: int) -> bytes:
    return OPEN_OUT.pack(handle, flags, 0)


def dirent(number: int, offset: int, kind: int, name: bytes) -> bytes:
    """One directory entry, padded to 8 bytes."""
    made = DIRENT.pack(number, offset, len(name), kind) + name
    return made + bytes(-len(made) % 8)


def read_arguments(body: memoryview) -> tuple[int, int, int]:
    """(handle, offset, size) of READ, READDIR and READDIRPLUS."""
    handle, offset, size = READ_IN.unpack_from(body)
    return handle, offset, size


def name_of(body: memoryview) -> bytes:
    """The NUL-terminated name of LOOKUP."""
    return bytes(body).split(b"\0", 1)[0]


def forgets(request: Request) -> list[tuple[int, int]]:
    """(node, how many lookups) of FORGET and BATCH_FORGET."""
    if request.opcode == FORGET:
        return [(request.node, struct.unpack_from("<Q", request.body)[0])]
    count = struct.unpack_from("<I", request.body)[0]
    return [FORGET_ONE.unpack_from(request.body, 8 + i * FORGET_ONE.size) for i in range(count)]


def xattr_size(body: memoryview) -> int:
    """The room for an answer to GETXATTR and LISTXATTR; 0: it is asked how much is needed."""
    return int.from_bytes(body[:4], "little")


def xattr_name(body: memoryview) -> bytes:
    """Of GETXATTR."""
    return bytes(body[8:]).split(b"\0", 1)[0]


def xattr_needs(size: int) -> bytes:
    """struct fuse_getxattr_out."""
    return struct.pack("<II", size, 0)


def statfs(numbers: list[int]) -> bytes:
    """struct fuse_kstatfs of blocks, bfree, bavail, files, ffree, bsize, namelen, frsize."""
    blocks, bfree, bavail, files, ffree, bsize, namelen, frsize = numbers
    return STATFS_OUT.pack(blocks, bfree, bavail, files, ffree, bsize, namelen, frsize)


def access_mask(body: memoryview) -> int:
    """What ACCESS asks for: R_OK, W_OK, X_OK together."""
    return int.from_bytes(body[:4], "little")


def interrupted(body: memoryview) -> int:
    """The request that INTERRUPT is about."""
    return int.from_bytes(body[:8], "little")


def store(node: int, data: bytes) -> tuple[bytes, bytes]:
    """Put a file's bytes, from its beginning, into the kernel's page cache: head and body."""
    body = struct.pack("<QQII", node, 0, len(data), 0)
    return OUT.pack(OUT.size + len(body) + len(data), STORE, 0) + body, data


def inval_inode(node: int) -> bytes:
    """Forget a file's attributes and pages."""
    body = struct.pack("<Qqq", node, 0, 0)
    return OUT.pack(OUT.size + len(body), INVAL_INODE, 0) + body


def inval_entry(parent: int, name: bytes) -> bytes:
    """Forget what a name leads to, or that it leads nowhere."""
    body = struct.pack("<QII", parent, len(name), 0) + name + b"\0"
    return OUT.pack(OUT.size + len(body), INVAL_ENTRY, 0) + body
