"""The supervisor: turns settings into a plan, runs the session, undoes everything.

The order matters: the guard is forked before any thread exists, so before the session's *check* (it
waits on a pipe and changes nothing); until the program runs, Ctrl-C and TERM cancel the start, and the
clean-up stack still runs to its end.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import secrets
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from importlib.metadata import version
from typing import Any

from pymirror.core import registry, session
from pymirror.core.channel import Keys
from pymirror.core.errors import UserError
from pymirror.core.feature import Launch, LayerFeature
from pymirror.core.session import Part, Plan, Report
from pymirror.layer.calls import Dispatch
from pymirror.layer.guard import Guard
from pymirror.layer.launch import IGNORED, expect_children

log = logging.getLogger("pymirror.layer")

SESSION = "PYMIRROR_SESSION"
"""In the program's environment; a nested `pymirror exec` is refused by it, the guard finds by it."""

DESCRIPTORS = 96
"""Open files a session may need before the program starts: 32 were measured with a process's agent; a
cluster's takes some 20 more, for requests, watches and its port-forward. ZeroMQ aborts where it gets none."""


def enough_descriptors(soft: int, hard: int) -> None:
    """UserError for a limit too low to start with. Not raised here: the program would inherit it."""
    if resource.RLIM_INFINITY != soft < DESCRIPTORS:
        low = resource.RLIM_INFINITY != hard < DESCRIPTORS
        raise UserError(
            f"only {soft} files may be open at once here (`ulimit -n`), and pymirror needs {DESCRIPTORS}",
            f"run `ulimit -n {DESCRIPTORS}` before it"
            + (f", as root: the hard limit is {hard}" if low else ""),
        )


async def run(settings: Any, argv: Sequence[str], executable: str, report: Report, trace: bool) -> int:
    """Run `argv` (its file is `executable`) in the target's context; its exit status.

    settings: `core.config.Settings`. Raises the tree of core.errors; whatever happens, all
    that was changed is undone before this returns.
    """
    enough_descriptors(*resource.getrlimit(resource.RLIMIT_NOFILE))
    expect_children()
    guard = Guard.start()
    with stoppable() as stop:
        async with AsyncExitStack() as undo:
            undo.callback(guard.close)
            try:
                plan = _plan(settings, argv, executable, report, trace, guard, undo)
                return await session.run(plan, undo)
            finally:
                stop.armed = False  # from here on everything is undone, whoever is impatient


def _plan(
    settings: Any,
    argv: Sequence[str],
    executable: str,
    report: Report,
    trace: bool,
    guard: Guard,
    undo: AsyncExitStack,
) -> Plan:
    halves = registry.layer_halves()
    parts = [
        Part(halves[name].cls, config)
        for name, config in settings.features.items()
        if halves[name].cls.wanted(config)
    ]
    identity = secrets.token_hex(8)
    guard.session(identity)
    environ = {**os.environ, SESSION: identity}
    runtime = registry.runtime(settings.runtime_name).cls(
        settings.runtime, settings.target, settings.namespace, report
    )
    engine = registry.engine(settings.engine).cls(skip=settings.skip, executable=executable, guard=guard)
    undo.push_async_callback(engine.aclose)
    launch = Launch(list(argv), environ, "", visible=guard.unmount, connection=guard.cut)
    launch.forget, launch.guests = engine.forget, engine.guests
    if trace:
        launch.trace = report.trace
    return Plan(
        version=version("pymirror"),
        launch=launch,
        parts=parts,
        runtime=runtime,
        engine=engine,
        make_dispatcher=_dispatcher(report if trace else None),
        report=report,
        keys=Keys.generate(),
        make_folder=partial(make_folder, guard),
        heartbeat=settings.heartbeat,
        lease=settings.lease,
        startup_timeout=settings.startup_timeout,
        windows=settings.windows,
    )


def make_folder(guard: Guard, undo: AsyncExitStack) -> str:
    """A folder that only this user may enter; it goes with the session, however that ends."""
    folder = tempfile.mkdtemp(prefix="pymirror-")
    undo.callback(shutil.rmtree, folder, ignore_errors=True)
    guard.remove(folder)
    return folder


def _dispatcher(report: Report | None) -> Callable[[Sequence[LayerFeature]], Dispatch]:
    return lambda halves: Dispatch(halves, report.trace if report else None)


class Stop:
    """A signal while starting cancels the start, once. end: what it does instead, later."""

    def __init__(self, task: asyncio.Task[object]) -> None:
        self.end: Callable[[], object] = task.cancel
        self.armed, self.number = True, 0

    def __call__(self, number: int) -> None:
        if self.armed:
            self.armed, self.number = False, number
            self.end()


@contextmanager
def stoppable() -> Iterator[Stop]:
    """INT, TERM and HUP cancel the start; while the program runs the engine has them, later nobody."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    stop = Stop(task)
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if n not in IGNORED]
    for number in numbers:
        loop.add_signal_handler(number, stop, number)
    try:
        yield stop
    except asyncio.CancelledError:
        if not stop.number:
            raise
        raise Interrupted(stop.number) from None
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


class Interrupted(Exception):
    """Starting was ended by a signal; everything is undone. `exit_status` is 128 + its number."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_status = 128 + number
