"""The engine `seccomp`: every descendant's calls are caught by one filter, on Linux from 5.14.

The pump (C threads) answers what it knows; what it does not know arrives here, is dispatched, and
goes back. A verdict whose scope allows it is kept by the pump. Everything here runs in the event
loop's thread and never opens a path of a tree: the pump's threads do.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import platform
from collections.abc import Awaitable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from pymirror.core.call import (
    CALLS,
    LISTENER_CALLS,
    SOCKET_CALLS,
    Address,
    Bind,
    Call,
    Errno,
    OtherAddress,
    OtherPath,
    Scope,
    Text,
    Verdict,
)
from pymirror.core.errors import ProgramError, SupportError
from pymirror.core.later import Later
from pymirror.layer.engines.seccomp import native
from pymirror.layer.guard import Guard
from pymirror.layer.launch import IGNORED, Launched

if TYPE_CHECKING:
    from pymirror.core.session import Dispatch  # at run time it would bring ZeroMQ along

log = logging.getLogger("pymirror.layer.engines.seccomp")

UNANSWERED = Errno("unanswered", code=errno.EIO)
LOST = native.answer_of(UNANSWERED)
STOP_LIMIT = 2.0  # seconds for the pump's threads to come out of their file operations

LACKS = {
    "filter": "seccomp filters with a listener (Linux 5.14; a container's profile may forbid them)",
    "pidfd_getfd": "pidfd_getfd on its own child (Linux 5.6; a container needs CAP_SYS_PTRACE for it)",
    "notification": "seccomp notifications (Linux 5.0)",
    "process_vm_readv": "reading its own child's memory (kernel.yama.ptrace_scope must be 0 or 1)",
    "addfd": "openat2 and handing descriptors over by seccomp (Linux 5.14)",
}


def lack(stage: str, code: int) -> SupportError:
    """What a failed probe means, in words."""
    if stage == "filter" and code == errno.EBUSY:
        return SupportError(
            "engine seccomp: a supervisor above this process already listens to seccomp notifications",
            "the kernel allows one: run pymirror outside of that container or sandbox",
        )
    part = LACKS.get(stage, stage)
    return SupportError(
        f"engine seccomp: this machine lacks {part}: {os.strerror(code)}",
        f"the kernel here is {platform.release()}; see docs/limits.md",
    )


def refusal(error: native.SpawnError, path: str) -> ProgramError | SupportError:
    """The shell's exit statuses: 127 not found, 126 found but not runnable."""
    code = error.errno or errno.EIO
    if error.stage != "exec":
        return lack(error.stage, code)
    status = 127 if code in (errno.ENOENT, errno.ENOTDIR) else 126
    return ProgramError(f"{path}: {os.strerror(code)}", "check the program's path and its mode", status)


class _Guests:
    """core.feature.Guests, of an engine that may not have a pump yet."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, door: Address, client: Address, address: Address) -> None:
        self._engine._pump.put_guest(door, client, address)

    def remove(self, door: Address) -> None:
        self._engine._pump.drop_guest(door)


class Engine:
    """One session's engine. skip: names of executables that are left alone.

    executable: the file to run when it is not argv[0] itself. guard: told the program's pid.
    """

    def __init__(
        self, skip: frozenset[str] = frozenset(), executable: str = "", guard: Guard | None = None
    ) -> None:
        self._skip = skip
        self._executable = executable
        self._guard = guard
        self._made: native.Pump | None = None
        self._running: Launched | None = None
        self._dispatch: Dispatch | None = None
        self._asked: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.guests = _Guests(self)

    @property
    def _pump(self) -> native.Pump:
        if self._made is None:
            self._made = native.Pump(self._skip)
        return self._made

    def check(self, calls: frozenset[str]) -> None:
        """Try everything on a child of our own. SupportError names the part that is missing."""
        unknown = calls - CALLS
        if unknown:
            raise SupportError(f"engine seccomp: cannot catch {', '.join(sorted(unknown))}")
        stage, code = native.probe()
        if stage:
            raise lack(stage, code)

    async def start(
        self, argv: Sequence[str], environ: Mapping[str, str], calls: frozenset[str], dispatch: Dispatch
    ) -> Launched:
        """Start the program with `calls` caught; ProgramError (126, 127) if it cannot be."""
        path = self._executable or argv[0]
        self._dispatch = dispatch
        running = Launched(native.Signals(), environ.get("PYMIRROR_SESSION", ""))
        try:
            spawned = native.spawn(path, argv, environ, calls, IGNORED)
        except native.SpawnError as error:
            running.give_up()
            raise refusal(error, path) from None
        if self._guard is not None:
            self._guard.watch_pid(spawned.pid)
        running.begin(spawned.pid)
        self._running = running
        self._loop = asyncio.get_running_loop()
        self._pump.start(spawned.listener)
        self._loop.add_reader(self._pump.event, self._drain)
        return running

    def learn(self, call: Call, verdict: Verdict | None) -> None:
        """Keep `verdict` for `call`, as far as its scope reaches; None: always ask."""
        if call.name in (*SOCKET_CALLS, *LISTENER_CALLS) or (
            verdict is not None and verdict.scope is Scope.ONCE
        ):
            return
        tree = verdict.tree if verdict is not None and verdict.scope is Scope.TREE else None
        self._pump.learn(call, native.answer_of(verdict), any_follow=verdict is None, tree=tree)

    def forget(self, call: Call) -> None:
        """A `sendto`, or a call on a path, whose verdict does not hold any more: the next is asked about."""
        if self._made is None:
            return
        if call.name in SOCKET_CALLS:
            self._made.forget(call)
        else:
            self.learn(call, None)

    def counters(self) -> dict[str, int]:
        """What the pump has done so far; see native.Pump.counters."""
        return self._pump.counters()

    async def aclose(self) -> None:
        """End what still runs, stop the pump. Does not wait for ever: see STOP_LIMIT."""
        if self._running is not None:
            await self._running.aclose()
        for task in self._asked:
            task.cancel()
        if self._made is None:
            return
        pump, self._made = self._made, None
        if self._loop is not None:
            self._loop.remove_reader(pump.event)
        # In a thread: a pump thread may be inside a tree that this loop serves.
        if not await asyncio.to_thread(pump.close, STOP_LIMIT):
            log.warning("a file operation did not end within %g s; its thread ends with pymirror", STOP_LIMIT)

    def _drain(self) -> None:
        pump = self._pump
        try:
            os.read(pump.event, 8)
        except BlockingIOError:
            return
        for question in pump.questions():
            self._put(question)

    def _put(self, question: native.Question) -> None:
        """Dispatch a question; the program does not hang, whatever happens."""
        assert self._dispatch is not None
        try:
            answer = self._dispatch(question.call)
        except Exception as error:
            log.error("%s is not answered", question.call.name, exc_info=error)
            answer = UNANSWERED
        if isinstance(answer, Verdict):
            self._reply(question, answer)
            return
        if isinstance(answer, Later):
            answer.then(partial(self._reply, question))
            return
        task = asyncio.ensure_future(self._wait(question, answer))
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)

    async def _wait(self, question: native.Question, answer: Awaitable[Verdict]) -> None:
        verdict: Verdict = UNANSWERED
        try:
            verdict = await answer
        finally:
            self._reply(question, verdict)

    def _reply(self, question: native.Question, verdict: Verdict) -> None:
        if self._made is None:
            return
        answer = LOST
        try:
            fitting = _fitting(question.call, verdict)
            self.learn(question.call, fitting)
            answer = native.answer_of(fitting, question.domain)
        except Exception as error:  # others have asked, too
            log.error("%s: %s is no answer to it", question.call.name, verdict, exc_info=error)
        finally:
            self._made.reply(question.cookie, answer)


def _fitting(call: Call, verdict: Verdict) -> Verdict:
    """What does not answer such a call is a feature's bug, and the program gets EIO."""
    kinds: dict[type[Verdict], bool] = {
        Text: call.name in ("hostname", "readlink"),
        OtherPath: call.name not in (*SOCKET_CALLS, *LISTENER_CALLS, "hostname", "other"),
        OtherAddress: call.name in SOCKET_CALLS,
        Bind: call.name == "bind",
    }
    if kinds.get(type(verdict), True):
        return verdict
    words = {Text: "a text", OtherPath: "a path", OtherAddress: "an address", Bind: "an address to bind to"}[
        type(verdict)
    ]
    return Errno(f"{verdict.reason}: {words} is no answer to {call.name}", code=errno.EIO)
