"""The agent image's root folder: Debian's Python, the wheels, compiled modules; checked before it is packed.

Compiled modules carry the hash of their source and are not checked when they start: the image never
changes, and no time goes into it. The image's own Python compiles them, so that their format is its own.
"""

from __future__ import annotations

from pathlib import Path

import debian
import wheels
from shell import run

SITE = "usr/lib/pymirror"
HALVES = """
import sys
from importlib.metadata import entry_points
for half in entry_points(group="pymirror.agent"):
    try:
        half.load()
    except Exception as error:
        sys.exit(f"the agent half {half.value} of {half.dist.name} does not load: {error!r}; "
                 "name what it needs with --with too")
import pymirror.agent.main
import pymirror.agent.nft
pymirror.agent.nft.library()
"""


def make(work: Path, extra: list[str]) -> Path:
    """Makes the whole root folder of the image under work; extra: third-party halves, as pip names them."""
    root, version = work / "root", debian.python_version()
    site = root / SITE
    root.mkdir()
    debian.unpack(root, version)
    wheels.install(site, work, version, extra)
    debian.trim(root, version, site)
    python(root, version, "-c", HALVES)
    options = ["-q", "--invalidation-mode", "unchecked-hash", "-s", str(root), "-p", "/"]
    python(root, version, "-m", "compileall", *options, str(root / f"usr/lib/python{version}"), str(site))
    return root


def python(root: Path, version: str, *words: str) -> None:
    """Runs the image's Python with the image's libraries, on this machine."""
    platform = debian.platform()
    library = root / "usr/lib" / platform.triplet
    environ = {
        "PYTHONHOME": str(root / "usr"),
        "PYTHONPATH": str(root / SITE),
        "PYTHONHASHSEED": "0",  # the order in a compiled set would differ otherwise
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    program = root / f"usr/bin/python{version}"
    run(root / platform.loader, "--library-path", library, program, *words, env=environ)
