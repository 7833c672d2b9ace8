"""What the layer knows of the target's tree: nodes by path and by number. No I/O.

A node is one file as the kernel knows it (by number, until FORGET) and as the target names it (by path, until
the agent says the name changed). Names of one file are one node, as the kernel keeps attributes and pages by
node; links have one each, as what they lead to is told by their place. Only what the agent watches is kept:
nothing here can be stale without a push on its way. All of it is bounded; what is dropped is asked again.
"""

from __future__ import annotations

import errno
import itertools
from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

from attrs import define, field, frozen

from pymirror.features.fs.attr import Attr, Entry
from pymirror.features.fs.marks import UNTOLD, lacks
from pymirror.features.fs.messages import ASIDE, Step

ROOT = 1
MOST_INLINE_BYTES = 64 << 20
MOST_NODES = 200_000
"""Names kept although the kernel has forgotten them; a node is some 700 bytes."""
MOST_MISSING = 50_000
MOST_LISTED = 200_000
"""Entries in all listings that are kept."""
MOST_LINKS = 40
LONGEST = 255
"""Bytes of a name (NAME_MAX); of a longer one the target says that it is too long."""

UNKNOWN = Attr(*[0] * 13)
Entries = list[Entry]


@define(eq=False)
class Node:
    """number: the kernel's. path: its name, or one of them; names: all known ones of a file that has several.
    lookups: how often the kernel was told of it and has not forgotten.

    attr: as it was last told; true only while `fresh`. data: the whole content, if known; head: its
    beginning. handle: the agent holds the file open under it. version: changes whenever the content may have.
    extended: as marks.py has it; true while it is watched.
    listing: a watched folder's entries. complete: a watched folder's names are all known, so others do not
    exist.
    """

    number: int
    path: bytes
    attr: Attr = UNKNOWN
    fresh: bool = False
    link: bytes = b""
    watched: bool = False
    extended: int = UNTOLD
    data: bytes | None = None
    handle: int = 0
    head: bytes = b""
    opens: int = 0
    lookups: int = 0
    version: int = 0
    listing: Entries | None = None
    complete: bool = False
    names: set[bytes] = field(factory=set)

    @property
    def current(self) -> bool:
        """Known, and a change would be told."""
        return self.fresh and self.watched

    def lacks(self, name: bytes) -> bool:
        """Is it told that it has no such extended attribute? Without a name: none at all."""
        return self.watched and lacks(self.extended, name)


class Seen(NamedTuple):
    """What a path led to at the moment of the answer: the node may have changed since."""

    node: Node
    attr: Attr
    link: bytes


@frozen
class Located:
    """Where a path leads as far as it is known and watched.

    node: there; or errno: why nowhere; else unknown: ask for `rest` from the folder `base` on.
    """

    node: Node | None = None
    errno: int = 0
    base: bytes = b"/"
    rest: bytes = b""


@define
class Cache:
    """The tables. `released` collects agent handles nobody needs any more.

    marked: which kinds of extended attributes were seen on any file (marks.py).
    """

    by_path: dict[bytes, Node] = field(factory=dict)
    by_number: dict[int, Node] = field(factory=dict)
    missing: OrderedDict[bytes, bool] = field(factory=OrderedDict)
    released: list[int] = field(factory=list)
    marked: int = UNTOLD
    _linked: dict[tuple[int, int], Node] = field(
        factory=dict
    )  # identity → a file that may have further names
    _inside: dict[bytes, set[bytes]] = field(factory=dict)  # folder → paths known in it, missing ones too
    _next: int = ROOT
    _inline: OrderedDict[int, int] = field(factory=OrderedDict)
    _inline_size: int = 0
    _listed: OrderedDict[int, int] = field(factory=OrderedDict)
    _listed_size: int = 0

    def __attrs_post_init__(self) -> None:
        root = self._make(b"/")
        root.lookups = 1  # the kernel never forgets the top

    # Learning -------------------------------------------------------------------------------

    def _make(self, path: bytes) -> Node:
        if len(self.by_path) >= MOST_NODES:
            self._shrink()
        node = Node(self._next, path)
        self._next += 1
        self.by_number[node.number] = node
        self._name(node, path)
        return node

    def _name(self, node: Node, path: bytes) -> None:
        self.by_path[path] = node
        self._inside.setdefault(folder_of(path), set()).add(path)

    def _unname(self, node: Node, path: bytes) -> None:
        """The name is not this node's; another one may be."""
        del self.by_path[path]
        node.names.discard(path)
        if node.names and node.path == path:
            node.path = next(iter(node.names))
        elif not node.names and self._linked.get(node.attr.identity) is node:
            del self._linked[node.attr.identity]

    def _shrink(self) -> None:
        """Let the oldest names go that nobody needs; those that are needed become the youngest."""
        for path, node in list(itertools.islice(self.by_path.items(), MOST_NODES // 10)):
            if node.lookups <= 0 and node.opens <= 0 and path not in self._inside:
                self.drop_name(path)
                self._incomplete(path)
            else:
                self.by_path[path] = self.by_path.pop(path)

    def _incomplete(self, path: bytes) -> None:
        """It exists, and is not known any more."""
        folder = self.by_path.get(folder_of(path))
        if folder is not None:
            folder.complete = False

    def nameless(self, attr: Attr) -> Node:
        """A file that is open and has no name (O_TMPFILE)."""
        node = Node(self._next, b"", attr)
        self._next += 1
        self.by_number[node.number] = node
        return node

    def learn(self, path: bytes, attr: Attr, link: bytes, watched: bool, extended: int = UNTOLD) -> Node:
        """What the agent said of a path, as a node. Another file under the name is another node."""
        node = self.by_path.get(path)
        if node is not None and node.attr.identity != attr.identity and node.number != ROOT:
            self.drop_name(path)
            node = None
        self.missing.pop(path, None)
        several = attr.nlink > 1 and not attr.is_dir and not attr.is_link
        if node is None and several and (node := self._linked.get(attr.identity)) is not None:
            self._name(node, path)
        if node is None:
            node = self._make(path)
        if several:
            self._linked[attr.identity] = node
            node.names.add(path)
        if (node.attr.mtime, node.attr.size) != (attr.mtime, attr.size):
            self.forget_content(node)
        node.attr, node.fresh, node.link, node.watched = attr, True, link, watched
        node.extended = extended
        self.marked |= extended
        return node

    def learn_steps(self, steps: Iterable[Step]) -> list[Node]:
        """The nodes of a walk, in its order."""
        return [self.learn(s.path, Attr.unpack(s.attr), s.link, s.watched, s.extended) for s in steps]

    def learn_missing(self, path: bytes, certain: bool) -> None:
        """The name does not exist; known from now on if it is `certain` and its folder is watched."""
        self.drop_name(path)
        folder = self.by_path.get(folder_of(path))
        if not certain or folder is None or not folder.watched:
            return
        self.missing[path] = True
        self._inside.setdefault(folder_of(path), set()).add(path)
        if len(self.missing) > MOST_MISSING:
            self.drop_name(next(iter(self.missing)))

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

    def keep_listing(self, node: Node, listing: Entries) -> None:
        """A folder's entries; the oldest go when there are too many of them."""
        self._forget_listing(node)
        node.listing, node.complete = listing, True
        self._listed[node.number] = len(listing)
        self._listed_size += len(listing)
        while self._listed_size > MOST_LISTED and len(self._listed) > 1:
            number, size = self._listed.popitem(last=False)
            self._listed_size -= size
            if number in self.by_number:
                self.by_number[number].listing = None

    # Forgetting -----------------------------------------------------------------------------

    def _forget_listing(self, node: Node) -> None:
        node.listing = None
        self._listed_size -= self._listed.pop(node.number, 0)

    def forget_content(self, node: Node) -> None:
        node.version += 1
        node.head, node.complete = b"", False
        self._forget_listing(node)
        if node.data is not None:
            node.data = None
            self._inline_size -= self._inline.pop(node.number, 0)

    def list_again(self, node: Node) -> None:
        """A name in it has come or gone, which one is known."""
        node.version += 1
        self._forget_listing(node)

    def doubt_name(self, path: bytes) -> None:
        """The name may lead elsewhere: it is asked again, and is the same node if it is the same file."""
        self.missing.pop(path, None)
        node = self.by_path.get(path)
        if node is not None:
            node.fresh = node.watched = False

    def drop_name(self, path: bytes) -> Node | None:
        """The name leads elsewhere or nowhere now; its node lives on for those who have it open."""
        self.missing.pop(path, None)
        node = self.by_path.get(path)
        if node is not None and node.number == ROOT:
            return None
        self._outside(path)
        if node is not None:
            self._unname(node, path)
            node.fresh = False
            self._retire(node)
        return node

    def give_name(self, node: Node, path: bytes) -> None:
        """A file that had none, or has lost them all, is `path` now."""
        for inner in (*self.below(path), path):
            self.drop_name(inner)
        node.path = path
        self._name(node, path)

    def move(self, old: bytes, new: bytes) -> None:
        """A name became another, and with it all names below; the kernel knows the nodes by their numbers."""
        for path in (*self.below(new), new):
            self.drop_name(path)
        for path in (*self.below(old), old):
            self.missing.pop(path, None)
            self._outside(path)
            node = self.by_path.get(path)
            if node is not None:
                self._rename(node, path, new + path[len(old) :])

    def exchange(self, one: bytes, other: bytes) -> None:
        """Each of two names is the other's now, with all below."""
        for before, after in ((one, ASIDE), (other, one), (ASIDE, other)):
            self.move(before, after)

    def _rename(self, node: Node, before: bytes, after: bytes) -> None:
        if before in node.names:
            node.names.add(after)
        if node.path == before:
            node.path = after
        self._unname(node, before)
        self._name(node, after)

    def is_missing(self, path: bytes) -> bool:
        """Is it certain that the name does not exist?"""
        if path in self.missing:
            return True
        folder, _, name = path.rpartition(b"/")
        inside = self.by_path.get(folder or b"/")
        known = inside is not None and inside.complete and inside.current and len(name) <= LONGEST
        return known and path not in self.by_path

    def _outside(self, path: bytes) -> None:
        folder = folder_of(path)
        known = self._inside.get(folder)
        if known is not None:
            known.discard(path)
            if not known:
                del self._inside[folder]

    def below(self, path: bytes) -> list[bytes]:
        """Every known path below a folder, the deepest first."""
        found, todo = [], [path]
        while todo:
            inside = [inner for inner in self._inside.get(todo.pop(), ()) if inner != b"/"]  # in itself
            found += inside
            todo += inside
        return found[::-1]

    def told(self, node: Node) -> None:
        """The kernel is told of a node, which may have lost its name while the answer was on its way."""
        node.lookups += 1
        self.by_number[node.number] = node

    def forget(self, number: int, lookups: int) -> None:
        """The kernel forgot a node `lookups` times."""
        node = self.by_number.get(number)
        if node is not None and number != ROOT:
            node.lookups -= lookups
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

    # Finding --------------------------------------------------------------------------------

    def locate(self, path: bytes, follow: bool) -> Located:
        """Follows links as the kernel will, so that an open of something known costs no round trip."""
        here, links = b"/", 0
        todo = [name for name in path.split(b"/") if name][::-1]
        while todo:
            name = todo.pop()
            if name == b"..":
                here = folder_of(here)
                continue
            place = here + b"/" + name if here != b"/" else b"/" + name
            node = self.by_path.get(place)
            if node is None or not node.current or links > MOST_LINKS:
                code = errno.ENOENT if node is None and self.is_missing(place) else 0
                return Located(None, code, here, b"/".join((name, *reversed(todo))))
            if node.attr.is_link and (todo or follow):
                links += 1
                if node.link.startswith(b"/"):
                    here = b"/"
                todo += [n for n in node.link.split(b"/") if n and n != b"."][::-1]
                continue
            here = place
        node = self.by_path.get(here)
        return Located(node if node is not None and node.current else None, 0, here, b"")


def folder_of(path: bytes) -> bytes:
    """The folder of an absolute path; the top's is the top."""
    return path.rpartition(b"/")[0] or b"/"


def relative_link(path: bytes, link: bytes) -> bytes:
    """A link target as the kernel resolves it inside the tree: an absolute one becomes relative."""
    if not link.startswith(b"/"):
        return link
    up = path.strip(b"/").count(b"/")
    rest = link.lstrip(b"/")
    return (b"../" * up + rest) or b"."
