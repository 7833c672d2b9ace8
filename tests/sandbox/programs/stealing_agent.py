"""The agent with the one half of `network.incoming`; port 8081 is taken and all of it passed on."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

from pymirror.agent import main
from pymirror.core import registry
from pymirror.core.feature import handles
from pymirror.features.network.incoming import messages as m
from pymirror.features.network.incoming.agent import Agent


class Half(Agent):
    @handles(m.Subscribe)
    async def subscribe(self, asked: m.Subscribe) -> m.Subscribed:
        steal = self._steal
        if asked.port != 8081 or steal is None:
            return await super().subscribe(asked)
        await steal.take(8081, lambda sock, client, address, port: steal.pass_on(sock, client, address))
        return m.Subscribed()


found: Any = {Agent.name: SimpleNamespace(cls=Half)}
registry.agent_halves = lambda names: found  # type: ignore[assignment]
sys.exit(main.main())
