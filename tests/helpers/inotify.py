"""inotify for tests: what the kernel tells, as words."""

from __future__ import annotations

import ctypes
import os
import select
import struct
from collections.abc import Iterator

_libc = ctypes.CDLL(None, use_errno=True)
NAMES = "ACCESS MODIFY ATTRIB CLOSE_WRITE CLOSE_NOWRITE OPEN MOVED_FROM MOVED_TO CREATE DELETE DELETE_SELF".split()
NAMES += "MOVE_SELF - UNMOUNT Q_OVERFLOW IGNORED".split()
OPENED = 0x1 | 0x10 | 0x20
CHANGES = 0xFFF & ~OPENED
ISDIR = 0x40000000


class Inotify:
    """Watches by a descriptor's file, as the engine does."""

    def __init__(self) -> None:
        self.fd = int(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))

    def add(self, path: str | bytes | os.PathLike[str], mask: int = CHANGES) -> int:
        made = int(_libc.inotify_add_watch(self.fd, os.fsencode(path), mask))
        if made < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return made

    def remove(self, watch: int) -> None:
        _libc.inotify_rm_watch(self.fd, watch)

    def events(self, last: str, within: float = 10.0) -> list[tuple[int, str, str, int]]:
        """(watch, what, name, which rename) up to the event about the name `last`, that left out."""
        found: list[tuple[int, str, str, int]] = []
        cookies: dict[int, int] = {0: 0}
        while True:
            ready, _, _ = select.select([self.fd], [], [], within)
            if not ready:
                raise TimeoutError(f"only {found}")
            for watch, mask, cookie, name in _parse(os.read(self.fd, 1 << 16)):
                if name == last:
                    return found
                words = "|".join(word for bit, word in enumerate(NAMES) if mask & 1 << bit)
                number = cookies.setdefault(cookie, len(cookies))
                found.append((watch, words + ("/" if mask & ISDIR else ""), name, number))

    def close(self) -> None:
        os.close(self.fd)


def _parse(data: bytes) -> Iterator[tuple[int, int, int, str]]:
    at = 0
    while at < len(data):
        watch, mask, cookie, size = struct.unpack_from("<iIII", data, at)
        yield watch, mask, cookie, os.fsdecode(data[at + 16 : at + 16 + size].rstrip(b"\0"))
        at += 16 + size
