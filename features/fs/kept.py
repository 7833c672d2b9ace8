"""Folders kept open by path, so that the way to them is not walked again. Only the loop touches them.

Each is also found by every folder above it: what lies below a changed name is closed without a look
at all the others, however many names change at once.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator


class KeptFolders:
    """At most `most` descriptors; the one that was not asked for longest goes first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[bytes, int] = OrderedDict()
        self._below: dict[bytes, set[bytes]] = {}  # a path → the kept ones that it is or that lie below it

    def __contains__(self, path: bytes) -> bool:
        return path in self._kept

    def get(self, path: bytes) -> int:
        """The descriptor kept for `path`, this object's own; -1 if there is none."""
        fd = self._kept.get(path, -1)
        if fd >= 0:
            self._kept.move_to_end(path)
        return fd

    def keep(self, path: bytes, fd: int) -> None:
        """Take `fd` over for `path`, which is not kept."""
        self._kept[path] = fd
        for upper in _upwards(path):
            self._below.setdefault(upper, set()).add(path)
        if len(self._kept) > self._most:
            self._close(next(iter(self._kept)))

    def lose(self, path: bytes) -> None:
        """Close what is kept for `path` and for all below it."""
        for kept in list(self._below.get(path, ())):
            self._close(kept)

    def _close(self, path: bytes) -> None:
        os.close(self._kept.pop(path))
        for upper in _upwards(path):
            self._below[upper].discard(path)
            if not self._below[upper]:
                del self._below[upper]


def _upwards(path: bytes) -> Iterator[bytes]:
    """The absolute path itself and every folder above it."""
    while path != b"/":
        yield path
        path = path.rpartition(b"/")[0] or b"/"
    yield path
