"""Which extended attributes a file has, told with its attributes: nobody asks for those it has not. Pure.

By kind, as the first three are asked for of every file: SELinux's label, which all have where it is
in force; a program's rights, by the kernel before a write; access lists, by `ls -l`.
"""

from __future__ import annotations

from collections.abc import Iterable

UNTOLD = 0
TOLD, LABEL, RIGHTS, LISTS, OTHERS = 1, 2, 4, 8, 16
_KINDS = {
    b"security.selinux": LABEL,
    b"security.capability": RIGHTS,
    b"system.posix_acl_access": LISTS,
    b"system.posix_acl_default": LISTS,
}
_ALL = LABEL | RIGHTS | LISTS | OTHERS


def marks(names: Iterable[bytes]) -> int:
    """Of a file that has these."""
    found = TOLD
    for name in names:
        found |= _KINDS.get(name, OTHERS)
    return found


def lacks(mark: int, name: bytes) -> bool:
    """Is it told that there is no such one? Without a name: none at all."""
    return bool(mark & TOLD) and not mark & (_KINDS.get(name, OTHERS) if name else _ALL)


def unseen(seen: int, name: bytes) -> bool:
    """Is it of a kind that is asked for of every file, and none of those `seen` together has?"""
    return name in _KINDS and not seen & _KINDS[name]
