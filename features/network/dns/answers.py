"""The layer's way from a query to its answer: whose name it is, the cache, one of the two sides.

Answers come in any order. Queries of one key that are under way are one. Bounded: so many at once,
so many waiting; beyond that SERVFAIL at once, which resolvers take for "try again".
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Hashable, Iterable

from attrs import define, field

from pymirror.core.errors import PeerError
from pymirror.features.network.dns import header, packets
from pymirror.features.network.dns.cache import Cache
from pymirror.features.network.dns.names import Decision, Rules

log = logging.getLogger("pymirror.features.network.dns")

MOST_AT_ONCE = 256
MOST_WAITING = 4096
"""Queries that wait for their turn: as many descriptors as a program has would fill it once."""

Ask = Callable[[bytes, str, bool], Awaitable[bytes]]
"""(query, one server or "" for the usual ones, over TCP) → answer. OSError, PeerError."""
Learned = Callable[[str, Iterable[str], bool], None]
"""(name as it was asked for, its addresses, whether this machine said so)."""


@define
class Answers:
    """target, here: ask on that side. clock: seconds that only grow. decided: told of each name asked for."""

    target: Ask
    here: Ask
    learned: Learned
    cache: Cache
    clock: Callable[[], float]
    decided: Callable[[str, Decision], None] = lambda name, decision: None
    rules: Rules = field(factory=Rules)
    most_at_once: int = MOST_AT_ONCE
    most_waiting: int = MOST_WAITING
    _slots: asyncio.Semaphore = field(init=False)
    _waiting: int = field(default=0, init=False)  # for an answer
    _flying: int = field(default=0, init=False)  # on their way, also where nobody waits any more
    _level: int = field(default=logging.WARNING, init=False)
    _flights: dict[Hashable, asyncio.Task[bytes]] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.most_at_once)

    async def answer(self, query: bytes, server: str, tcp: bool) -> bytes | None:
        """What goes back for `query`, which was sent to `server` (see `Ask`); None: nothing does."""
        if len(query) < header.HEADER or query[2] & header.RESPONSE:
            return None
        try:
            question = packets.read_question(query)
        except ValueError as error:
            log.debug("a query that cannot be read: %s", error)
            return header.failure(query, header.FORMERR)
        if question.kind in packets.TRANSFERS:
            return header.failure(query, header.NOTIMP)
        answer = await self._settled(query, question, server, tcp)
        if not tcp and len(answer) > question.room:
            return header.shortened(query, answer, packets.extension(answer))
        return answer

    async def _settled(self, query: bytes, question: packets.Question, server: str, tcp: bool) -> bytes:
        decision = self.rules.decide(question.name)
        key = None if question.key is None else (decision.here, server, question.key)
        kept = None if key is None else self.cache.get(key, self.clock())
        if kept is not None:
            return header.renumbered(kept, query)
        if max(self._waiting, self._flying) >= self.most_waiting:
            level, self._level = self._level, logging.DEBUG  # told once: there may be many
            log.log(level, "%d names wait for an answer: %s failed", self._waiting, question.name)
            return header.failure(query, header.SERVFAIL)
        flight = self._flights.get(key) if key is not None else None
        if flight is None:
            self.decided(question.name, decision)
            ask = functools.partial(self.here if decision.here else self.target, query, server, tcp)
            flight = asyncio.ensure_future(self._fetch(query, question, ask, key))
            if key is not None:
                self._flights[key] = flight
        self._waiting += 1
        try:  # Shielded: who asked first may go away, the others still want it.
            return header.renumbered(await asyncio.shield(flight), query)
        finally:
            self._waiting -= 1

    async def _fetch(
        self, query: bytes, question: packets.Question, ask: Callable[[], Awaitable[bytes]], key: Hashable
    ) -> bytes:
        self._flying += 1
        try:
            async with self._slots:
                answer = await ask()
        except (OSError, PeerError) as error:
            log.debug("%s: %s", question.name, error)
            return header.failure(query, header.SERVFAIL)
        finally:
            self._flying -= 1
            self._flights.pop(key, None)
        told = packets.read_answer(answer)
        if key is not None:
            self.cache.put(key, answer, told.ttls, told.seconds, self.clock())
        if told.addresses:
            self.learned(question.name, told.addresses, self.rules.decide(question.name).here)
        return answer

    async def aclose(self) -> None:
        """Nobody waits for an answer any more."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
