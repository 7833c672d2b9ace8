"""The native parts; everything else is in setup.cfg."""

from setuptools import Extension, setup

setup(
    cffi_modules=[
        "layer/engines/seccomp/build.py:ffibuilder",
        "features/network/incoming/relay/build.py:ffibuilder",
    ],
    ext_modules=[
        Extension(
            "pymirror.core._batch",
            ["core/batch.c"],
            extra_compile_args=["-O2", "-g0", "-Wall", "-Wextra"],
            py_limited_api=True,
        )
    ],
)
