"""inotify: says which of the handed-out paths changed. State is the kernel's; here is only wd ↔ path.

A watch is put on the inode a descriptor is open on, never on a name, so it cannot land elsewhere.
What cannot be watched (no watches left, a file system that tells nobody) is said so and not cached.
The oldest watch goes when there are too many, told as a change: whoever relied on it asks again.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
import threading
from collections import OrderedDict
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
GONE = IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT
MOST_WATCHES = 16_384
"""One pins an inode, about 1 KiB of the node's memory."""
SHARE = 4
"""A user's watches are shared with the node's own programs: this part of them is ours at most."""
MOST_FOLDERS = 1024
"""Folders kept open, so that the way to them is not walked again."""
LIMIT = "/proc/sys/fs/inotify/max_user_watches"

TMPFS, RAMFS = 0x01021994, 0x858458F6
TELLS = {
    TMPFS: "tmpfs",
    RAMFS: "ramfs",
    0xEF53: "ext4",
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0x794C7630: "overlay",
    0xF2F52010: "f2fs",
    0x2FC12FC1: "zfs",
    0x4D44: "vfat",
    0x73717368: "squashfs",
    0xE0F5E1E2: "erofs",
    0x9660: "iso9660",
}
"""File systems whose every change goes through this kernel. Network and pseudo ones are not here."""


def most_watches(limit: str = LIMIT) -> int:
    """As many as are kept at once: a part of what the kernel gives a user."""
    try:
        with open(limit, encoding="ascii") as file:
            return max(16, min(MOST_WATCHES, int(file.read()) // SHARE))
    except (OSError, ValueError):
        return MOST_WATCHES


class Watcher:
    """Calls `changed(paths, below, lost)` in the loop, once for all that is there at a time.

    below: what these paths lead to, and whatever is below them, may be something else now.
    """

    def __init__(
        self, changed: Callable[[list[bytes], list[bytes], bool], None], most: int | None = None
    ) -> None:
        self._changed = changed
        self._most = most_watches() if most is None else most
        self._fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._lock = threading.Lock()  # walks run in threads, news is read in the loop
        self._paths: dict[int, set[bytes]] = {}
        self._known: OrderedDict[bytes, int] = OrderedDict()
        self._dropped: list[bytes] = []
        self._folders: OrderedDict[bytes, int] = OrderedDict()
        self._types: dict[int, int] = {}
        self.turns = 0
        """How often names were told to lead elsewhere: a walk begun before may have gone the old way."""
        self._loop = asyncio.get_running_loop()
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._read)

    def watch(self, fd: int, path: bytes, device: int) -> bool:
        """Watch what `fd` is open on; True if changes will be told. Called from any thread."""
        if self._fd < 0 or self._type(fd, device) not in TELLS:
            return False
        with self._lock:
            number = _libc.inotify_add_watch(self._fd, b"/proc/self/fd/%d" % fd, MASK)
            if number < 0:
                return False
            before = self._known.get(path)
            if before not in (None, number):
                self._forget(path)  # another file has the name now
            self._paths.setdefault(number, set()).add(path)
            self._known[path] = number
            self._known.move_to_end(path)
            if len(self._known) > self._most:
                self._drop_oldest()
        return True

    def in_memory(self, fd: int, device: int) -> bool:
        """Is there no disk behind the file system of `fd`?"""
        return self._type(fd, device) in (TMPFS, RAMFS)

    def _type(self, fd: int, device: int) -> int:
        """Asked of the kernel once a device."""
        kind = self._types.get(device)
        if kind is None:
            kind = self._types[device] = _fs_type(fd)
        return kind

    def _forget(self, path: bytes) -> int:
        """The watch that `path` had if nothing else is told by it, else -1."""
        number = self._known.pop(path, -1)
        named = self._paths.get(number)
        if named is not None:
            named.discard(path)
            if not named:
                del self._paths[number]
                return number
        return -1

    def _drop_oldest(self) -> None:
        path = next(iter(self._known))
        number = self._forget(path)
        if number >= 0:
            _libc.inotify_rm_watch(self._fd, number)
        self._dropped.append(path)
        if len(self._dropped) == 1:
            self._loop.call_soon_threadsafe(self._tell_dropped)

    def _tell_dropped(self) -> None:
        with self._lock:
            dropped, self._dropped = self._dropped, []
        self._lose_folders(dropped)
        self._changed([], dropped, False)

    # Folders kept open; only the loop touches them ------------------------------------------

    def folder(self, path: bytes) -> int:
        """A descriptor of the watched folder `path`, this object's own; -1 if none is kept."""
        fd = self._folders.get(path, -1)
        if fd >= 0:
            self._folders.move_to_end(path)
        return fd

    def keep_folder(self, path: bytes, fd: int, since: int) -> None:
        """Keep a duplicate of `fd`, a watched folder, if no name has changed since turn `since`."""
        if path in self._folders or path not in self._known or since != self.turns:
            return
        self._folders[path] = os.dup(fd)
        if len(self._folders) > MOST_FOLDERS:
            os.close(self._folders.popitem(last=False)[1])

    def _lose_folders(self, paths: list[bytes]) -> None:
        self.turns += bool(paths)
        for gone in paths:
            prefix = gone.rstrip(b"/") + b"/"
            for path in [p for p in self._folders if p == gone or p.startswith(prefix)]:
                os.close(self._folders.pop(path))

    # News -----------------------------------------------------------------------------------

    def forget_all(self) -> None:
        """Nothing that was handed out can be relied on: said so, and folders are walked to anew."""
        self._lose_folders([b"/"])
        self._changed([], [], True)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 1 << 16)
        except BlockingIOError:
            return
        paths: dict[bytes, None] = {}
        below: dict[bytes, None] = {}
        lost, at = False, 0
        with self._lock:
            while at < len(data):
                number, mask, _cookie, size = _EVENT.unpack_from(data, at)
                name = data[at + _EVENT.size : at + _EVENT.size + size].rstrip(b"\0")
                at += _EVENT.size + size
                lost = lost or bool(mask & IN_Q_OVERFLOW)
                self._one(number, mask, name, paths, below)
        if lost:
            self.forget_all()
        elif paths or below:
            self._lose_folders(list(below))
            self._changed(list(paths), list(below), False)

    def _one(
        self, number: int, mask: int, name: bytes, paths: dict[bytes, None], below: dict[bytes, None]
    ) -> None:
        for folder in self._paths.get(number, ()):
            path = folder.rstrip(b"/") + b"/" + name if name else folder
            paths[path] = None
            if mask & ENTRIES:
                below[path] = paths[folder] = None
            if mask & GONE:
                below[folder] = None
        if mask & IN_IGNORED:
            for path in self._paths.pop(number, ()):
                self._known.pop(path, None)

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            self._lose_folders([b"/"])
            os.close(self._fd)
            self._fd = -1


class _StatFs(ctypes.Structure):
    _fields_ = [("f_type", ctypes.c_long), ("rest", ctypes.c_byte * 256)]


def _fs_type(fd: int) -> int:
    """f_type of statfs(2), which Python's statvfs leaves out; -1 when it cannot be asked."""
    made = _StatFs()
    return made.f_type & 0xFFFFFFFF if _libc.fstatfs(fd, ctypes.byref(made)) == 0 else -1
