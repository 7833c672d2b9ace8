"""What is asked of the agent, and what becomes of the answers: the cache is filled here and nowhere else.

An answer may be older than news that came while it was on its way: what such news touches is used once
and not kept. Everything the agent sends is bounded, in size and in time.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from attrs import define, field

from pymirror.core.errors import ChannelLost, PeerError
from pymirror.core.feature import Peer
from pymirror.features.fs import messages as m
from pymirror.features.fs.attr import Attr, unpack_entries
from pymirror.features.fs.cache import ROOT, Cache, Entries, Node, Seen, folder_of

log = logging.getLogger("pymirror.fs")

RESTARTS = 3
"""Times a listing is begun again because the agent let its rest go."""
MOST_ENTRIES = 2_000_000
"""Entries of one folder; more is an agent that does not stop."""
MOST_NEWS = 10_000
"""Paths of news kept while questions are on their way; beyond, every answer counts as older."""


OLD = -1
"""The turn of an answer that does not say which news it is younger than."""


@define
class _Meanwhile:
    """What changed while questions were on their way, and the turn of the news that said so."""

    paths: dict[bytes, int] = field(factory=dict)
    below: dict[bytes, int] = field(factory=dict)
    all: int = OLD

    def add(self, paths: list[bytes], below: list[bytes], everything: bool, turn: int) -> None:
        for known, named in ((self.paths, paths), (self.below, below)):
            known.update((path, max(turn, known.get(path, OLD))) for path in named)
        if everything or len(self.paths) + len(self.below) > MOST_NEWS:
            latest = max((turn, self.all, *self.paths.values(), *self.below.values()))
            self.paths, self.below, self.all = {}, {}, latest

    def touched(self, path: bytes, since: int = OLD) -> bool:
        """Was anything told of it that an answer of turn `since` does not know?"""
        if self.all > since or self.paths.get(path, OLD) > since:
            return True
        while self.below:
            if self.below.get(path, OLD) > since:
                return True
            if path == b"/":
                return False
            path = folder_of(path)
        return False


class Questions:
    """inline: bytes of content that come along with an open. limit: seconds for one answer."""

    def __init__(self, peer: Peer, inline: int, limit: float) -> None:
        self.peer, self.cache = peer, Cache()
        self.inline, self.limit = inline, limit
        self._loop = asyncio.get_running_loop()
        self._fetching: dict[tuple[bytes, bool, int], list[asyncio.Future[Seen]]] = {}
        self._in_flight = 0
        self.pending: Callable[[Node], bool] = lambda node: False
        """Is there content of the file that the target does not have yet?"""
        self._meanwhile = _Meanwhile()

    def ask(self, message: Any) -> asyncio.Future[Any]:
        """OSError as the target's kernel said it, ETIMEDOUT after the limit; PeerError, ChannelLost."""
        return self.peer.request(message, self.limit)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        self._in_flight += 1
        try:
            yield
        finally:
            self._answered()

    def _answered(self) -> None:
        self._in_flight -= 1
        if not self._in_flight:
            self._meanwhile = _Meanwhile()

    def news(self, paths: list[bytes], below: list[bytes], everything: bool, turn: int) -> None:
        """Answers that are on their way may not know of these changes."""
        if self._in_flight:
            self._meanwhile.add(paths, below, everything, turn)

    # Paths ----------------------------------------------------------------------------------

    def seed(self, path: bytes, follow: bool, content: bool) -> Seen | asyncio.Future[Seen]:
        """What `path` leads to; nothing more has to be asked when the kernel opens or looks at it.

        At once when it is known; OSError.
        """
        found = self.cache.locate(path, follow)
        if found.errno:
            raise OSError(found.errno, os.strerror(found.errno))
        node = found.node
        if node is not None:
            ready = node.data is not None or node.handle or not node.attr.is_file
            if ready or not content:
                return Seen(node, node.attr, node.link)
        return self.fetch(path, follow, self.inline if content else 0)

    def fetch(self, path: bytes, follow: bool, inline: int) -> asyncio.Future[Seen]:
        """Ask for a path, now. Several who want the same wait for one answer. OSError, PeerError.

        Callbacks, not a coroutine: each task in the chain is a turn of the loop that the program waits for.
        """
        key = (path, follow, inline)
        waiter: asyncio.Future[Seen] = self._loop.create_future()
        waiting = self._fetching.get(key)
        if waiting is not None:
            waiting.append(waiter)
            return waiter
        base, rest = self._way(path, follow)
        asked = self.ask(m.Fetch(base, rest, follow, inline))
        self._fetching[key] = [waiter]
        self._in_flight += 1
        asked.add_done_callback(partial(self._fetched, key))
        return waiter

    def _way(self, path: bytes, follow: bool) -> tuple[bytes, bytes]:
        """The folder to begin at and the way from there; the last name is asked for even if it is known."""
        found = self.cache.locate(path, follow)
        if found.rest:
            return found.base, found.rest
        if found.node is None or found.node.number == ROOT:
            return b"/", path.lstrip(b"/")
        folder, _, name = found.node.path.rpartition(b"/")
        return folder or b"/", name

    def _fetched(self, key: tuple[bytes, bool, int], asked: asyncio.Future[m.Fetched]) -> None:
        found: Seen | None = None
        failed: Exception = ChannelLost("the session ends")
        try:
            found = self._learned(asked.result(), key[2])
        except asyncio.CancelledError:
            log.debug("nobody waits for %r any more", key[0])
        except Exception as error:
            failed = error
        self._answered()
        for waiter in self._fetching.pop(key):
            if waiter.done():
                continue
            if found is not None:
                waiter.set_result(found)
            else:
                waiter.set_exception(failed)

    def _learned(self, reply: m.Fetched, inline: int) -> Seen:
        try:
            nodes = self.cache.learn_steps(reply.steps)
        except ValueError as error:
            raise PeerError(f"attributes cannot be read: {error}") from error
        for node in nodes:
            if self._meanwhile.touched(node.path) or self.pending(node):
                node.watched = False  # true when it was sent, perhaps not any more: asked again next time
        if reply.errno:
            if reply.errno == errno.ENOENT and reply.missing:
                self.cache.learn_missing(reply.missing, not self._meanwhile.touched(reply.missing))
            raise OSError(reply.errno, os.strerror(reply.errno))
        if not nodes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        node = nodes[-1]
        self._opened_there(node, reply, inline)
        return Seen(node, node.attr, node.link)

    def _opened_there(self, node: Node, reply: m.Fetched, inline: int) -> None:
        if reply.handle:
            if node.handle:
                self.cache.released.append(node.handle)
            node.handle = reply.handle
            self.send_released()
        if inline and node.attr.is_file:
            node.head = reply.data
            if node.watched and len(reply.data) == node.attr.size and node.attr.size < inline:
                self.cache.keep_data(node, reply.data)

    def written(self, node: Node) -> None:
        """The program changes its content: answers that are on their way do not know."""
        if self._in_flight:
            self._meanwhile.add([node.path], [], False, OLD + 1)
        node.fresh = False

    def let_go(self, handle: int) -> None:
        """The agent need not hold it any more."""
        self.cache.released.append(handle)
        self.send_released()

    def send_released(self) -> None:
        """Tell the agent which files nobody needs any more."""
        numbers = self.cache.take_released()
        if not numbers:
            return
        try:
            self.peer.send(m.Release(numbers))
        except BlockingIOError:
            self.cache.released += numbers  # with the next ones
        except ChannelLost as gone:
            log.debug("handles are gone with the channel: %s", gone)

    # Changes --------------------------------------------------------------------------------

    async def sure(self, *nodes: Node) -> None:
        """Each is what its path leads to. ESTALE: that is another one by now."""
        for node in nodes:
            if not node.fresh and (await self.fetch(node.path, False, 0)).node is not node:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    async def change(self, message: Any, moved: Callable[[], None] = lambda: None) -> m.Done:
        """Have it made over there, and learn what the answer tells. moved: renames what is known. OSError."""
        with self._asking():
            done: m.Done = await self.ask(message)
            moved()
            self._left(done)
            return done

    def _left(self, done: m.Done) -> None:
        """Learn what a change left behind. For other answers that are on their way it is news."""
        paths = [step.path for step in done.steps if step.path]
        complete = {path for path in paths if (n := self.cache.by_path.get(path)) is not None and n.complete}
        try:
            nodes = self.cache.learn_steps(step for step in done.steps if step.path)
        except ValueError as error:
            raise PeerError(f"attributes cannot be read: {error}") from error
        for node in nodes:
            touched = self._meanwhile.touched(node.path, done.turn)
            node.watched = node.watched and not touched
            node.complete = not touched and node.attr.is_dir and node.path in complete
        if done.empty and nodes and nodes[-1].current:
            nodes[-1].complete = True
        for path in done.gone:
            for inner in self.cache.below(path):
                self.cache.drop_name(inner)
            self.cache.learn_missing(path, not self._meanwhile.touched(path, done.turn))
        for path in (*paths, *done.gone):
            if (folder := self.cache.by_path.get(folder_of(path))) is not None:
                self.cache.list_again(folder)
        self._meanwhile.add([*paths, *done.gone], done.gone, False, done.turn)

    async def changed(self, node: Node, message: Any) -> None:
        """The same for an open file, whose attributes are the answer."""
        with self._asking():
            self.learn_attr(node, await self.ask(message))

    def learn_attr(self, node: Node, reply: m.Refreshed) -> None:
        """What an answer about an open file says of it."""
        try:
            attr = Attr.unpack(reply.attr)
        except ValueError as error:
            raise PeerError(f"attributes cannot be read: {error}") from error
        node.attr = attr
        named = self.cache.by_path.get(node.path) is node
        node.fresh = named and not self._meanwhile.touched(node.path, reply.turn)
        if named:
            self._meanwhile.add([node.path], [], False, reply.turn)

    # Open files and folders -----------------------------------------------------------------

    async def refresh(self, node: Node) -> Attr:
        """The attributes of a file that the agent holds open, whatever its name is by now."""
        reply: m.Refreshed = await self.ask(m.Refresh(node.handle))
        try:
            return Attr.unpack(reply.attr)
        except ValueError as error:
            raise PeerError(f"attributes cannot be read: {error}") from error

    async def held(self, node: Node) -> int:
        """The handle under which the agent holds the file. OSError."""
        if not node.handle:
            found = await self.fetch(node.path, False, self.inline or 1)
            if found.node is not node or not node.handle:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return node.handle

    async def read(self, node: Node, offset: int, size: int) -> bytes:
        """Up to `size` bytes of an open file; less only at its end. OSError."""
        for attempt in (1, 2):
            handle = await self.held(node)
            try:
                reply: m.Data = await self.ask(m.Read(handle, offset, min(size, m.MOST_READ)))
                return reply.data
            except OSError as error:
                if error.errno != errno.ESTALE or attempt == 2:
                    raise
                node.handle = 0  # the agent let it go: it holds so many files at most
        raise AssertionError("unreachable")

    async def entries(self, node: Node) -> Entries:
        """The entries of a folder, all of them. OSError, PeerError."""
        if node.listing is not None and node.watched:
            return node.listing
        with self._asking():
            version = node.version
            found, watched = await self._listed(node.path)
            watched = watched and not self._meanwhile.touched(node.path)
            for name, attr, link, told, extended in found:
                path = node.path.rstrip(b"/") + b"/" + name
                told = told and watched and not self._meanwhile.touched(path)
                self.cache.learn(path, attr, link, told, extended)
            if watched and version == node.version:
                self.cache.keep_listing(node, found)
            return found

    async def _listed(self, path: bytes) -> tuple[Entries, bool]:
        """All parts of a listing, and whether the folder is watched."""
        until = self._loop.time() + self.limit
        for _ in range(RESTARTS):
            found: Entries = []
            cursor = 0
            try:
                while True:
                    reply: m.Listed = await self.ask(m.List(path, cursor))
                    found += unpack_entries(reply.entries, reply.count)
                    cursor = reply.cursor
                    if not cursor:
                        return found, reply.watched
                    if len(found) > MOST_ENTRIES or self._loop.time() > until:
                        raise PeerError(f"the listing of {os.fsdecode(path)} does not end")
            except ValueError as error:
                raise PeerError(f"a listing cannot be read: {error}") from error
            except OSError as error:
                if error.errno != errno.ESTALE or not cursor:
                    raise  # ESTALE of a cursor: the agent let it go for others
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async def statfs(self, node: Node) -> list[int]:
        """As statvfs(3) says it in the target."""
        reply: m.StatFsAnswer = await self.ask(m.StatFs(node.path))
        return reply.numbers

    def end(self) -> None:
        """Whoever waits for a path does not any more."""
        for waiter in itertools.chain.from_iterable(self._fetching.values()):
            waiter.cancel()
