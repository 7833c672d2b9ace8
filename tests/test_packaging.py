"""What setup.cfg says is what the folders hold."""

from __future__ import annotations

import configparser
import importlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
KEPT = (".py", ".pyi", ".typed")
TOPS = ("core", "features", "agent", "layer", "runtimes", "cli")
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")
GROUPS = SETUP["options.entry_points"]


def entries(group: str) -> dict[str, str]:
    return dict(line.split(" = ") for line in GROUPS[group].strip().splitlines())


def test_every_folder_is_a_package() -> None:
    listed = set(SETUP["options"]["packages"].split())
    folders = {p.parent for top in TOPS for p in (ROOT / top).rglob("*.py") if "image" not in p.parts}
    assert {"pymirror." + ".".join(f.relative_to(ROOT).parts) for f in folders} | {
        "pymirror.features"
    } == listed


def test_typed_packages() -> None:
    listed = [n for n in SETUP["options"]["packages"].split() if n != "pymirror.features"]
    folders = [ROOT.joinpath(*name.split(".")[1:]) for name in listed]
    assert [str(f) for f in folders if not (f / "py.typed").exists()] == []


def test_features_have_no_init() -> None:
    assert not (ROOT / "features/__init__.py").exists()


def test_both_halves_have_the_same_names() -> None:
    assert entries("pymirror.layer").keys() == entries("pymirror.agent").keys()


@pytest.mark.parametrize("target", sorted(t for group in GROUPS for t in entries(group).values()))
def test_entry_points_resolve(target: str) -> None:
    module, name = target.split(":")
    assert hasattr(importlib.import_module(module), name)


def test_wheel_holds_what_the_folders_hold(tmp_path: Path) -> None:
    """A package that setup.cfg forgets works from a checkout and is missing for a user."""
    for name in (*TOPS, "setup.cfg", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.so", "image")
            shutil.copytree(ROOT / name, tmp_path / "source" / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, tmp_path / "source" / name)
    words = "-m pip wheel -q --disable-pip-version-check --no-deps --no-build-isolation -w".split()
    subprocess.run([sys.executable, *words, tmp_path, tmp_path / "source"], check=True)
    with zipfile.ZipFile(next(tmp_path.glob("pymirror-*.whl"))) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    folders = {tmp_path / "source" / top for top in TOPS}
    kept = {p.relative_to(tmp_path / "source") for f in folders for p in f.rglob("*") if p.suffix in KEPT}
    assert {name for name in held if not name.endswith(".so")} == {f"pymirror/{name}" for name in kept}
    native = {
        "pymirror/core/_batch.abi3.so",
        "pymirror/features/network/incoming/relay/_relay.abi3.so",
        "pymirror/layer/engines/seccomp/_pump.abi3.so",
    }
    assert {name for name in held if name.endswith(".so")} == native
