"""Addresses of the names in a filter: asked for when first needed, kept for a while.

A name that does not resolve, or not in time, has no address: it matches nothing and delays nobody
again until it is asked for anew.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterable

from pymirror.features.network.names import Lookup

log = logging.getLogger("pymirror.features.network.outgoing")

KEEP, KEEP_FAILURE = 30.0, 5.0
"""Seconds; a Service's address stays, a pod's behind a headless Service changes with the pod."""
WITHIN = 3.0
"""Seconds a connect waits for names of the filter at most."""


class Lookups:
    """lookup: how the program's resolvers find names; what they say is what the program connects to."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._loop = asyncio.get_running_loop()
        self._known: dict[str, tuple[float, frozenset[str]]] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}

    def known(self, name: str) -> frozenset[str] | None:
        """None: to be asked for."""
        until, found = self._known.get(name, (0.0, frozenset()))
        return found if self._loop.time() < until else None

    async def ask(self, names: Iterable[str]) -> None:
        """Afterwards `known` has an answer to each."""
        for name in names:
            if name not in self._asking:
                self._asking[name] = self._loop.create_task(self._one(name))
        await asyncio.wait([self._asking[name] for name in names], timeout=WITHIN)
        for name in names:
            if self.known(name) is None:
                self._keep(name, frozenset())

    async def _one(self, name: str) -> None:
        try:
            self._keep(name, await (self._lookup.ask or self._here)(name))
        finally:
            del self._asking[name]

    def _keep(self, name: str, found: frozenset[str]) -> None:
        if not found:
            log.warning("%s, a name in outgoing.filter, does not resolve: it matches nothing for now", name)
        self._known[name] = (self._loop.time() + (KEEP if found else KEEP_FAILURE), found)

    async def _here(self, name: str) -> frozenset[str]:
        try:
            found = await self._loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except OSError as error:
            log.debug("%s, on this machine: %s", name, error)
            return frozenset()
        return frozenset(str(address[0]) for *_, address in found)
