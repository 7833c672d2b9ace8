"""Who writes in the target: threads with the user, groups and capabilities of its first process.

So the target's own kernel decides what may be changed and whose it is, and nothing stands before it. These
belong to threads, not to processes: a thread that has taken them keeps them for its life.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable

from attrs import frozen

from pymirror.core.capability import CAPABILITIES
from pymirror.core.capset import keep_only
from pymirror.core.syscalls import syscall

FILE_RIGHTS = (
    *("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "MKNOD", "LINUX_IMMUTABLE"),
    "SETFCAP",
)
"""What has to do with files (the kernel's CAP_FS_SET, and SETFCAP); a target has any of them, or none."""
RIGHTS = frozenset({"SETUID", "SETGID", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD"})
"""What an agent keeps that is to write as others: to become them, and what containers have by default."""
_FILE_MASK = sum(1 << CAPABILITIES.index(name) for name in FILE_RIGHTS)
_OVERRIDE = 1 << CAPABILITIES.index("DAC_OVERRIDE")
_CLONE_FS = 0x200

_libc = ctypes.CDLL(None, use_errno=True)
for _call in (_libc.setfsuid, _libc.setfsgid):
    _call.argtypes, _call.restype = [ctypes.c_uint], ctypes.c_uint


@frozen
class Owner:
    """User and group for files, further groups, and the capabilities in effect, as a mask."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    rights: int

    @property
    def overrides(self) -> bool:
        """Are modes of files no hindrance?"""
        return bool(self.rights & _OVERRIDE)


def owner_of(pid: int) -> Owner:
    """Of that process; 0: of this thread. OSError."""
    with open(f"/proc/{pid or 'thread-self'}/status", encoding="ascii", errors="replace") as file:
        fields = dict(line.split(":", 1) for line in file.read().splitlines() if ":" in line)
    return Owner(
        int(fields["Uid"].split()[3]),
        int(fields["Gid"].split()[3]),
        tuple(sorted(map(int, fields["Groups"].split()))),
        int(fields["CapEff"], 16),
    )


def put_on(owner: Owner) -> None:
    """Have this thread's changes be those of `owner`. PermissionError names the right that is missing.

    What it makes has the mode that is asked for: the program's umask has been taken off already.
    """
    _libc.unshare(_CLONE_FS)  # where that is forbidden the umask is all threads'; no other one makes files
    os.umask(0)
    mine = owner_of(0)
    if mine.groups != owner.groups:
        _set_groups(owner.groups)
    _set_id(_libc.setfsgid, owner.gid, "SETGID")
    _set_id(_libc.setfsuid, owner.uid, "SETUID")
    keep_only(owner.rights & _FILE_MASK)


def _set_groups(groups: tuple[int, ...]) -> None:
    """The system call: glibc's function of that name sets them for all threads."""
    try:
        syscall("setgroups", len(groups), (ctypes.c_uint32 * len(groups))(*groups))
    except PermissionError as error:
        raise PermissionError(
            errno.EPERM, "the target's groups cannot be taken on: SETGID is missing"
        ) from error


def _set_id(call: Callable[[int], int], wanted: int, right: str) -> None:
    call(wanted)
    if call(0xFFFFFFFF) != wanted:  # which changes nothing, and says what is in effect
        raise PermissionError(errno.EPERM, f"the target's user cannot be taken on: {right} is missing")
