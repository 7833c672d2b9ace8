"""The files that resolvers read, as they are now; read again only when they have changed.

A look costs one open (links are resolved inside the target's root) and one fstat. What no event of
the kernel would tell, as on a file system of another node, is seen all the same.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable

from pymirror.features.network.dns.messages import MOST_FILE, PATHS, File

log = logging.getLogger("pymirror.features.network.dns")


class Snapshot:
    """open_file: opens a path for reading, without waiting for the other end of a FIFO. OSError."""

    def __init__(self, open_file: Callable[[bytes], int]) -> None:
        self._open = open_file
        self._seen: dict[bytes, tuple[tuple[int, ...], File]] = {}
        self._told: dict[bytes, File] = {}

    def file(self, path: bytes) -> File:
        """As it is now; not there, if it may not be read or is no regular file."""
        try:
            fd = self._open(path)
        except OSError as error:
            log.debug("no %s: %s", os.fsdecode(path), error.strerror)
            return File(path, False)
        with open(fd, "rb") as opened:
            status = os.fstat(fd)
            signature = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            seen = self._seen.get(path)
            if seen is not None and seen[0] == signature:
                return seen[1]
            if not stat.S_ISREG(status.st_mode):
                return File(path, False)
            found = File(path, True, whole_lines(opened.read(MOST_FILE + 1)))
        self._seen[path] = (signature, found)
        return found

    def all(self) -> list[File]:
        """All of them; `changed` then tells what is different from now."""
        self._told.clear()
        return self.changed()

    def told(self, path: bytes) -> File:
        """As it was told last; looked at now if it never was."""
        return self._told.get(path) or self.file(path)

    def changed(self) -> list[File]:
        """Those that are different from what was told before."""
        found = [file for file in map(self.file, PATHS) if self._told.get(file.path) != file]
        self._told.update((file.path, file) for file in found)
        return found


def whole_lines(content: bytes) -> bytes:
    """At most MOST_FILE bytes, and no line of them cut."""
    if len(content) <= MOST_FILE:
        return content
    return content[:MOST_FILE].rpartition(b"\n")[0] + b"\n"
