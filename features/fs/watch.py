"""inotify: says which of the handed-out paths changed. State is the kernel's; here is only wd ↔ path.

A watch is put on the inode a descriptor is open on, never on a name, so it cannot land elsewhere.
What cannot be watched (no watches left, a file system that tells nobody) is said so and not cached.
The oldest watch goes when there are too many, told as a change: whoever relied on it asks again. Files'
go before folders', for a folder's tells of everything in it.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable

from attrs import define, field

from pymirror.features.fs.attr import Attr
from pymirror.features.fs.kept import KeptFolders

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
"""Folders kept open; an agent that may have few descriptors keeps fewer."""
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


@define
class _News:
    """What is to be told, each path once and in its order; false if it is nothing."""

    paths: dict[bytes, None] = field(factory=dict)
    below: dict[bytes, None] = field(factory=dict)
    lost: bool = False

    def __bool__(self) -> bool:
        return bool(self.paths or self.below or self.lost)


class Watcher:
    """Calls `changed(paths, below, lost)` in the loop, once for all that is there at a time.

    below: what these paths lead to, and whatever is below them, may be something else now.
    """

    def __init__(
        self,
        changed: Callable[[list[bytes], list[bytes], bool], None],
        most: int | None = None,
        most_folders: int = MOST_FOLDERS,
    ) -> None:
        self._changed = changed
        self._most = most_watches() if most is None else most
        self._fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._lock = threading.Lock()  # walks run in threads, news is read in the loop
        self._paths: dict[int, set[bytes]] = {}
        self._known: OrderedDict[bytes, int] = OrderedDict()
        self._files: OrderedDict[bytes, None] = OrderedDict()  # those of _known that are no folders
        self._dropped = _News()
        self._folders = KeptFolders(most_folders)
        self._types: dict[int, int] = {}
        self._held: dict[bytes, list[int]] = {}  # path → who changes it now, whether something came of it
        self.turns = 0
        """How often names were told to lead elsewhere: a walk begun before may have gone the old way."""
        self._loop = asyncio.get_running_loop()
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._read)

    def watch(self, fd: int, path: bytes, attr: Attr) -> bool:
        """Watch what `fd` is open on; True if changes will be told. Called from any thread."""
        if self._fd < 0 or self._type(fd, attr.dev) not in TELLS:
            return False
        with self._lock:
            number = _libc.inotify_add_watch(self._fd, b"/proc/self/fd/%d" % fd, MASK)
            if number < 0:
                return False
            before = self._known.get(path)
            if before not in (None, number):
                self._unwatch(path)  # another file has the name now
            self._paths.setdefault(number, set()).add(path)
            self._known[path] = number
            self._known.move_to_end(path)
            self._files.pop(path, None)
            if not attr.is_dir:
                self._files[path] = None
            if len(self._known) > self._most:
                self._drop_oldest()
        return True

    def crossed(self, device: int) -> None:
        """A mount was entered: its device number may have been another file system's that told of changes.

        That one tells nobody is believed on: when it is wrong, it is only slower.
        """
        if self._types.get(device) in TELLS:
            self._types.pop(device, None)

    def in_memory(self, fd: int, device: int) -> bool:
        """Is there no disk behind the file system of `fd`?"""
        return self._type(fd, device) in (TMPFS, RAMFS)

    def _type(self, fd: int, device: int) -> int:
        """Asked of the kernel once a device: of a remote file system the answer takes a round trip."""
        kind = self._types.get(device)
        if kind is None:
            kind = self._types[device] = _fs_type(fd)
        return kind

    def _unwatch(self, path: bytes) -> None:
        """Take the watch of `path` back, in the kernel too if nothing else is told by it."""
        number = self._known.pop(path)
        self._files.pop(path, None)
        named = self._paths.get(number, set())
        named.discard(path)
        if not named:
            self._paths.pop(number, None)
            _libc.inotify_rm_watch(self._fd, number)

    def _drop_oldest(self) -> None:
        file = bool(self._files)
        path = next(iter(self._files or self._known))
        self._unwatch(path)
        if not self._dropped:
            self._loop.call_soon_threadsafe(self._tell_dropped)
        (self._dropped.paths if file else self._dropped.below)[path] = None

    def _tell_dropped(self) -> None:
        with self._lock:
            dropped, self._dropped = self._dropped, _News()
        self._tell(dropped)

    # Folders kept open; only the loop touches them ------------------------------------------

    def folder(self, path: bytes) -> int:
        """A descriptor of the watched folder `path`, this object's own; -1 if none is kept."""
        return self._folders.get(path)

    def keep_folder(self, path: bytes, fd: int, since: int) -> None:
        """Take `fd` over, a watched folder's: it is kept if no name has changed since turn `since`."""
        if path in self._folders or path not in self._known or since != self.turns:
            os.close(fd)
        else:
            self._folders.keep(path, fd)

    def _lose_folders(self, paths: list[bytes]) -> None:
        self.turns += bool(paths)
        for gone in paths:
            self._folders.lose(gone)

    # News -----------------------------------------------------------------------------------

    def forget_all(self) -> None:
        """Nothing that was handed out can be relied on: said so, and folders are walked to anew."""
        self._lose_folders([b"/"])
        self._types.clear()  # device numbers are used again
        self._changed([], [], True)

    def _read(self) -> bool:
        """False: there is none."""
        try:
            data = os.read(self._fd, 1 << 16)
        except BlockingIOError:
            return False
        news, at = _News(), 0
        with self._lock:
            while at < len(data):
                number, mask, _cookie, size = _EVENT.unpack_from(data, at)
                name = data[at + _EVENT.size : at + _EVENT.size + size].rstrip(b"\0")
                at += _EVENT.size + size
                news.lost = news.lost or bool(mask & IN_Q_OVERFLOW)
                self._one(number, mask, name, news)
        self._tell(news)
        return True

    def tell_now(self) -> None:
        """All that has happened until now."""
        while self._fd >= 0 and self._read():
            pass

    def _tell(self, news: _News) -> None:
        if news.lost:
            self.forget_all()
        elif news:
            self._lose_folders(list(news.below))
            self._changed(list(news.paths), list(news.below), False)

    def _one(self, number: int, mask: int, name: bytes, news: _News) -> None:
        for folder in self._paths.get(number, ()):
            path = folder.rstrip(b"/") + b"/" + name if name else folder
            if mask & (IN_MODIFY | IN_UNMOUNT) or not self._is_held(path):
                news.paths[path] = None
                if mask & ENTRIES:
                    news.below[path] = None
                if mask & GONE:
                    news.below[folder] = None
            if mask & ENTRIES and not self._is_held(folder):
                news.paths[folder] = None
        if mask & IN_IGNORED:
            for path in self._paths.pop(number, ()):
                self._known.pop(path, None)
                self._files.pop(path, None)

    # Own changes; only the loop knows of them -----------------------------------------------

    def hold(self, paths: Iterable[bytes]) -> None:
        """News of these names, but for content, is kept back: who changes them now says what came of it."""
        for path in paths:
            self._held.setdefault(path, [0, 0])[0] += 1

    def _is_held(self, path: bytes) -> bool:
        held = self._held.get(path)
        if held is not None:
            held[1] = 1
        return held is not None

    def let_go(self, paths: Iterable[bytes], tell: bool) -> None:
        """tell: nobody says what came of it, so what was kept back is told; all other news is told first."""
        self.tell_now()
        untold = []
        for path in paths:
            held = self._held[path]
            if held[1] and tell:
                untold.append(path)
            held[0] -= 1
            held[1] = 0
            if not held[0]:
                del self._held[path]
        if untold:
            self._tell(_News(dict.fromkeys(untold), dict.fromkeys(untold)))

    def rename(self, old: bytes, new: bytes, folder: bool) -> None:
        """What is watched there has another name now; of a folder, so has all below it."""
        self.forget([new], folder)
        self._lose_folders([old])
        with self._lock:
            for path in self._watched(old, folder):
                number, moved = self._known.pop(path), new + path[len(old) :]
                self._known[moved] = number
                self._paths[number] = self._paths[number] - {path} | {moved}
                if path in self._files:
                    del self._files[path]
                    self._files[moved] = None

    def forget(self, paths: list[bytes], folders: bool) -> None:
        """What is watched there, and below folders, has these names no more."""
        self._lose_folders(paths)
        with self._lock:
            for top in paths:
                for path in self._watched(top, folders):
                    self._unwatch(path)

    def _watched(self, top: bytes, folder: bool) -> list[bytes]:
        if not folder:
            return [top] if top in self._known else []
        inside = top.rstrip(b"/") + b"/"
        return [path for path in self._known if path == top or path.startswith(inside)]

    def tells(self, fd: int, device: int) -> bool:
        """Does every change of the file system of `fd` go through this kernel?"""
        return self._type(fd, device) in TELLS

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
