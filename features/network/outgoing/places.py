"""A path of the target as one that this process can connect to, by a descriptor: no link leads out."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

_OPENAT2 = 437  # one number on every architecture since Linux 5.6
_RESOLVE = 0x02 | 0x10  # NO_MAGICLINKS | IN_ROOT
_libc = ctypes.CDLL(None, use_errno=True)


class _How(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


@contextmanager
def inside(root: int, path: bytes) -> Iterator[str]:
    """A name for what `path` is below the directory `root`, valid in the block. OSError."""
    how = _How(os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE)
    made = _libc.syscall(_OPENAT2, root, path, ctypes.byref(how), ctypes.sizeof(how))
    if made < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
    try:
        yield f"/proc/self/fd/{made}"
    finally:
        os.close(made)
