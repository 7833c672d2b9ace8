"""Builds the C part as `pymirror.layer.engines.seccomp._pump`; called from setup.py, never at run time.

api.h is both what cffi reads and what C includes. Paths are relative to the checkout, as setuptools wants.
"""

from pathlib import Path

from cffi import FFI  # type: ignore[import-untyped]  # it ships no types

HERE = "layer/engines/seccomp"
PARTS = (
    *(
        "accept",
        "carry",
        "change",
        "chdir",
        "classify",
        "connect",
        "decide",
        "filter",
        "guests",
        "listen",
        "memory",
        "message",
        "names",
        "other",
    ),
    *("parked", "path", "pump", "questions", "receive", "rights", "send", "shown", "signals", "skip"),
    *("sockets", "spawn", "table", "trees", "watch"),
)

ffibuilder = FFI()
ffibuilder.cdef(Path(HERE, "api.h").read_text())
ffibuilder.set_source(
    "pymirror.layer.engines.seccomp._pump",
    '#include "parts.h"',
    sources=[f"{HERE}/{part}.c" for part in PARTS],
    include_dirs=[HERE],
    define_macros=[("_GNU_SOURCE", None)],
    depends=[f"{HERE}/api.h", f"{HERE}/parts.h", f"{HERE}/pump.h", f"{HERE}/parked.h", f"{HERE}/sockets.h"],
    extra_compile_args=["-O2", "-pthread", "-Wall", "-Wextra"],
    extra_link_args=["-pthread"],
    py_limited_api=True,
)
