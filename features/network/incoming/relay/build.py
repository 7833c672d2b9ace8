"""Builds the relay as `pymirror.features.network.incoming.relay._relay`; called from setup.py alone.

api.h is both what cffi reads and what C includes. Paths are relative to the checkout, as setuptools wants.
"""

from pathlib import Path

from cffi import FFI  # type: ignore[import-untyped]  # it ships no types

HERE = "features/network/incoming/relay"

ffibuilder = FFI()
ffibuilder.cdef(Path(HERE, "api.h").read_text())
ffibuilder.set_source(
    "pymirror.features.network.incoming.relay._relay",
    '#include "relay.h"',
    sources=[f"{HERE}/{part}.c" for part in ("http", "relay")],
    include_dirs=[HERE],
    define_macros=[("_GNU_SOURCE", None)],
    depends=[f"{HERE}/api.h", f"{HERE}/relay.h"],
    extra_compile_args=["-O2", "-g0", "-pthread", "-Wall", "-Wextra"],  # the same bytes wherever it is built
    extra_link_args=["-pthread"],
    py_limited_api=True,
)
