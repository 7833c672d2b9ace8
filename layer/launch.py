"""The program as a child: its signals, its stops, its exit status.

The program stays in pymirror's process group and session, so the terminal reaches it without us: what
the terminal sends to the group is not sent again, what is sent to pymirror alone is passed on; so is a
hang-up, which the kernel tells a session's leader alone. When the program is stopped, pymirror stops as
well, so that the shell sees its job stopped.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterable
from typing import Protocol

from pymirror.layer.guard import members

GRACE = 5.0
"""Seconds between TERM and KILL in `end`: what docker stop and kubectl leave half of is enough here."""

_JOB_CONTROL = (signal.SIGTSTP, signal.SIGTTIN)
_PASSED_ON = (
    signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2,
    signal.SIGWINCH, signal.SIGCONT, *_JOB_CONTROL,
)  # fmt: skip
_HANG_UP = (signal.SIGHUP, signal.SIGCONT)
_PYTHONS_OWN = (signal.SIGPIPE, signal.SIGXFSZ)  # ignored by the interpreter, not by who started us


def _ignored_now() -> frozenset[int]:
    return frozenset(
        number
        for number in signal.valid_signals()
        if number not in _PYTHONS_OWN and signal.getsignal(number) is signal.SIG_IGN
    )


IGNORED = _ignored_now()
"""What pymirror itself was started with (nohup, a shell's `&`): the program starts with the same."""


def expect_children() -> None:
    """Before the first child: with SIGCHLD ignored, as who started us may do, no child leaves a status."""
    if signal.SIGCHLD in IGNORED:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


class Came(Protocol):
    """A signal and where it came from."""

    @property
    def number(self) -> int: ...
    @property
    def from_user(self) -> bool: ...
    @property
    def sender(self) -> int: ...


class Source(Protocol):
    """Signals with their origin (engines/seccomp/native.py)."""

    def take(self, numbers: Iterable[int]) -> int: ...
    def come(self) -> Iterable[Came]: ...
    def wait(self, pid: int) -> tuple[int, int]: ...
    def give_back(self) -> None: ...


def passes_on(came: Came, program: int, leader: bool) -> bool:
    """Is this signal for the program, and did it not get it already?

    The terminal and the kernel send to the whole group; a program that signals its own group
    has signalled itself. When the terminal is gone, the kernel sends HUP and CONT to the session's
    leader alone, and it is us if `leader`. SIGCHLD is ours.
    """
    if not came.from_user:
        return leader and came.number in _HANG_UP
    return came.sender != program and came.number in _PASSED_ON


def exit_status(status: int) -> int:
    """A wait status as the shell says it."""
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def may_stop(terminal: int, leader: bool) -> bool:
    """Stop with the program only if somebody can continue us: a shell at a terminal above us."""
    return terminal != 0 and not leader


def _leads() -> bool:
    return os.getsid(0) == os.getpid()


def _terminal() -> int:
    with open("/proc/self/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[4])


class Launched:
    """The program, running; `core.session.Running`. Made before the program, so that no signal is lost."""

    def __init__(self, signals: Source, session: str = "", grace: float = GRACE) -> None:
        self.pid = 0
        self._session = session
        self._grace = grace
        self._signals = signals
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = self._loop.create_future()
        self._kill: asyncio.TimerHandle | None = None
        self._ttou = signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # our words on a terminal not ours now
        self._taken = True
        taken = [number for number in _PASSED_ON if number not in IGNORED]
        self._source = signals.take([*taken, signal.SIGCHLD])

    def begin(self, pid: int) -> None:
        """The program is there."""
        self.pid = pid
        self._loop.add_reader(self._source, self._look)

    def give_up(self) -> None:
        """Signals are as before; also after the end. May be called twice."""
        if not self._taken:
            return
        self._taken = False
        self._loop.remove_reader(self._source)
        self._signals.give_back()
        signal.signal(signal.SIGTTOU, self._ttou or signal.SIG_DFL)

    async def wait(self) -> int:
        """The shell's exit status: the program's own, or 128 + the signal that ended it."""
        return await asyncio.shield(self._ended)

    def end(self, message: str) -> None:
        """Say why on stderr, then TERM, and KILL after a grace, the program and its children."""
        if self._kill is not None or self._ended.done():
            return
        if message:
            _say(message)
        self._signal_all(signal.SIGTERM)
        self._signal_all(signal.SIGCONT)  # a stopped process takes its TERM only then
        self._kill = self._loop.call_later(self._grace, self._signal_all, signal.SIGKILL)

    async def aclose(self) -> None:
        """The program has ended, or does now; after `end` its children too."""
        if not self._ended.done():
            self.end("")
            await self.wait()
        if self._kill is not None:
            self._kill.cancel()
            self._signal_all(signal.SIGKILL)
        self.give_up()

    def _signal_all(self, number: int) -> None:
        found = members(0 if self._ended.done() else self.pid, self._session)
        for pid in sorted(found, key=lambda one: one != self.pid):  # the program first: its status says why
            _send(pid, number)

    def _look(self) -> None:
        for came in self._signals.come():
            if passes_on(came, self.pid, _leads()) and not self._ended.done():
                _send(self.pid, came.number)
        while not self._ended.done():
            pid, status = self._signals.wait(self.pid)
            if pid == 0:
                return
            if not os.WIFSTOPPED(status):
                self._ended.set_result(exit_status(status))
            elif may_stop(_terminal(), _leads()):
                os.kill(os.getpid(), signal.SIGSTOP)


def _say(message: str) -> None:
    try:
        print(message, file=sys.stderr, flush=True)
    except OSError:
        return  # the terminal is gone, and with it whoever could read this; the program is ended all the same


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # ended meanwhile: that is what was wanted, or its status says so
