"""A session without a program: what a feature prints, until a limit, a signal or the end of who reads."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from importlib.metadata import version
from typing import Any

from attrs import evolve

from pymirror.core import registry, session
from pymirror.core.call import Call, Verdict
from pymirror.core.channel import Keys
from pymirror.core.dumping import Dumping, Order
from pymirror.core.errors import UserError
from pymirror.core.feature import Guests, Launch
from pymirror.core.session import Dispatch, Found, Part, Plan, Report
from pymirror.layer import calls
from pymirror.layer.launch import expect_children
from pymirror.layer.main import Stop, enough_descriptors, stoppable
from pymirror.layer.output import Output

STDOUT = 1


async def dump(settings: Any, part: Part, order: Order, report: Report) -> int:
    """Print what `part` sees; the exit status.

    settings: `core.config.Settings`. Raises the tree of core.errors; whatever happens, all
    that was changed is undone before this returns.
    """
    enough_descriptors(*resource.getrlimit(resource.RLIMIT_NOFILE))
    expect_children()
    launch = Launch([], dict(os.environ), "")
    with stoppable() as stop:
        none = _NoProgram(launch.guests, order, stop, report)
        out = Output(STDOUT, none.lost)
        asked = launch.shared(Dumping)
        asked.order, asked.out, asked.enough = order, out, none.over.set
        try:
            async with AsyncExitStack() as undo:
                status = await session.run(_plan(settings, part, launch, none, report), undo)
        finally:
            stop.armed = False
    out.finish()
    if none.why is None:
        report.info(asked.words())
    elif not isinstance(none.why, BrokenPipeError):
        raise UserError(f"standard output: {none.why.strerror}", "what was printed until then is there")
    return status


def _plan(settings: Any, part: Part, launch: Launch, none: _NoProgram, report: Report) -> Plan:
    runtime = registry.runtime(settings.runtime_name).cls(
        settings.runtime, settings.target, settings.namespace, report
    )
    return Plan(
        version=version("pymirror"),
        launch=launch,
        parts=[part],
        runtime=runtime,
        engine=none,
        make_dispatcher=calls.Dispatch,
        report=report,
        keys=Keys.generate(),
        make_folder=lambda undo: "",  # nothing is kept on this machine
        heartbeat=settings.heartbeat,
        lease=settings.lease,
        startup_timeout=settings.startup_timeout,
        windows=settings.windows,
        settle=partial(_settle, launch.shared(Dumping)),
    )


def _settle(asked: Dumping, found: Found) -> None:
    """UserError where there is nothing to look at."""
    if not asked.order.ports:
        asked.order = evolve(asked.order, ports=found.ports)
    if not asked.order.ports:
        raise UserError(
            f"{found.title} declares no port of its own", "name what it listens on: -p 8080, may be repeated"
        )


class _NoProgram:
    """Stands where a session has its engine, and its program, which ends when enough was printed.

    over: it is enough. why: standard output takes no more.
    """

    def __init__(self, guests: Guests, order: Order, stop: Stop, report: Report) -> None:
        self.guests, self._order, self._stop, self._report = guests, order, stop, report
        self.pid = os.getpid()
        self.over = asyncio.Event()
        self.why: OSError | None = None

    def lost(self, why: OSError) -> None:
        self.why = why
        self.over.set()

    def check(self, calls: frozenset[str]) -> None:
        """Nothing is caught."""

    async def start(
        self, argv: Sequence[str], environ: Mapping[str, str], calls: frozenset[str], dispatch: Dispatch
    ) -> _NoProgram:
        self._stop.end = self.over.set
        if self._order.seconds is not None:
            asyncio.get_running_loop().call_later(self._order.seconds, self.over.set)
        return self

    def learn(self, call: Call, verdict: Verdict | None) -> None: ...

    async def aclose(self) -> None: ...

    async def wait(self) -> int:
        await self.over.wait()
        return 0

    def end(self, message: str) -> None:
        """The connection is lost, in words."""
        self._report.warn(message.removeprefix("pymirror: ").removesuffix(": ending the program"))
        self.over.set()
