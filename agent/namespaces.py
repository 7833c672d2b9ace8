"""Looking into a namespace of the target from a child that enters it and ends.

Nothing here changes the agent itself. Call before threads exist (it forks), and before
capabilities are dropped: joining a UTS namespace needs SYS_ADMIN over it, which the user who
made the user namespace has without being root.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

CLONE_NEWUTS = 0x04000000
CLONE_NEWUSER = 0x10000000

_libc = ctypes.CDLL(None, use_errno=True)


def same(pid: int, kind: str) -> bool:
    """Is the agent in the process's namespace of this kind? False where that cannot be read."""
    try:
        return os.stat(f"/proc/{pid}/ns/{kind}").st_ino == os.stat(f"/proc/self/ns/{kind}").st_ino
    except PermissionError:
        return False


def hostname_inside(pidfd: int) -> bytes | None:
    """The host name in the UTS namespace of the process, or None without the right to enter it."""
    for flags in (CLONE_NEWUTS, CLONE_NEWUTS | CLONE_NEWUSER):
        name = _in_child(lambda flags=flags: _entered_hostname(pidfd, flags))  # type: ignore[misc]
        if name:
            return name
    return None


def _entered_hostname(pidfd: int, flags: int) -> bytes:
    if _libc.setns(pidfd, flags) != 0:
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
