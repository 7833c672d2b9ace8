"""Calls and verdicts: the one vocabulary between engines and features.

A `Call` is something the program asked of the system. A verdict is the answer,
always with the reason that made it; `--trace` and `pymirror explain` print it.
Verdicts are values: the engine carries them out with kernel objects, never here.
"""

from __future__ import annotations

import enum

from attrs import field, frozen

PATH_CALLS = ("open", "stat", "access", "readlink", "statfs")
"""Calls that take a path. Relative paths never become calls: the kernel resolves them itself."""

CALLS = frozenset({*PATH_CALLS, "hostname"})
"""Every call an engine offers to `@intercepts`."""


class Scope(enum.Enum):
    """How long a verdict stays true, so that an engine may answer the same call by itself."""

    ONCE = "once"  # ask again next time
    CALL = "call"  # true for this call with these arguments, for the whole session
    TREE = "tree"  # true for this call on everything at and below `Verdict.tree`


@frozen
class Call:
    """Something the program asked of the system.

    name: one of `CALLS`. path: absolute, lexically normalised, as bytes (names need not be
    UTF-8); empty for `hostname`. write: the program wants to change what the path names.
    follow: a final symbolic link is followed. pid: the asking thread, 0 in `explain`.
    """

    name: str
    path: bytes = b""
    write: bool = False
    follow: bool = True
    pid: int = 0


@frozen
class Verdict:
    """The answer to a call, and the rule that made it (`fs.local default: tree /usr`)."""

    reason: str
    scope: Scope = field(default=Scope.ONCE, kw_only=True)
    tree: bytes = field(default=b"", kw_only=True)


@frozen
class Untouched(Verdict):
    """The call goes on as if pymirror were not there."""


@frozen
class OtherPath(Verdict):
    """The call is made on `path` below the directory `root` is open on.

    root: descriptor (any kind usable as a directory descriptor) of the tree's top; it stays
    open as long as the session. path: relative to it, without a leading slash; `b"."` is the
    top itself. Links and `..` are resolved inside that tree. On this machine's own root the call is
    made with the program's rights; any other tree is opened with pymirror's.
    """

    root: int = field(kw_only=True)
    path: bytes = field(kw_only=True)


@frozen
class Errno(Verdict):
    """The call fails with `code` (an `errno` number)."""

    code: int = field(kw_only=True)


@frozen
class Text(Verdict):
    """The call's answer is `value` (`hostname`: at most 64 bytes, without a NUL)."""

    value: bytes = field(kw_only=True)
