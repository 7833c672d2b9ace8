"""One session's table in the packet filter of the target's network: which ports it takes.

The kernel owns it for us: it goes with the agent, and each port that is not renewed goes by itself. Of the
others it tells what their tables say: nothing is asked of their agents.
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
from pymirror.features.network.incoming import ruleset, sharing
from pymirror.features.network.incoming.ruleset import Place
from pymirror.features.network.incoming.sharing import Claim, Holder

TRIES, PAUSE = 8, 0.05
"""Of those who take a port in the same moment; seconds at most before the second try, then twice as many each
time."""
SPARE = 0.5
"""Seconds before a lease ends in which it is not sure that a renewal comes in time."""
SETS = "list sets inet"
"""Tells of the other sessions' tables too, and those are not to be listed: agent/nft.py."""
InNetwork = Callable[[Callable[[], Any]], Awaitable[Any]]


class Table:
    """in_network: the target's. nft: made by it. Made by `open`."""

    def __init__(
        self, in_network: InNetwork, nft: Nft, rank: int, whose: str, versions: Sequence[int]
    ) -> None:
        self._in_network, self._nft, self._whose, self._versions = in_network, nft, whose, versions
        self.rank, self.name, self.mark = rank, ruleset.table_of(rank), ruleset.mark_of(rank)
        self.ports: dict[int, Claim] = {}
        self._one = asyncio.Lock()  # the threads would do a renewal and a release in any order
        self._renewed = time.monotonic()
        self._networks: set[int] = set()
        self._before: dict[int, set[int]] = {}  # port → ranks that are known to be asked first

    @classmethod
    async def open(cls, in_network: InNetwork, whose: str, catchers: Mapping[int, int]) -> Table:
        """whose: words that another session is refused with. catchers: as of `ruleset.made`.

        OSError naming what is missing.
        """
        nft: Nft = await in_network(Nft)
        try:
            rank = await in_network(partial(_begin, nft, whose, catchers))
        except BaseException as error:
            await in_network(nft.close)
            raise lack(error) if isinstance(error, NftError) else error from error
        return cls(in_network, nft, rank, whose, tuple(catchers))

    async def take(self, port: int, claim: Claim) -> str:
        """New connections to the port are caught from now on. Words about whose filters are asked before.

        OSError: EADDRINUSE, and whose it is.
        """
        for tried in range(TRIES):
            if tried:  # the others' renewals do not wait for it
                await asyncio.sleep(random.uniform(0, PAUSE * 2 ** (tried - 1)))
            async with self._one:
                shared = await self._try(port, claim)
            if shared is not None:
                return shared
        raise OSError(errno.EADDRINUSE, "others are taking it at this moment")

    async def _try(self, port: int, claim: Claim) -> str | None:
        """None: others look at it, too. OSError: it is theirs."""
        await self._free(port, claim)
        await self._run(ruleset.taken(self.name, {port: claim.words(self._whose)}))
        others = await self._others(port)
        if sharing.refusal(claim, others.values()):
            await self._run(ruleset.released(self.name, port))
            return None
        self.ports[port] = claim
        self._before[port] = {rank for rank in others if rank < self.rank}
        return sharing.earlier(self.rank, others)

    async def release(self, port: int) -> None:
        """New connections reach the application again."""
        async with self._one:
            self.ports.pop(port, None)
            await self._run(ruleset.released(self.name, port))

    async def renew(self) -> list[tuple[int, str]]:
        """Keep the ports. After a pause that cost them: the ports that others took meanwhile, and why not."""
        lost = []
        async with self._one:
            now = time.monotonic()  # the kernel counts from then, or from a little later
            late = now - self._renewed > ruleset.LEASE - SPARE
            for port, claim in list(self.ports.items()) if late else ():
                try:
                    await self._free(port, claim)
                except OSError as error:
                    del self.ports[port]
                    lost.append((port, error.strerror or str(error)))
            if self.ports:
                held = {port: claim.words(self._whose) for port, claim in self.ports.items()}
                await self._run(ruleset.taken(self.name, held))
            self._renewed = now
        return lost

    async def joined(self) -> list[tuple[int, str]]:
        """Ports that an older session has come to since this was last asked, and words about it."""
        if not any(claim.digest for claim in self.ports.values()):
            return []
        listed = ruleset.holders(await self._listed(), self.rank)
        found = []
        for port in self.ports:
            others = _read(listed.get(port, {}))
            before = {rank for rank in others if rank < self.rank}
            if before - self._before.get(port, set()):
                found.append((port, sharing.earlier(self.rank, others)))
            self._before[port] = before
        return found

    def clients(self, seen: Mapping[int, Sequence[tuple[int, Place]]]) -> None:
        """Connections of these marks look like these clients; call it from a thread in there. NftError.

        What `ruleset.network_of` numbers is told once for each network, and stays.
        """
        four = seen.get(4, ())
        apart = {4: [each for each in four if each[0] >> 24 >= ruleset.APART], 6: seen.get(6, ())}
        new = {mark >> 24 for mark, _ in four if mark >> 24 < ruleset.APART} - self._networks
        commands = [ruleset.network(self.rank, first) for first in sorted(new)]
        if any(apart.values()):
            commands.append(ruleset.clients(self.name, {each: apart[each] for each in self._versions}))
        if commands:
            self._nft.run("\n".join(commands))
            self._networks |= new

    def knows(self, network: int) -> bool:
        """Has the number of that network its rule?"""
        return network in self._networks

    async def aclose(self) -> None:
        """The table is gone when this returns, and with it the names of connections that go on."""
        await self._in_network(self._nft.close)

    async def _free(self, port: int, claim: Claim) -> None:
        why = sharing.refusal(claim, (await self._others(port)).values())
        if why:
            raise OSError(errno.EADDRINUSE, why)

    async def _others(self, port: int) -> dict[int, Holder]:
        return _read(ruleset.holders(await self._listed(), self.rank).get(port, {}))

    async def _listed(self) -> Any:
        return await self._in_network(partial(self._nft.list, SETS))

    async def _run(self, commands: str) -> None:
        await self._in_network(partial(self._nft.run, commands))


def _begin(nft: Nft, whose: str, catchers: Mapping[int, int]) -> int:
    """The rank of the table that it makes. In a thread in there. OSError."""
    while True:
        latest = ruleset.latest(nft.list(SETS))
        if latest == ruleset.LAST_RANK:
            raise OSError(
                errno.EUSERS, f"{latest} sessions have followed each other here: end them, and start again"
            )
        try:
            nft.run(ruleset.made(latest + 1, whose, catchers))
        except NftError:
            if ruleset.latest(nft.list(SETS)) == latest:  # else another was faster
                raise
        else:
            return latest + 1


def _read(words: Mapping[int, str]) -> dict[int, Holder]:
    return {rank: Holder.read(each) for rank, each in words.items()}


def lack(error: NftError) -> OSError:
    """Why there is no table, with what it takes."""
    if error.errno == errno.EPERM:
        return PermissionError(
            errno.EPERM, "the target's packet filter may not be changed: the agent lacks NET_ADMIN"
        )
    return OSError(
        error.errno, f"the target's packet filter takes no table of an owner (Linux 5.12): {error.strerror}"
    )
