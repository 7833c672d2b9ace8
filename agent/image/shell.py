"""Running programs for the build, and the folder that keeps what was downloaded, outside the checkout."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-q")


def fail(text: str) -> SystemExit:
    return SystemExit(f"build of the agent image: {text}")


def run(*command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Runs a program; returns its output; ends the build with its words when it fails."""
    words = [str(part) for part in command]
    done = subprocess.run(words, cwd=cwd, env=env, text=True, capture_output=True, check=False)
    if done.returncode:
        raise fail(f"{' '.join(words)} failed:\n{done.stderr}")
    return done.stdout


def cached(kind: str, inputs: list[str], *download: str | Path) -> Path:
    """A folder filled by the download, which runs only when these inputs were never asked for before.

    It gets its name when all of it is there, so that a build cut short leaves nothing half.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pymirror" / "image"
    folder = base / f"{kind}-{hashlib.sha256(chr(0).join(inputs).encode()).hexdigest()[:12]}"
    if not folder.exists():
        base.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="part-", dir=base) as part:
            made = Path(part) / "folder"
            made.mkdir()
            run(*download, cwd=made)
            if not folder.exists():  # else another build was faster
                shutil.move(made, folder)
    return folder
