"""The capabilities of the calling thread, asked and given up: they belong to threads, not to processes."""

from __future__ import annotations

import ctypes
import os
from typing import Any

_VERSION_3 = 0x20080522
_libc = ctypes.CDLL(None, use_errno=True)


def held() -> tuple[int, int]:
    """(effective, permitted), as masks. OSError."""
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable: the lower 32 of each, then the upper
    _call(_libc.capget, sets)
    return sets[0] | sets[3] << 32, sets[1] | sets[4] << 32


def keep_only(mask: int) -> None:
    """Effective and permitted are what of `mask` was permitted, and nothing is inheritable. OSError."""
    _, permitted = held()
    low, high = permitted & mask & 0xFFFFFFFF, (permitted & mask) >> 32
    _call(_libc.capset, (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0))


def _call(function: Any, sets: ctypes.Array[ctypes.c_uint32]) -> None:
    if function((ctypes.c_uint32 * 2)(_VERSION_3, 0), sets) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{function.__name__}: {os.strerror(code)}")
