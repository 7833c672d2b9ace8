"""System calls that Python does not offer, by name: the one table of their numbers.

From 424 on a call has the same number on every architecture but alpha (Linux's
include/uapi/asm-generic/unistd.h and arch/x86/entry/syscalls/syscall_64.tbl).
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

_EARLIER = {
    "pivot_root": {"x86_64": 155, "aarch64": 41, "riscv64": 41, "armv7l": 218, "ppc64le": 203, "s390x": 217},
    "renameat2": {"x86_64": 316, "aarch64": 276, "riscv64": 276, "armv7l": 382, "ppc64le": 357, "s390x": 347},
    "setgroups": {"x86_64": 116, "aarch64": 159, "riscv64": 159, "armv7l": 206, "ppc64le": 81, "s390x": 206},
}
"""From before that."""

NUMBERS = {
    **{name: numbers.get(os.uname().machine, -1) for name, numbers in _EARLIER.items()},
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "openat2": 437,
    "pidfd_getfd": 438,
}
"""-1 is no call's: ENOSYS."""

_libc = ctypes.CDLL(None, use_errno=True)


def syscall(name: str, *args: Any) -> int:
    """Make it; arguments as ctypes takes them. OSError: the kernel's errno."""
    made = int(_libc.syscall(NUMBERS[name], *args))
    if made < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), name)
    return made
