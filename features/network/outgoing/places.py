"""A path of the target as one that this process can connect to, by a descriptor: no link leads out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from pymirror.core.below import IN_ROOT, NO_MAGICLINKS, open_below


@contextmanager
def inside(root: int, path: bytes) -> Iterator[str]:
    """A name for what `path` is below the directory `root`, valid in the block. OSError."""
    made = open_below(root, path, os.O_PATH, IN_ROOT | NO_MAGICLINKS)
    try:
        yield f"/proc/self/fd/{made}"
    finally:
        os.close(made)
