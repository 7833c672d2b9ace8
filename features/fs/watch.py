"""inotify: says which of the handed-out paths changed. State is the kernel's; here is only wd ↔ path.

A watch is put on the inode a descriptor is open on, never on a name, so it cannot land elsewhere.
What cannot be watched (no watches left, a file system that tells nobody) is said so and not cached.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from collections.abc import Callable

_libc = ctypes.CDLL(None, use_errno=True)
_EVENT = struct.Struct("<iIII")

IN_MODIFY, IN_ATTRIB = 0x2, 0x4
IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE = 0x40, 0x80, 0x100, 0x200
IN_DELETE_SELF, IN_MOVE_SELF, IN_UNMOUNT, IN_Q_OVERFLOW, IN_IGNORED = 0x400, 0x800, 0x2000, 0x4000, 0x8000
MASK = (
    IN_MODIFY
    | IN_ATTRIB
    | IN_MOVED_FROM
    | IN_MOVED_TO
    | IN_CREATE
    | IN_DELETE
    | IN_DELETE_SELF
    | IN_MOVE_SELF
)
ENTRIES = IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE
MOST_WATCHES = 50_000

TELLS = {
    0xEF53: "ext4",
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0x01021994: "tmpfs",
    0x858458F6: "ramfs",
    0x794C7630: "overlay",
    0xF2F52010: "f2fs",
    0x2FC12FC1: "zfs",
    0x4D44: "vfat",
    0x73717368: "squashfs",
    0xE0F5E1E2: "erofs",
    0x9660: "iso9660",
}
"""File systems whose every change goes through this kernel. Network and pseudo ones are not here."""


class Watcher:
    """Calls `changed(paths, entries, lost)` in the loop, once for all that is there at a time."""

    def __init__(self, changed: Callable[[list[bytes], list[bytes], bool], None]) -> None:
        self._changed = changed
        self._fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._paths: dict[int, set[bytes]] = {}
        self._known: dict[bytes, int] = {}
        self._tells: dict[int, bool] = {}
        if self._fd >= 0:
            asyncio.get_running_loop().add_reader(self._fd, self._read)

    def watch(self, fd: int, path: bytes, device: int) -> bool:
        """Watch what `fd` is open on; True if changes will be told. Called from worker threads."""
        if self._fd < 0 or not self.tells(fd, device):
            return False
        if path not in self._known and len(self._paths) >= MOST_WATCHES:
            return False
        number = _libc.inotify_add_watch(self._fd, f"/proc/self/fd/{fd}".encode(), MASK)
        if number < 0:
            return False
        self._paths.setdefault(number, set()).add(path)
        self._known[path] = number
        return True

    def tells(self, fd: int, device: int) -> bool:
        """Does the file system of `fd` report every change? Asked of the kernel once a device."""
        if device not in self._tells:
            self._tells[device] = _fs_type(fd) in TELLS
        return self._tells[device]

    def _read(self) -> None:
        paths: dict[bytes, None] = {}
        entries: dict[bytes, None] = {}
        lost = False
        try:
            data = os.read(self._fd, 1 << 16)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            number, mask, _cookie, size = _EVENT.unpack_from(data, at)
            name = data[at + _EVENT.size : at + _EVENT.size + size].rstrip(b"\0")
            at += _EVENT.size + size
            lost = lost or bool(mask & IN_Q_OVERFLOW)
            for folder in self._paths.get(number, ()):
                path = folder.rstrip(b"/") + b"/" + name if name else folder
                paths[path] = None
                if mask & ENTRIES:
                    entries[path] = None
                    paths[folder] = None
            if mask & IN_IGNORED:
                for path in self._paths.pop(number, ()):
                    self._known.pop(path, None)
        if paths or lost:
            self._changed(list(paths), list(entries), lost)

    def close(self) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1


class _StatFs(ctypes.Structure):
    _fields_ = [("f_type", ctypes.c_long), ("rest", ctypes.c_byte * 256)]


def _fs_type(fd: int) -> int:
    """f_type of statfs(2), which Python's statvfs leaves out; -1 when it cannot be asked."""
    made = _StatFs()
    return made.f_type & 0xFFFFFFFF if _libc.fstatfs(fd, ctypes.byref(made)) == 0 else -1
