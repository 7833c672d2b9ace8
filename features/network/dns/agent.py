"""The agent's half of `network.dns`: asks the target's name servers from the target's network.

Queries and answers are bytes; nothing of them is interpreted here but whose answer it is. The files
of the target's resolvers are looked at once a second.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import ipaddress
import itertools
import os

from pymirror.agent.target import open_inside
from pymirror.core.errors import ChannelLost
from pymirror.core.feature import AgentFeature, Target, handles
from pymirror.features.network.dns import config as keys
from pymirror.features.network.dns import header
from pymirror.features.network.dns import messages as m
from pymirror.features.network.dns.lookupfiles import Resolv, parse_resolv, servers_in_turn
from pymirror.features.network.dns.snapshot import Snapshot
from pymirror.features.network.dns.upstream import Upstream

MOST_AT_ONCE = 512
"""Queries on their way to name servers; the others wait for their turn."""
LOOK_EVERY = 1.0
"""Seconds between two looks at the files: so long a change in the target may stay unseen. A look at each
query would cost it more (0.1 to 0.5 ms) than the query does."""


class Agent(AgentFeature):
    name = m.NAME
    Config = keys.Config
    config: keys.Config
    _looking: asyncio.Task[None] | None = None

    async def start(self, target: Target) -> None:
        """PermissionError: the target's network may not be entered."""
        if self.config.is_on:
            await target.in_network(lambda: None)  # what is missing is said now, not at the first name
        self.upstream = Upstream(target.in_network)
        self._snapshot = Snapshot(functools.partial(open_inside, target.root))
        self._slots = asyncio.Semaphore(MOST_AT_ONCE)
        self._turn = itertools.count()

    async def aclose(self) -> None:
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
        if hasattr(self, "upstream"):
            self.upstream.close()

    @handles(m.AskFiles)
    async def files(self, _: m.AskFiles) -> m.Files:
        files = await asyncio.to_thread(self._snapshot.all)
        if self._looking is None:
            self._looking = asyncio.ensure_future(self._look())
        return m.Files(files)

    @handles(m.Query)
    async def query(self, query: m.Query) -> m.Answer:
        """ECONNREFUSED, ETIMEDOUT and the like: no name server has answered. EINVAL: this is no query."""
        wire = bytes(query.wire)
        try:
            header.question_end(wire)
            server = str(ipaddress.ip_address(query.server)) if query.server else ""
        except ValueError as error:
            raise OSError(errno.EINVAL, f"{os.strerror(errno.EINVAL)}: {error}") from None
        resolv = self._resolv()
        servers = (server,) if server else servers_in_turn(resolv, next(self._turn))
        async with self._slots:
            answer = await self.upstream.ask(
                wire,
                servers,
                self.config.timeout or resolv.timeout,
                self.config.attempts or resolv.attempts,
                query.tcp or resolv.tcp,
            )
        return m.Answer(answer)

    def _resolv(self) -> Resolv:
        """As it was at the last look, which the layer half had made before its first query."""
        return _parsed(self._snapshot.told(m.RESOLV).content)

    async def _look(self) -> None:
        try:
            while True:
                await asyncio.sleep(LOOK_EVERY)
                files = await asyncio.to_thread(self._snapshot.changed)
                if files:
                    await self.peer.drained()
                    self.peer.send(m.Files(files))
        except ChannelLost:
            return


@functools.lru_cache(maxsize=4)
def _parsed(content: bytes) -> Resolv:
    return parse_resolv(content.decode("utf-8", "replace"))
