"""Programs from crates.io that tests run, each compiled once: minutes, kept outside the checkout.

scripts/test runs this file before the tests, so that none of them waits for a compiler.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

from tools import tool

VERSIONS = {"pjdfstest": "0.2.2", "fsx": "0.3.2"}
"""Pinned: what a program says and what its tests are called changes from one version to the next."""


def crate(name: str) -> Path:
    """The program of that name; compiled where the cache has none of this version by this compiler.

    The test is skipped where Rust is missing, but in CI. Raises CalledProcessError when it does not compile.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pymirror" / "crates"
    folder = base / f"{name}-{VERSIONS[name]}-{hashlib.sha256(compiler()).hexdigest()[:12]}"
    if not folder.exists():
        base.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="part-", dir=base) as part:
            install(name, Path(part) / "root")
            put(Path(part) / "root", folder)
    return folder / "bin" / name


def compiler() -> bytes:
    """All that the compiler says of its version and of the machine it compiles for."""
    return subprocess.run([tool("rustc"), "-vV"], check=True, capture_output=True).stdout


def install(name: str, root: Path) -> None:
    # Locked: with the dependencies it was published with, not with those of the day.
    words = [tool("cargo"), "install", "--quiet", "--locked", "--no-track", "--version", VERSIONS[name]]
    subprocess.run([*words, "--root", root, name], check=True)


def put(made: Path, folder: Path) -> None:
    """It gets its name when all of it is there, so that a build cut short leaves nothing half."""
    try:
        made.rename(folder)
    except OSError:
        if not folder.exists():  # else another build was faster
            raise


if __name__ == "__main__":
    for each in VERSIONS:
        print(crate(each), flush=True)
