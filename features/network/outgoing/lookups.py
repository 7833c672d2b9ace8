"""Addresses of the names in a filter: asked for when the program starts, and again when they are old.

A connect waits only for a name that was never looked up, or long ago. A name that does not resolve, or
not in time, has no address: it matches nothing and delays nobody.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterable, Sequence
from typing import Any

from pymirror.features.network.names import Lookup

log = logging.getLogger("pymirror.features.network.outgoing")

KEEP, KEEP_FAILURE = 30.0, 5.0
"""Seconds until it is asked for again; a Service's address stays, a pod's behind a headless Service changes
with the pod."""
STALE = 300.0
"""Seconds after that in which the old answer counts while the new one is on its way."""
MOST_KNOWN = 4096
WITHIN = 3.0
"""Seconds a connect waits for names of the filter at most."""


class Lookups:
    """lookup: how names are found. level: of the log, for a name that does not resolve."""

    def __init__(self, lookup: Lookup, level: int = logging.WARNING) -> None:
        self._lookup, self._level = lookup, level
        self._loop = asyncio.get_running_loop()
        self._known: dict[str, tuple[float, frozenset[str]]] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}

    def known(self, name: str) -> frozenset[str] | None:
        """None: to be asked for. What is old is asked for again meanwhile."""
        until, found = self._known.get(name, (-STALE, frozenset()))
        late = self._loop.time() - until
        if late >= STALE:
            return None
        if late >= 0:
            self.begin([name])
        return found

    def begin(self, names: Iterable[str]) -> None:
        """Ask for these; nobody waits."""
        for name in names:
            if name not in self._asking:
                self._asking[name] = self._loop.create_task(self._one(name))

    async def ask(self, names: Sequence[str], within: float = WITHIN) -> None:
        """Afterwards, `within` seconds at most, `known` has an answer to each."""
        self.begin(names)
        await asyncio.wait([self._asking[name] for name in names], timeout=within)
        for name in names:
            if self.known(name) is None:
                self._keep(name, frozenset())

    async def aclose(self) -> None:
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, name: str) -> None:
        try:
            self._keep(name, await (self._lookup.ask or self._here)(name))
        finally:
            del self._asking[name]

    def _keep(self, name: str, found: frozenset[str]) -> None:
        if not found and (name not in self._known or self._known[name][1]):  # once, not at each further try
            log.log(self._level, "%s, of outgoing.filter, does not resolve: it matches nothing for now", name)
        if len(self._known) >= MOST_KNOWN and name not in self._known:
            del self._known[next(iter(self._known))]
        self._known[name] = (self._loop.time() + (KEEP if found else KEEP_FAILURE), found)

    async def _here(self, name: str) -> frozenset[str]:
        try:
            found = await self._loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except OSError as error:
            log.debug("%s, on this machine: %s", name, error)
            return frozenset()
        return frozenset(_numeric(address) for *_, address in found)


def _numeric(address: tuple[Any, ...]) -> str:
    """The device of a link-local one by its number, as the engine writes it."""
    bare, percent, _ = str(address[0]).partition("%")
    return f"{bare}%{address[3]}" if percent else bare
