"""The `process` runtime: a process of this machine is the target, the agent its neighbour.

`process/PID` names it; no cluster is involved. The agent is a child of pymirror with its own
user's rights, listens on loopback, and the kernel ends it with pymirror however that ends.
`check` reads and changes nothing; `start` registers the agent's end before it waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any

import msgspec
from attrs import frozen

from pymirror.core.errors import PeerError, UserError
from pymirror.core.limit import timeout
from pymirror.core.session import AgentOrder, Endpoint, Found, Report
from pymirror.runtimes.process.config import Config

log = logging.getLogger("pymirror.runtimes.process")

READY_WITHIN = 20.0
"""Seconds an agent may take to its ready line: 0.3 s here; a cold disk and a busy machine take longer."""
END_WITHIN, LASTING = 3.0, 2.0
"""Seconds from TERM to KILL, and of those for what the agent goes on with for others, which is waited for."""


class Ready(msgspec.Struct):
    """The agent's ready line."""

    pymirror_agent: str
    key: str
    port: int


@frozen
class Process:
    """A process as /proc shows it: its ids, its owner and the first letter of its state."""

    pid: int
    name: str
    uid: int
    state: str


class Runtime:
    """Implements `core.session.Runtime`. config: this runtime's Config; namespace: has no meaning here."""

    Config = Config
    rights_hint = "the agent has the rights of who runs pymirror: run it as root"

    def __init__(self, config: object, target: str | None, namespace: str | None, report: Report) -> None:
        self.config, self.target, self.namespace, self.report = config, target, namespace, report

    @staticmethod
    def read_target(text: str) -> None:
        """UserError for a target that cannot be read; the process itself is not looked for."""
        parse_target(text)

    async def check(self, features: Sequence[str]) -> Found:
        """Find the process and see that its files may be read. UserError."""
        if self.target is None:
            return Found("no target: this machine itself", has_target=False)
        pid = parse_target(self.target)
        process = read_process(pid)
        refuse(process, os.getpid(), os.geteuid(), may_enter(pid))
        notes: tuple[str, ...] = ()
        if self.namespace:
            notes = (f"namespace {self.namespace}: has no meaning for process/{pid}, ignored",)
        return Found(f"process {pid} ({process.name})", notes=notes, detail=pid)

    async def start(self, found: Found, order: AgentOrder, undo: AsyncExitStack) -> Endpoint:
        """Start the agent and await its ready line. PeerError with the agent's own words."""
        agent = await asyncio.create_subprocess_exec(
            *agent_command(found.detail, order, os.getpid()),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            # Not the caller's folder, which `-m` would import from; not the terminal's signals.
            cwd="/",
            start_new_session=True,
        )
        words: deque[str] = deque(maxlen=50)
        listening = asyncio.ensure_future(_listen(agent, words))
        undo.push_async_callback(end, agent, _pidfd(agent.pid), listening)
        ready = await _ready(agent, words, listening, min(READY_WITHIN, order.within))
        return Endpoint(f"tcp://127.0.0.1:{ready.port}", ready.key)


def parse_target(target: str) -> int:
    """The number in `process/PID`. UserError."""
    found = re.fullmatch(r"process/([1-9][0-9]{0,9})", target)
    if found is None:
        raise UserError(f"target {target}: a process is named process/PID", "for example: -t process/1234")
    return int(found[1])


def read_process(pid: int, proc: str = "/proc") -> Process:
    """What /proc says. UserError if there is no such process."""
    try:
        with open(f"{proc}/{pid}/status", encoding="utf-8", errors="replace") as file:
            fields = dict(line.split(":", 1) for line in file.read().splitlines() if ":" in line)
    except (FileNotFoundError, ProcessLookupError):
        raise UserError(
            f"target process/{pid}: there is no such process", "`ps -e` shows those there are"
        ) from None
    return Process(pid, fields["Name"].strip(), int(fields["Uid"].split()[1]), fields["State"].split()[0])


def may_enter(pid: int) -> bool:
    """May its root be opened and its environment read?"""
    try:
        os.close(os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY))
        os.close(os.open(f"/proc/{pid}/environ", os.O_RDONLY))
    except OSError as error:
        log.debug("process %d: %s", pid, error)
        return False
    return True


def refuse(process: Process, own_pid: int, own_uid: int, may_enter: bool) -> None:
    """UserError for a process that cannot be a target."""
    place = f"target process/{process.pid}"
    if process.pid == own_pid:
        raise UserError(f"{place}: is this pymirror itself", "name the process whose context you want")
    if process.state in "ZX":
        raise UserError(f"{place} ({process.name}): has ended", "its parent has not yet taken notice of it")
    if not may_enter:
        hint = "run pymirror as the same user or as root"
        if process.uid == own_uid:
            hint = "it is not dumpable or has more rights than you: run pymirror as root"
        raise UserError(
            f"{place} ({process.name}, uid {process.uid}): its root and environment may not be read", hint
        )


def agent_command(pid: int | None, order: AgentOrder, parent: int) -> list[str]:
    """The agent's command line; nothing in it is secret. A pid of None is a session without a target.

    One word an option: a key may begin with a dash.
    """
    return [
        *(sys.executable, "-m", "pymirror.agent"),
        "--none" if pid is None else f"--pid={pid}",
        f"--layer-key={order.layer_key}",
        f"--features={','.join(order.features)}",
        f"--rights={','.join(order.rights)}",
        f"--lease={order.lease:g}",
        f"--drain={min(order.lasting, LASTING):g}",
        f"--parent={parent}",
    ]


def _pidfd(pid: int) -> int:
    """-1: it has ended, and its number may be another's now."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return -1


async def end(agent: asyncio.subprocess.Process, pidfd: int, listening: asyncio.Future[None]) -> None:
    """TERM, KILL after a grace, and wait: the agent is gone when this returns. pidfd: is closed.

    Never by asyncio's terminate(): it looks whether the child has ended, and if it has, takes the status
    away from the thread that waits for it.
    """
    _send(pidfd, signal.SIGTERM)
    try:
        async with timeout(END_WITHIN):
            await agent.wait()
    except asyncio.TimeoutError:
        log.warning("the agent %d did not end on TERM: killed", agent.pid)
        _send(pidfd, signal.SIGKILL)
        await agent.wait()
    finally:
        if pidfd >= 0:
            os.close(pidfd)
    await listening


def _send(pidfd: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it has ended by itself
        if pidfd >= 0:
            signal.pidfd_send_signal(pidfd, number)


async def _listen(agent: asyncio.subprocess.Process, words: deque[str]) -> None:
    """Keep the agent's last words and pass them to the log, so that its pipe never fills."""
    stderr: Any = agent.stderr
    while line := await _line(stderr):
        words.append(line)
        log.debug("agent: %s", line)


async def _line(stream: asyncio.StreamReader) -> str:
    """The next line that is not empty; "" at the end. An overlong one comes in pieces."""
    while True:
        try:
            raw = await stream.readline()
        except ValueError:  # longer than the reader's limit, which it has dropped
            return "(a line too long to show)"
        text = raw.decode("utf-8", "replace").strip()
        if text or not raw:
            return text


async def _ready(
    agent: asyncio.subprocess.Process, words: deque[str], listening: asyncio.Future[None], within: float
) -> Ready:
    stdout: Any = agent.stdout
    try:
        async with timeout(within):
            line = await stdout.readline()
    except asyncio.TimeoutError:
        raise PeerError(
            f"the agent said nothing for {within:.0f} s", "PYMIRROR_LOG=debug shows its log"
        ) from None
    if not line:
        await asyncio.wait({listening}, timeout=END_WITHIN)
        told = " / ".join(words) or "it said nothing"
        raise PeerError(f"the agent ended before it was ready: {told}", "PYMIRROR_LOG=debug shows more")
    try:
        return msgspec.json.decode(line, type=Ready)
    except msgspec.MsgspecError as error:
        raise PeerError(f"the agent's ready line cannot be read: {error}: {line[:200]!r}") from error
