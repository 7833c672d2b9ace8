"""The native parts; everything else is in setup.cfg."""

from setuptools import setup

setup(
    cffi_modules=[
        "layer/engines/seccomp/build.py:ffibuilder",
        "features/network/incoming/relay/build.py:ffibuilder",
    ]
)
