"""The target as an agent half may see it: root, environment, host name, owner.

Everything is reached through a descriptor of /proc/PID taken once, so that a process number
used again later can never be taken for the target. The target is never changed here.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from typing import TypeVar

from pymirror.agent import namespaces
from pymirror.agent.network import Network
from pymirror.core.below import IN_ROOT, NO_MAGICLINKS, open_below
from pymirror.core.errors import SupportError, UserError

log = logging.getLogger("pymirror.agent.target")

T = TypeVar("T")

_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class ProcessTarget:
    """A target given by its first process. Implements `core.feature.Target`.

    Make it before threads exist and before rights are given up (namespaces.py). UserError when
    there is no such process, SupportError naming the missing right when its root is closed. keep:
    capabilities for its network (network.py).
    """

    def __init__(self, pid: int, keep: frozenset[int] = frozenset()) -> None:
        self.pid = pid
        try:
            self.pidfd = os.pidfd_open(pid)
            self._proc = os.open(f"/proc/{pid}", _FLAGS)
        except (ProcessLookupError, FileNotFoundError):
            raise UserError(f"there is no process {pid}", "has the target ended?") from None
        except PermissionError as error:
            raise SupportError(
                f"process {pid} may not be watched: {error.strerror}",
                "the container's seccomp profile must allow pidfd_open (RuntimeDefault does)",
            ) from error
        self.uid, self.gid = self._owner()
        self.root = self._open_root()
        # The kernel asks for the right when it is opened: an agent that starts with more rights than
        # it keeps opens it now and reads it when it is asked for.
        self._environ = self._open_environ()
        self._hostname = self._find_hostname()
        self._network = Network(pid, keep)  # last: it has a thread, and what is above forks

    def environ(self) -> dict[bytes, bytes]:
        """The environment as the target was started. PermissionError names the missing right."""
        if self._environ < 0:
            raise PermissionError(
                errno.EACCES,
                f"the environment of process {self.pid} (uid {self.uid}) may not be read: {self._missing()}",
            )
        with open(os.dup(self._environ), "rb", buffering=0) as file:
            file.seek(0)
            return parse_environ(file.readall())

    def _open_environ(self) -> int:
        try:
            return self._at("environ", os.O_RDONLY)
        except PermissionError as error:
            log.debug("no environment of process %d: %s", self.pid, error)
            return -1

    def hostname(self) -> bytes:
        """The host name the target sees; empty if nothing tells it."""
        return self._hostname

    async def in_network(self, work: Callable[[], T]) -> T:
        """See core.feature.Target."""
        return await self._network.run(work)

    def close(self) -> None:
        """Close the descriptors; the target itself is untouched."""
        self._network.close()
        for descriptor in (self.root, self._proc, self.pidfd, self._environ):
            if descriptor >= 0:
                os.close(descriptor)

    def _at(self, path: str, flags: int) -> int:
        return os.open(path, flags | os.O_CLOEXEC, dir_fd=self._proc)

    def _owner(self) -> tuple[int, int]:
        """File-system uid and gid: those that files the target makes belong to."""
        with open("status", opener=self._at, encoding="utf-8", errors="surrogateescape") as file:
            fields = dict(line.split(":", 1) for line in file.read().splitlines() if ":" in line)
        return int(fields["Uid"].split()[3]), int(fields["Gid"].split()[3])

    def _open_root(self) -> int:
        try:
            return os.open("root", _FLAGS, dir_fd=self._proc)
        except PermissionError as error:
            raise SupportError(
                f"the files of process {self.pid} (uid {self.uid}) may not be read: {self._missing()}",
                "a Job agent needs SYS_PTRACE; an ephemeral agent must run as the target's user",
            ) from error

    def _missing(self) -> str:
        if os.geteuid() == self.uid:
            return "it runs as the same user but is not dumpable, or has rights the agent lacks: SYS_PTRACE"
        return (
            f"the agent runs as uid {os.geteuid()} and lacks SYS_PTRACE (files) or DAC_OVERRIDE (environment)"
        )

    def _find_hostname(self) -> bytes:
        """The first that is known; the order is from certain to likely, and asks for no right.

        The UTS namespace is the truth. Without the right to enter it: /etc/hostname, which
        container runtimes mount for each pod, then HOSTNAME as the container was started.
        """
        sources: tuple[Callable[[], bytes | None], ...] = (
            self._own_hostname,
            lambda: namespaces.hostname_inside(self.pidfd),
            self._etc_hostname,
            self._started_hostname,
        )
        for source in sources:
            name = source()
            if name:
                return name
        return b""

    def _own_hostname(self) -> bytes | None:
        return _nodename() if namespaces.same(self.pid, "uts") else None

    def _etc_hostname(self) -> bytes | None:
        try:
            with open(open_inside(self.root, b"etc/hostname"), "rb") as file:
                return file.read(256).split(b"\n")[0].strip()
        except OSError as error:
            log.debug("no host name from the target's /etc/hostname: %s", error)
            return None

    def _started_hostname(self) -> bytes | None:
        try:
            return self.environ().get(b"HOSTNAME")
        except PermissionError as error:
            log.debug("no host name from the target's environment: %s", error)
            return None


class OwnTarget:
    """A session without a target: the agent's own surroundings. `pid` is 0, it never ends."""

    pidfd = -1

    def __init__(self) -> None:
        self.pid = 0
        self.uid, self.gid = os.geteuid(), os.getegid()
        self.root = os.open("/", _FLAGS)
        self._network = Network(0)

    def environ(self) -> dict[bytes, bytes]:
        return dict(os.environb)

    def hostname(self) -> bytes:
        return _nodename()

    async def in_network(self, work: Callable[[], T]) -> T:
        return await self._network.run(work)

    def close(self) -> None:
        self._network.close()
        os.close(self.root)


def open_inside(root: int, path: bytes) -> int:
    """Open for reading below `root`; no link or `..` leads out of it. OSError."""
    return open_below(root, path, os.O_RDONLY | os.O_NONBLOCK, IN_ROOT | NO_MAGICLINKS)


def parse_environ(block: bytes) -> dict[bytes, bytes]:
    """NUL-separated `NAME=value`; of a repeated name the first counts, as getenv(3) does.

    What has no `=` or no name is no variable (a program may write over its own block).
    """
    found: dict[bytes, bytes] = {}
    for entry in block.split(b"\0"):
        name, equals, value = entry.partition(b"=")
        if name and equals:
            found.setdefault(name, value)
    return found


def _nodename() -> bytes:
    return os.uname().nodename.encode("utf-8", "surrogateescape")
