"""Namespaces of the target: whether the agent is in one, taking part in its user namespace, its host name.

Call before threads exist (one forks; a user namespace takes no process with threads), and before
capabilities are dropped.
"""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Callable

log = logging.getLogger("pymirror.agent.namespaces")

CLONE_NEWUTS = 0x04000000
CLONE_NEWUSER = 0x10000000

_libc = ctypes.CDLL(None, use_errno=True)


def same(pid: int, kind: str) -> bool:
    """Is the agent in the process's namespace of this kind? False where that cannot be read."""
    try:
        return os.stat(f"/proc/{pid}/ns/{kind}").st_ino == os.stat(f"/proc/self/ns/{kind}").st_ino
    except PermissionError:
        return False


def join_user(pid: int) -> None:
    """Take part in the process's user namespace, if that is another one and this user made it.

    Whoever made a user namespace has every right over what belongs to it (user_namespaces(7)), once
    inside: an ordinary user's own sandbox is entered so, by a user who is nobody otherwise.
    """
    if same(pid, "user"):
        return
    try:
        descriptor = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        log.debug("the user namespace of process %d may not be looked at: %s", pid, error)
        return
    try:
        if _libc.setns(descriptor, CLONE_NEWUSER) != 0:
            log.debug(
                "the user namespace of process %d is not joined: %s", pid, os.strerror(ctypes.get_errno())
            )
    finally:
        os.close(descriptor)


def hostname_inside(pidfd: int) -> bytes | None:
    """The host name in the process's UTS namespace, or None without the right to enter it (SYS_ADMIN)."""
    return _in_child(lambda: _entered_hostname(pidfd)) or None


def _entered_hostname(pidfd: int) -> bytes:
    if _libc.setns(pidfd, CLONE_NEWUTS) != 0:
        return b""
    return os.uname().nodename.encode("utf-8", "surrogateescape")


def _in_child(work: Callable[[], bytes]) -> bytes:
    """What `work` returns in a forked child, at most 4 KiB; empty if the child failed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.write(writing, work())
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with open(reading, "rb") as pipe:
        answer = pipe.read(4096)
    os.waitpid(child, 0)
    return answer
