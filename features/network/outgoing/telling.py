"""What the target's network refused, told to the program's socket: beside the other messages.

To look for the socket can take longer than a connect should wait for its answer, which is a message too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from pymirror.features.network.outgoing.borrow import borrowed
from pymirror.features.network.outgoing.datagrams import Flow

log = logging.getLogger("pymirror.features.network.outgoing")

Find = Callable[[Flow], Awaitable["tuple[int, int] | None"]]


class Telling:
    """Of a session. find(flow): (process, descriptor) that has the program's socket, None: nobody has."""

    def __init__(self, find: Find) -> None:
        self._find = find
        self._telling: dict[Flow, asyncio.Task[None]] = {}
        self._level = logging.WARNING

    def refused(self, flow: Flow) -> None:
        """The program hears of it at its next call, as the kernel has it: once for all until then."""
        if flow not in self._telling:
            task = self._telling[flow] = asyncio.ensure_future(self._tell(flow))
            task.add_done_callback(lambda _: self._telling.pop(flow))

    async def aclose(self) -> None:
        telling = list(self._telling.values())
        for task in telling:
            task.cancel()
        await asyncio.gather(*telling, return_exceptions=True)

    async def _tell(self, flow: Flow) -> None:
        try:
            program = borrowed(*flow.holder, flow.program) if flow.holder is not None else None
            if program is None:
                flow.holder = await self._find(flow)
                program = borrowed(*flow.holder, flow.program) if flow.holder is not None else None
            if program is not None:
                with program:
                    if not flow.closed:
                        flow.refuse(program)
        except OSError as error:
            level, self._level = self._level, logging.DEBUG  # told once: it may be so for each datagram
            log.log(level, "what the target's network refused is not told to the program: %s", error)
