"""`python far.py API MS WORDS…`: pymirror's command line with a delay before the agent's channel.

For the `process` runtime, whose agent is on this machine: the channel leads through the toxiproxy at API.
"""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack

from attrs import evolve
from delay import Delay

from pymirror.cli.main import main
from pymirror.core.session import AgentOrder, Endpoint, Found
from pymirror.runtimes.process.runtime import Runtime

SCHEME = "tcp://"
near = Runtime.start


def through(delay: Delay) -> None:
    """Put `delay` before each agent that is started from now on."""

    async def start(self: Runtime, found: Found, order: AgentOrder, undo: AsyncExitStack) -> Endpoint:
        endpoint = await near(self, found, order, undo)
        return evolve(endpoint, address=SCHEME + delay.before(endpoint.address.removeprefix(SCHEME)))

    Runtime.start = start  # type: ignore[method-assign]


if __name__ == "__main__":
    _, api, ms, *words = sys.argv
    through(Delay(api, int(ms)))
    sys.argv[1:] = words
    sys.path.pop(0)  # this folder, whose dns.py is not the library
    main()
