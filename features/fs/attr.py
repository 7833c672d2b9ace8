"""Attributes of a file as they cross the channel and as FUSE wants them. Pure.

Packed, not a message of its own: a listing of 100,000 entries carries as many.
"""

from __future__ import annotations

import stat
import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from os import stat_result

_PACKED = struct.Struct("<IIIIQQQQIqqqQ")
SIZE = _PACKED.size

FUSE_ATTR = struct.Struct("<QQQQQQIIIIIIIIII")
"""struct fuse_attr, 88 bytes (include/uapi/linux/fuse.h)."""

NS = 1_000_000_000
MOST_SIZE = (1 << 63) - 1
"""The kernel's loff_t."""
MOST_RDEV = (1 << 32) - 1
"""12 bits of major and 20 of minor are all the kernel has, and dev_t's lower half holds them all."""


class Attr(NamedTuple):
    """What stat(2) says; times in nanoseconds, rdev as the kernel's dev_t."""

    mode: int
    uid: int
    gid: int
    nlink: int
    ino: int
    dev: int
    size: int
    blocks: int
    blksize: int
    atime: int
    mtime: int
    ctime: int
    rdev: int

    @classmethod
    def of(cls, st: stat_result) -> Attr:
        return cls(
            st.st_mode,
            st.st_uid,
            st.st_gid,
            st.st_nlink,
            st.st_ino,
            st.st_dev,
            st.st_size,
            st.st_blocks,
            st.st_blksize,
            st.st_atime_ns,
            st.st_mtime_ns,
            st.st_ctime_ns,
            st.st_rdev,
        )

    def pack(self) -> bytes:
        return _PACKED.pack(*self)

    @classmethod
    def bare(cls, mode: int, ino: int) -> Attr:
        """Of a name that could not be looked at: what its folder says of it, and zeros."""
        return cls(mode, 0, 0, 1, ino, 0, 0, 0, 0, 0, 0, 0, 0)

    @classmethod
    def unpack(cls, data: bytes, at: int = 0) -> Attr:
        """The attributes packed at `at`; ValueError when no kernel can have said them."""
        if not 0 <= at <= len(data) - SIZE:
            raise ValueError("attributes are cut short")
        attr = cls(*_PACKED.unpack_from(data, at))
        if attr.size > MOST_SIZE or attr.rdev > MOST_RDEV:
            raise ValueError("attributes are out of range")
        return attr

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def identity(self) -> tuple[int, int]:
        """The same file as long as this is the same."""
        return self.dev, self.ino

    def fuse(self) -> bytes:
        """As struct fuse_attr. A device number's 32-bit form is what stat(2) says (`MOST_RDEV`)."""
        return FUSE_ATTR.pack(
            self.ino,
            self.size,
            self.blocks,
            self.atime // NS & 0xFFFFFFFFFFFFFFFF,
            self.mtime // NS & 0xFFFFFFFFFFFFFFFF,
            self.ctime // NS & 0xFFFFFFFFFFFFFFFF,
            self.atime % NS,
            self.mtime % NS,
            self.ctime % NS,
            self.mode,
            self.nlink & 0xFFFFFFFF,
            self.uid,
            self.gid,
            self.rdev & MOST_RDEV,
            self.blksize & 0xFFFFFFFF,
            0,
        )


_ENTRY = struct.Struct("<HHBB")
Entry = tuple[bytes, Attr, bytes, bool, int]
"""Name, attributes, link target, watched, extended (see messages.Step)."""


def pack_entry(name: bytes, attr: Attr, link: bytes, watched: bool, extended: int) -> bytes:
    """One entry of a listing: attributes, both lengths, both marks, link target, name."""
    return attr.pack() + _ENTRY.pack(len(link), len(name), watched, extended) + link + name


def unpack_entries(data: bytes, count: int) -> list[Entry]:
    """A listing; ValueError when it cannot be one."""
    found: list[Entry] = []
    at = 0
    for _ in range(count):
        if at + SIZE + _ENTRY.size > len(data):
            raise ValueError("a listing ends inside an entry")
        attr = Attr.unpack(data, at)
        link_size, name_size, watched, extended = _ENTRY.unpack_from(data, at + SIZE)
        at += SIZE + _ENTRY.size
        link, name = data[at : at + link_size], data[at + link_size : at + link_size + name_size]
        at += link_size + name_size
        if len(name) != name_size or name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
            raise ValueError("a listing has an entry without a usable name")
        found.append((name, attr, link, bool(watched), extended))
    return found
