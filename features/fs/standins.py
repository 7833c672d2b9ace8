"""Files of the target that the program watches: what the agent tells of them is done to their stand-ins.

The program's watch is on the stand-in (stage.py), so its events are the kernel's. A stand-in and the agent's
watch live as long as the program's: the kernel says when its last one is gone. What the agent told of caches
is carried out before an event is: who hears of a change finds it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Awaitable, Callable
from itertools import count

from pymirror.core.errors import ChannelLost, PeerError, SupportError
from pymirror.core.feature import Peer
from pymirror.features.fs import messages as m
from pymirror.features.fs import mount
from pymirror.features.fs.replay import MOST, Do, steps
from pymirror.features.fs.stage import Stage

log = logging.getLogger("pymirror.fs")

GRACE = 5.0
"""Seconds a stand-in that nobody watches is kept: whoever was told of it is about to."""
MOST_WAITING = 100_000
"""Events that wait to be done here; more are lost, which is said, as more than a program's queue are."""


class StandIns:
    """Of one session. made: the mount for them. settled: when news of caches is carried out."""

    def __init__(
        self,
        peer: Peer,
        limit: float,
        made: Callable[[], mount.Mount],
        settled: Callable[[], Awaitable[None]],
    ) -> None:
        self._peer, self._limit, self._made, self._settled = peer, limit, made, settled
        self._numbers = count(1)
        self._stage: asyncio.Task[Stage] | None = None
        self._used: dict[int, float] = {}
        self._waiting: list[m.Event] = []
        self._playing: asyncio.Task[None] | None = None
        self._told_lost = False
        self._loop = asyncio.get_running_loop()

    async def of(self, path: bytes) -> tuple[int, bytes]:
        """A folder's descriptor and the name in it of the stand-in for `path` of the target. OSError."""
        stage = await self._opened()
        if len(stage) >= MOST:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        asked = next(self._numbers)
        reply: m.Watched = await self._peer.request(m.Watch(path, asked), self._limit)
        if not 0 < reply.number <= asked:
            raise PeerError(f"there is no watch {reply.number}")
        stage.add(reply.number, reply.folder)
        self._use(reply.number)
        return stage.mount.root, b"%d" % reply.number

    async def _opened(self) -> Stage:
        """Mounted when the first is wanted."""
        if self._stage is None:
            self._stage = self._loop.create_task(self._mounted())
        return await asyncio.shield(self._stage)

    async def _mounted(self) -> Stage:
        """In a thread: fusermount3 takes a while. OSError."""
        try:
            return Stage(await asyncio.to_thread(self._made), self._unwatched)
        except SupportError as error:
            log.warning("files of the target cannot be watched: %s", error)
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from error

    # What happens in the target -------------------------------------------------------------

    def happened(self, news: m.Happened) -> None:
        lost = news.lost or len(self._waiting) + len(news.events) > MOST_WAITING
        if lost and not self._told_lost:
            self._told_lost = True
            log.warning("more happened to watched files than could be told: the program misses some events")
        if len(self._waiting) + len(news.events) <= MOST_WAITING:
            self._waiting += news.events
        if self._waiting and self._playing is None:
            self._playing = self._loop.create_task(self._play())

    async def _play(self) -> None:
        try:
            stage = await self._opened()
            while self._waiting:
                now, self._waiting = self._waiting, []
                await self._settled()
                found = steps(now)
                await stage.play(found)
                for step in found:
                    if step.do is Do.END and step.at is not None:
                        stage.drop(step.at[0])
                        self._used.pop(step.at[0], None)
        finally:
            self._playing = None

    # Their end ------------------------------------------------------------------------------

    def _use(self, number: int) -> None:
        self._used[number] = self._loop.time()
        self._loop.call_later(GRACE, self._let_go, number)

    def _let_go(self, number: int) -> None:
        """By now it is watched, or never will be; then this has the kernel forget it, and say so."""
        stage = self._ready()
        if stage is not None and stage.has(number):
            stage.let_go(number)
            self._look(number)

    def _ready(self) -> Stage | None:
        done = self._stage is not None and self._stage.done() and not self._stage.cancelled()
        return self._stage.result() if self._stage and done and not self._stage.exception() else None

    def _unwatched(self, number: int) -> None:
        self._look(number)

    def _look(self, number: int) -> None:
        """Give it back, if nobody watches it and nobody was told of it just now."""
        stage = self._ready()
        if stage is None or not stage.has(number) or stage.is_watched(number):
            return
        if self._loop.time() < self._used.get(number, 0.0) + GRACE:
            return
        stage.drop(number)
        self._used.pop(number, None)
        try:
            self._peer.send(m.Unwatch([number]))
        except BlockingIOError:
            self._loop.call_later(GRACE, self._say_again, [number])
        except ChannelLost as gone:
            log.debug("watches are gone with the channel: %s", gone)

    def _say_again(self, numbers: list[int]) -> None:
        try:
            self._peer.send(m.Unwatch(numbers))
        except (BlockingIOError, ChannelLost) as error:
            log.debug("watches %s are not given back: %s", numbers, error)

    async def aclose(self) -> None:
        if self._playing is not None:
            self._playing.cancel()
        if self._stage is None:
            return
        try:
            stage = await self._stage
        except OSError:
            return  # it was said to who asked
        await stage.aclose()
        await mount.unmount(stage.mount)
