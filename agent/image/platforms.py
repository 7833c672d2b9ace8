"""The machines an image can be built for, by Debian's name of the architecture: the only place that knows.

An image is built on a machine of its own kind: its Python runs there, to compile and to check what it holds.
"""

from __future__ import annotations

from typing import NamedTuple


class Platform(NamedTuple):
    """What one architecture calls things."""

    oci: str  # the architecture in the image's configuration
    triplet: str  # the folder of its libraries below usr/lib
    loader: str  # its dynamic loader, where the package libc6 puts it


PLATFORMS = {
    "amd64": Platform("amd64", "x86_64-linux-gnu", "lib64/ld-linux-x86-64.so.2"),
    "arm64": Platform("arm64", "aarch64-linux-gnu", "lib/ld-linux-aarch64.so.1"),
}
