"""The image's Python packages: the pinned wheels, pymirror from this checkout, third-party halves.

Everything is chosen for the image's Python, whatever Python runs the build.
"""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

from shell import PIP, cached, run

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
SOURCES = "core features agent runtimes layer cli setup.cfg README.md LICENSE".split()
MADE = "build dist .venv .tox .nox".split()  # in a third party's folder: what its tools put there
# The builder's version is written into a wheel: so it is pinned.
PYPROJECT = """[build-system]
requires = ["setuptools==84.2.1", "cffi==2.1.1"]
build-backend = "setuptools.build_meta"
"""
SETUP = """from setuptools import Extension, setup

options = dict(extra_compile_args=["-O2", "-g0"], extra_link_args=["-s"], py_limited_api=True)
setup(
    cffi_modules=["features/network/incoming/relay/build.py:ffibuilder"],
    ext_modules=[Extension("pymirror.core._batch", ["core/batch.c"], **options)],
)
"""


def options(version: str) -> list[str]:
    """pip's words for: wheels only, for this version of Python, no dependency that was not asked for."""
    chosen = ["--python-version", version, "--implementation", "cp", "--only-binary=:all:"]
    return [*chosen, "--no-deps", "--no-compile"]


def install(site: Path, work: Path, version: str, extra: list[str]) -> None:
    """Fills site; extra: third-party halves, each as pip names it: a distribution, a wheel or a folder."""
    pinned = HERE.joinpath("requirements.txt").read_text().split()
    done = cached(
        "wheels", [version, *pinned], *PIP, "install", *options(version), "--target", "site", *pinned
    )
    shutil.copytree(done / "site", site, ignore=shutil.ignore_patterns("bin", "__pycache__"))
    unzip(built(own(work / "source"), work / "own"), site)
    for number, package in enumerate(extra):
        if Path(package).is_dir():
            source = copied(Path(package), work / f"source{number}")
            package = str(built(source, work / f"extra{number}"))
        run(*PIP, "install", *options(version), "--upgrade", "--target", site, package)
    shutil.rmtree(site / "bin", ignore_errors=True)


def built(source: Path, folder: Path) -> Path:
    """The wheel of a source folder."""
    run(*PIP, "wheel", "--no-deps", "-w", folder, source)
    return next(folder.glob("*.whl"))


def unzip(wheel: Path, site: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(site)


def copied(package: Path, source: Path) -> Path:
    """A third party's folder: pip builds in place, and theirs stays as it is, also for two builds at once."""

    def left(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if folder == str(package) and name in MADE]

    return shutil.copytree(package, source, symlinks=True, ignore=left)


def own(source: Path) -> Path:
    """What the agent's pymirror is built from: this checkout, less the native parts of the layer's engine.

    What is compiled is the same wherever it is: no path and no debugger's words are in it.
    """
    source.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.o", "image")
    for name in SOURCES:
        path = CHECKOUT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=ignored)
        else:
            shutil.copy(path, source / name)
    (source / "setup.py").write_text(SETUP)
    (source / "pyproject.toml").write_text(PYPROJECT)
    return source
