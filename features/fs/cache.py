"""What the layer knows of the target's tree: nodes by path and by number. No I/O.

A node is one file as the kernel knows it (by number, until FORGET) and as the target names it (by
path, until the agent says the name changed). Only what the agent watches is kept: nothing here
can be stale without a push on its way.
"""

from __future__ import annotations

import errno
import posixpath
from collections import OrderedDict
from collections.abc import Iterable

from attrs import define, field

from pymirror.features.fs.attr import Attr
from pymirror.features.fs.messages import Step

ROOT = 1
MOST_INLINE_BYTES = 64 << 20
MOST_NODES = 200_000
"""Names kept although the kernel has forgotten them; a node is some 700 bytes."""
MOST_LINKS = 40


@define(eq=False)
class Node:
    """number: the kernel's. lookups: how often the kernel was told of it and has not forgotten.

    attr: None when it must be asked again. data: the whole content, if known; head: its beginning.
    handle: the agent holds the file open under it. version: changes whenever the content may have.
    listing: (name, attributes, link target) of a watched folder's entries.
    """

    number: int
    path: bytes
    attr: Attr | None = None
    identity: tuple[int, int] | None = None
    link: bytes = b""
    watched: bool = False
    data: bytes | None = None
    handle: int = 0
    head: bytes = b""
    opens: int = 0
    lookups: int = 0
    version: int = 0
    listing: list[tuple[bytes, Attr, bytes]] | None = None


@define
class Cache:
    """The tables. `released` collects agent handles nobody needs any more."""

    by_path: dict[bytes, Node] = field(factory=dict)
    by_number: dict[int, Node] = field(factory=dict)
    missing: dict[bytes, bool] = field(factory=dict)
    released: list[int] = field(factory=list)
    _next: int = ROOT
    _inline: OrderedDict[int, int] = field(factory=OrderedDict)
    _inline_size: int = 0

    def __attrs_post_init__(self) -> None:
        root = self._make(b"/")
        root.lookups = 1  # the kernel never forgets the top

    def _make(self, path: bytes) -> Node:
        node = Node(self._next, path)
        self._next += 1
        self.by_number[node.number] = self.by_path[path] = node
        return node

    def learn(self, path: bytes, attr: Attr, link: bytes, watched: bool) -> Node:
        """What the agent said of a path, as a node. Another file under the name is another node."""
        node = self.by_path.get(path)
        if node is not None and node.identity not in (None, attr.identity) and node.number != ROOT:
            self.drop_name(path)
            node = None
        if node is None:
            node = self._make(path)
        if node.attr is not None and (node.attr.mtime, node.attr.size) != (attr.mtime, attr.size):
            self.forget_content(node)
        node.attr, node.identity, node.link, node.watched = attr, attr.identity, link, watched
        self.missing.pop(path, None)
        return node

    def learn_steps(self, steps: Iterable[Step]) -> list[Node]:
        """The nodes of a walk, in its order."""
        return [self.learn(s.path, Attr.unpack(s.attr), s.link, s.watched) for s in steps]

    def learn_missing(self, path: bytes) -> None:
        """The name is known not to exist; kept only below a watched folder."""
        folder = self.by_path.get(posixpath.dirname(path))
        self.drop_name(path)
        self.missing[path] = bool(folder and folder.watched)

    def keep_data(self, node: Node, data: bytes) -> None:
        """The whole content of a small file; the oldest go when there is too much of it."""
        self.forget_content(node)
        node.data = data
        self._inline[node.number] = len(data)
        self._inline_size += len(data)
        while self._inline_size > MOST_INLINE_BYTES:
            number, size = self._inline.popitem(last=False)
            self._inline_size -= size
            if number in self.by_number:
                self.by_number[number].data = None

    def forget_content(self, node: Node) -> None:
        node.version += 1
        node.head, node.listing = b"", None
        if node.data is not None:
            node.data = None
            self._inline_size -= self._inline.pop(node.number, 0)

    def drop_name(self, path: bytes) -> Node | None:
        """The name leads elsewhere or nowhere now; its node lives on for those who have it open."""
        node = self.by_path.pop(path, None)
        if node is not None and node.number == ROOT:
            self.by_path[path] = node
            return None
        if node is not None:
            node.attr = None
            self._retire(node)
        return node

    def below(self, path: bytes) -> list[bytes]:
        """Every known path below a folder."""
        prefix = path.rstrip(b"/") + b"/"
        return [p for p in (*self.by_path, *self.missing) if p.startswith(prefix)]

    def forget(self, number: int, lookups: int) -> None:
        """The kernel forgot a node `lookups` times."""
        node = self.by_number.get(number)
        if node is not None and number != ROOT:
            node.lookups -= lookups
            if node.lookups <= 0 and len(self.by_path) > MOST_NODES and self.by_path.get(node.path) is node:
                del self.by_path[node.path]
            self._retire(node)

    def _retire(self, node: Node) -> None:
        """Free a node that neither the kernel nor a name leads to."""
        if node.lookups <= 0 and node.opens <= 0 and self.by_path.get(node.path) is not node:
            self.by_number.pop(node.number, None)
            self.forget_content(node)
            self._release(node)

    def _release(self, node: Node) -> None:
        if node.handle:
            self.released.append(node.handle)
            node.handle = 0

    def closed(self, node: Node) -> None:
        """The program closed the file."""
        node.opens -= 1
        self._retire(node)

    def take_released(self) -> list[int]:
        taken, self.released = self.released, []
        return taken


def relative_link(path: bytes, link: bytes) -> bytes:
    """A link target as the kernel resolves it inside the tree: an absolute one becomes relative."""
    if not link.startswith(b"/"):
        return link
    up = path.strip(b"/").count(b"/")
    rest = link.lstrip(b"/")
    return (b"../" * up + rest) or b"."


def find(cache: Cache, path: bytes, follow: bool) -> Node | int | None:
    """Where `path` leads as far as it is known and watched: a node, ENOENT, or None for "ask".

    Follows links as the kernel will, so that an open of something known costs no round trip.
    """
    here, links = b"/", 0
    todo = [name for name in path.split(b"/") if name][::-1]
    while todo:
        name = todo.pop()
        if name == b"..":
            here = posixpath.dirname(here)
            continue
        place = here.rstrip(b"/") + b"/" + name
        node = cache.by_path.get(place)
        if node is None:
            return errno.ENOENT if cache.missing.get(place) else None
        if node.attr is None or not node.watched:
            return None
        if node.attr.is_link and (todo or follow):
            links += 1
            if links > MOST_LINKS:
                return None
            if node.link.startswith(b"/"):
                here = b"/"
            todo += [n for n in node.link.split(b"/") if n and n != b"."][::-1]
            continue
        here = place
    return cache.by_path.get(here)
