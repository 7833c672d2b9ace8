"""One session's table in the packet filter of the target's network: which ports it takes.

The kernel owns it for us: it goes with the agent, and each port that is not renewed goes by itself.
"""

from __future__ import annotations

import asyncio
import errno
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from pymirror.agent.nft import Nft, NftError
from pymirror.features.network.incoming import ruleset
from pymirror.features.network.incoming.ruleset import Place

TRIES, PAUSE = 6, 0.05
"""Of those who take a port in the same moment; seconds at most between two."""
SETS = "list sets inet"
"""Tells of the other sessions' tables too, and those are not to be listed: agent/nft.py."""
InNetwork = Callable[[Callable[[], Any]], Awaitable[Any]]


class Table:
    """in_network: the target's. nft: made by it. Made by `open`."""

    def __init__(
        self, in_network: InNetwork, nft: Nft, name: str, whose: str, versions: Sequence[int]
    ) -> None:
        self._in_network, self._nft, self._whose, self._versions = in_network, nft, whose, versions
        self.name, self.mark = name, ruleset.mark_of(name)
        self.ports: set[int] = set()
        self._one = asyncio.Lock()  # the threads would do a renewal and a release in any order
        self._renewed = time.monotonic()

    @classmethod
    async def open(
        cls, in_network: InNetwork, session: str, whose: str, catchers: Mapping[int, int]
    ) -> Table:
        """whose: words that another session is refused with. catchers: as of `ruleset.made`.

        OSError naming what is missing.
        """
        nft: Nft = await in_network(Nft)
        try:
            others = ruleset.sessions(await in_network(partial(nft.list, SETS)))
            name = ruleset.unlike(ruleset.table_of(session), others)
            await in_network(partial(nft.run, ruleset.made(name, whose, catchers)))
        except BaseException as error:
            await in_network(nft.close)
            raise lack(error) if isinstance(error, NftError) else error from error
        return cls(in_network, nft, name, whose, tuple(catchers))

    async def take(self, port: int) -> None:
        """New connections to the port are caught from now on. OSError: EADDRINUSE, and whose it is."""
        async with self._one:
            for _ in range(TRIES):
                await self._free(port)
                await self._run(ruleset.taken(self.name, self._whose, {port}))
                if not await self._others(port):
                    self.ports.add(port)
                    return
                await self._run(ruleset.released(self.name, port))  # somebody looked in the same moment
                await asyncio.sleep(random.uniform(0, PAUSE))
        raise OSError(errno.EADDRINUSE, "others are taking it at this moment")

    async def release(self, port: int) -> None:
        """New connections reach the application again."""
        async with self._one:
            self.ports.discard(port)
            await self._run(ruleset.released(self.name, port))

    async def renew(self) -> list[tuple[int, str]]:
        """Keep the ports. After a pause that cost them: the ports that others took meanwhile, and why not."""
        lost = []
        async with self._one:
            for port in sorted(self.ports) if time.monotonic() - self._renewed > ruleset.LEASE else ():
                try:
                    await self._free(port)
                except OSError as error:
                    self.ports.discard(port)
                    lost.append((port, error.strerror or str(error)))
            if self.ports:
                await self._run(ruleset.taken(self.name, self._whose, self.ports))
            self._renewed = time.monotonic()
        return lost

    def clients(self, seen: Mapping[int, Sequence[tuple[int, Place]]]) -> None:
        """See `ruleset.clients`; call it from a thread in there. NftError."""
        both = {version: seen.get(version, ()) for version in self._versions}
        self._nft.run(ruleset.clients(self.name, both))

    async def aclose(self) -> None:
        """The table is gone when this returns, and with it the names of connections that go on."""
        await self._in_network(self._nft.close)

    async def _free(self, port: int) -> None:
        for whose in (await self._others(port)).values():
            raise OSError(errno.EADDRINUSE, f"{whose} has it")

    async def _others(self, port: int) -> dict[str, str]:
        listed = await self._in_network(partial(self._nft.list, SETS))
        return ruleset.holders(listed, port, self.name)

    async def _run(self, commands: str) -> None:
        await self._in_network(partial(self._nft.run, commands))


def lack(error: NftError) -> OSError:
    """Why there is no table, with what it takes."""
    if error.errno == errno.EPERM:
        return PermissionError(
            errno.EPERM, "the target's packet filter may not be changed: the agent lacks NET_ADMIN"
        )
    return OSError(
        error.errno, f"the target's packet filter takes no table of an owner (Linux 5.12): {error.strerror}"
    )
