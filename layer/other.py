"""Calls that no engine makes anywhere but on this machine, where the path is elsewhere: they fail. Pure.

Each with the errno that programs know from a kernel or a file system that lacks it, so that they take the
other way they have, if any. None is quietly about this machine's file of that name.
"""

from __future__ import annotations

import errno

from pymirror.core.call import Call, Errno, Untouched, Verdict

CODES = {
    "name_to_handle_at": errno.EOPNOTSUPP,
    "fanotify_mark": errno.EOPNOTSUPP,
    "execve": errno.EACCES,  # as where a file system is mounted noexec
    "execveat": errno.EACCES,
    **dict.fromkeys(("chroot", "pivot_root", "mount", "umount2"), errno.EPERM),
    **dict.fromkeys(("open_tree", "open_tree_attr", "move_mount", "fspick", "mount_setattr"), errno.EPERM),
}
"""The others have older forms, which libraries fall back to: ENOSYS."""


def settled(call: Call, verdict: Verdict) -> Verdict:
    """What becomes of a verdict on a call: itself, but for an `other` that leads elsewhere."""
    if call.name != "other" or isinstance(verdict, (Untouched, Errno)):
        return verdict
    code = CODES.get(call.system, errno.ENOSYS)
    return Errno(f"{verdict.reason}; pymirror does not carry out {call.system} there", code=code)
