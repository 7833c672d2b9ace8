"""Where something is mounted in the target, and the news that this changed.

inotify tells nothing of a mount that covers a folder, nor of what is mounted over a single file (a
Secret's `subPath`, /etc/hosts); the kernel's own list does, and it can be waited for.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import select
from collections.abc import Callable

from pymirror.features.fs.watch import TELLS

log = logging.getLogger("pymirror.fs")

QUICK = frozenset({*TELLS.values(), "ext2", "ext3"})
_OCTAL = re.compile(rb"\\([0-7]{3})")


SYSTEM = (b"/", b"/proc", b"/sys", b"/dev", b"/etc/hosts", b"/etc/hostname", b"/etc/resolv.conf")


def is_volume(point: bytes, kind: str) -> bool:
    """Is it somebody's own, not the system's?"""
    inside = any(point.startswith(top + b"/") for top in (b"/proc", b"/sys", b"/dev"))
    return not inside and point not in SYSTEM and not kind.startswith("cgroup")


def mount_points(mountinfo: bytes) -> dict[bytes, str]:
    """Mount point → type of the file system, as the process sees them; the upper of two on one place.

    proc(5): the fifth field, blanks written in octal; the type follows a lone dash.
    """
    points = {}
    for line in mountinfo.splitlines():
        fields, _, source = line.partition(b" - ")
        if len(words := fields.split(b" ")) > 5:
            point = _OCTAL.sub(lambda m: bytes([int(m[1], 8)]), words[4])
            points[point] = source.partition(b" ")[0].decode("utf-8", "replace")
    return points


class Mounts:
    """The mount points of process `pid`; `changed()` is called in the loop when they are others now.

    Where the list may not be read there are none: what is mounted is then told by its device alone.
    """

    def __init__(self, pid: int, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._points: dict[bytes, str] = {}
        self._file = self._poll = -1
        try:
            self._file = os.open(f"/proc/{pid or 'self'}/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
            self._points = mount_points(self._content())
        except OSError as error:
            log.info("the target's mounts are not known: %s", error)
            return
        # The list is always readable; a change shows as an urgent condition, which the loop cannot wait for.
        waiting = select.epoll(flags=select.EPOLL_CLOEXEC)
        waiting.register(self._file, select.EPOLLPRI)
        self._waiting, self._poll = waiting, waiting.fileno()
        asyncio.get_running_loop().add_reader(self._poll, self._look)

    def apart(self, path: bytes) -> bool:
        """Is `path` itself a mount point?"""
        return path in self._points

    def volumes(self) -> list[bytes]:
        """Where somebody's files are mounted."""
        return sorted(point for point, kind in self._points.items() if is_volume(point, kind))

    def quick(self, path: bytes) -> bool:
        """Is what is mounted on `path` on this machine, so that its attributes are at hand?"""
        return self._points.get(path) in QUICK

    def _content(self) -> bytes:
        os.lseek(self._file, 0, os.SEEK_SET)
        parts = []
        while part := os.read(self._file, 1 << 16):
            parts.append(part)
        return b"".join(parts)

    def _look(self) -> None:
        self._waiting.poll(0)
        try:
            points = mount_points(self._content())
        except OSError as error:  # the target has ended
            log.debug("the target's mounts are not known any more: %s", error)
            self.close()
            return
        if points != self._points:
            self._points = points
            self._changed()

    def close(self) -> None:
        if self._poll >= 0:
            asyncio.get_running_loop().remove_reader(self._poll)
            self._waiting.close()
        if self._file >= 0:
            os.close(self._file)
        self._file = self._poll = -1
