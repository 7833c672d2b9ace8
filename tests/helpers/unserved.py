"""Mounts for tests: of a kind the kernel has, and of a FUSE server that never answers or has died."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from pymirror.features.fs.mount import _detached

MOVE_MOUNT, EMPTY_PATH, DETACH = 429, 4, 2


@contextlib.contextmanager
def unserved(place: Path) -> Iterator[int]:
    """A file system on the new folder `place` whose every answer is awaited; yields its device.

    The device is the caller's: once it is closed, the server has died.
    """
    place.mkdir()
    made = _detached()
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.syscall(MOVE_MOUNT, made.root, b"", -100, os.fsencode(place), EMPTY_PATH) == 0
    try:
        yield made.device
    finally:
        libc.umount2(os.fsencode(place), DETACH)
        os.close(made.root)


@contextlib.contextmanager
def dead(place: Path) -> Iterator[None]:
    """A mount on the new folder `place` whose server has died."""
    with unserved(place) as device:
        os.close(device)
        yield


@contextlib.contextmanager
def mounted(kind: str, place: Path) -> Iterator[None]:
    """A new file system of this kind on the folder `place`."""
    subprocess.run(["mount", "-t", kind, kind, place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", place], check=True)
