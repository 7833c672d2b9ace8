"""What the agent may do with a file, as the kernel would decide it beside the target. Pure.

access(2) must say what an open would: the answer goes by the agent's identity, not by the program's.
POSIX ACLs are not looked at; they are not shown either (docs/limits.md).
"""

from __future__ import annotations

import errno
import stat

from attrs import frozen

from pymirror.features.fs.attr import Attr

R, W, X = 4, 2, 1


@frozen
class Identity:
    """Who reads, or writes, in the target. overrides: CAP_DAC_OVERRIDE, for reading CAP_DAC_READ_SEARCH."""

    uid: int = 0
    groups: frozenset[int] = frozenset({0})
    overrides: bool = True


def refusal(attr: Attr, mask: int, who: Identity) -> int:
    """0 if all of `mask` (R, W, X) is allowed, else the errno."""
    if who.overrides:
        runs = not mask & X or attr.is_dir or bool(attr.mode & 0o111)
        return 0 if runs else errno.EACCES
    shift = 6 if attr.uid == who.uid else 3 if attr.gid in who.groups else 0
    granted = stat.S_IMODE(attr.mode) >> shift & 7
    return 0 if mask & ~granted == 0 else errno.EACCES
