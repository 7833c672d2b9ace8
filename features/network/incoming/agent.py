"""The agent's half of `network.incoming`: takes ports of the target, each connection to the program."""

from __future__ import annotations

import errno
import os
import secrets

from pymirror.core.feature import AgentFeature, Target, handles
from pymirror.features.network.incoming import messages as m
from pymirror.features.network.incoming.steal import Steal


class Agent(AgentFeature):
    name = m.NAME
    _steal: Steal | None = None

    async def start(self, target: Target) -> None:
        session = secrets.token_hex(4)
        steal = Steal(target, self.peer, session, f"another session ({session})", self.log)
        await steal.start()
        self._steal = steal

    async def drain(self) -> None:
        if self._steal is not None:
            await self._steal.drain()

    async def aclose(self) -> None:
        if self._steal is not None:
            await self._steal.aclose()

    @handles(m.Subscribe)
    async def subscribe(self, asked: m.Subscribe) -> m.Subscribed:
        assert self._steal is not None
        try:
            await self._steal.take(asked.port)
        except OSError as error:
            code = error.errno or errno.EIO
            return m.Subscribed(code, error.strerror or os.strerror(code))
        return m.Subscribed()

    @handles(m.Release)
    async def release(self, asked: m.Release) -> None:
        assert self._steal is not None
        await self._steal.release(asked.port)
