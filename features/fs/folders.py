"""Folders the program has open: each handle is one moment of its folder, until it is rewound. No I/O."""

from __future__ import annotations

import itertools
import stat
from collections.abc import Callable

from attrs import define, field

from pymirror.features.fs import fuse
from pymirror.features.fs.attr import Attr
from pymirror.features.fs.cache import Entries, Node

PLUS = 128
"""Bytes of struct fuse_entry_out, which READDIRPLUS puts before each entry."""


@define
class Open:
    """version: of the folder when it was listed; begun: some of it was read."""

    node: Node
    listing: Entries
    version: int
    begun: bool = False


@define
class Folders:
    """Handles by number. entry(folder, name): a struct fuse_entry_out, empty for what is not known."""

    entry: Callable[[Node, bytes], bytes]
    _open: dict[int, Open] = field(factory=dict)
    _numbers: itertools.count[int] = field(factory=lambda: itertools.count(1))

    def opened(self, node: Node, listing: Entries) -> bytes:
        """The answer to OPENDIR."""
        handle = next(self._numbers)
        self._open[handle] = Open(node, listing, node.version)
        return fuse.opened(handle, 0)

    def closed(self, handle: int) -> None:
        self._open.pop(handle, None)

    def stale(self, handle: int, offset: int) -> Open | None:
        """The open folder, if it is read from its beginning again and has changed meanwhile."""
        held = self._open.get(handle)
        again = held is not None and offset == 0 and held.begun and held.version != held.node.version
        return held if again else None

    def read(self, handle: int, offset: int, size: int, plus: bool) -> bytes:
        """The answer to READDIR and READDIRPLUS; KeyError for a handle that is not open."""
        held = self._open[handle]
        held.begun = True
        made, room = [], size
        for number in range(offset, len(held.listing) + 2):
            name, attr = self._named(held, number)
            dirent = fuse.dirent(attr.ino, number + 1, stat.S_IFMT(attr.mode) >> 12, name)
            room -= len(dirent) + (PLUS if plus else 0)
            if room < 0:
                break
            if plus:
                made.append(fuse.entry(0, 0, 0, None) if number < 2 else self.entry(held.node, name))
            made.append(dirent)
        return b"".join(made)

    @staticmethod
    def _named(held: Open, number: int) -> tuple[bytes, Attr]:
        if number < 2:
            return (b".", b"..")[number], held.node.attr
        name, attr, *_ = held.listing[number - 2]
        return name, attr
