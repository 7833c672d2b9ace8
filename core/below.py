"""A path opened below a directory that no link and no `..` leads out of: openat2(2), Linux 5.6."""

from __future__ import annotations

import ctypes
import functools
import os
from typing import Any

from pymirror.core.syscalls import syscall

NO_MAGICLINKS, NO_SYMLINKS = 0x02, 0x04
BENEATH, IN_ROOT = 0x08, 0x10
"""What leads out is refused (EXDEV); the directory is taken for the root."""
CACHED = 0x20
"""Only what the kernel has in memory, else EAGAIN (Linux 5.12)."""


class _How(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


@functools.cache
def _how(flags: int, resolve: int) -> Any:
    return ctypes.byref(_How(flags | os.O_CLOEXEC, 0, resolve))


def open_below(folder: int, path: bytes, flags: int, resolve: int) -> int:
    """A descriptor, closed on exec. flags: as for open(2), nothing is created; resolve: of the above, by `|`.

    OSError with the path.
    """
    try:
        return syscall("openat2", folder, path, _how(flags, resolve), ctypes.sizeof(_How))
    except OSError as error:
        error.filename = path
        raise
