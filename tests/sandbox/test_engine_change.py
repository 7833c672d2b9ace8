"""Calls that change names and attributes, carried out in a tree and on a path of this machine, beside the kernel's own."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tools import tool

pytestmark = pytest.mark.sandbox

PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture
def places(tmp_path: Path) -> Iterator[tuple[Path, Path, Path]]:
    """The tree's top, a folder that is mapped to, and one that nobody catches; each has an empty folder `w`."""
    top, mapped, own = tmp_path / "root", tmp_path / "mapped", tmp_path / "own"
    for folder in (top / "remote-demo", mapped, own):
        (folder / "w").mkdir(parents=True)
    yield top, mapped, own


def under(places: tuple[Path, Path, Path], report: Path, *program: str | Path) -> Any:
    top, mapped, _ = places
    words = [sys.executable, PROGRAMS / "under_engine.py", top, report, "--mapping", mapped, "--", *program]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module", params=["gcc", "musl-gcc"])
def changes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("changes") / "changes"
    words = [tool(request.param), "-O1", "-static", "-o", made, PROGRAMS / "changes.c"]
    subprocess.run(words, check=True)
    return made


@pytest.mark.parametrize("place", ["/remote-demo/w", "/remote-mapped/w"])
def test_every_call_does_what_the_kernels_does(
    places: tuple[Path, Path, Path], changes: Path, place: str, tmp_path: Path
) -> None:
    own = subprocess.run([changes, places[2] / "w"], capture_output=True, text=True, timeout=60, check=True)
    there = under(places, tmp_path / "report", changes, place)
    assert there.returncode == 0, there.stderr
    assert there.stdout.splitlines() == own.stdout.splitlines()
    asked = {each[0] for each in json.loads((tmp_path / "report").read_text())["asked"] if place in each[1]}
    assert "change" in asked
    folder = {"/remote-demo/w": places[0] / "remote-demo/w", "/remote-mapped/w": places[1] / "w"}[place]
    assert sorted(os.listdir(folder)) == sorted(os.listdir(places[2] / "w"))


def test_what_may_be_another_programs_word_is_not_acted_on(tmp_path: Path) -> None:
    """The number of who is killed in between may be another's when its memory is read."""
    parts = PROGRAMS.parents[2] / "layer" / "engines" / "seccomp"
    source, made, folder = PROGRAMS / "gone_caller.c", tmp_path / "gone", tmp_path / "folder"
    words = [tool("gcc"), "-D_GNU_SOURCE", f"-I{parts}", "-o", made, source, parts / "change.c"]
    subprocess.run(words, check=True)
    folder.mkdir()
    (folder / "file").touch()
    done = subprocess.run([made, folder], capture_output=True, text=True, timeout=60, check=True)
    gone, there = done.stdout.splitlines()[:3], done.stdout.splitlines()[3:]
    assert gone == [f"{call}: {-errno.ESRCH}" for call in ("symlink", "utimes", "setxattr")]
    assert there == ["symlink: 0", "utimes: 0", "setxattr: 0"]
    assert os.readlink(folder / "link") == "user.another's"


BETWEEN = """
import errno, os, sys
def says(call, *words):
    try:
        call(*words)
        return "done"
    except OSError as error:
        return errno.errorcode[error.errno]
open("/remote-demo/w/a", "w").close()
open("/remote-mapped/w/a", "w").close()
os.chdir(sys.argv[1])
open("a", "w").close()
print(says(os.rename, "/remote-demo/w/a", "/remote-mapped/w/b"), says(os.link, "/remote-mapped/w/a", "/remote-demo/w/b"),
      says(os.rename, "/remote-demo/w/a", "b"), says(os.rename, "a", "/remote-mapped/w/b"),
      says(os.rename, f"{sys.argv[1]}/a", "/remote-demo/w/b"), says(os.rename, "/remote-demo/gone", "/remote-demo/w/b"),
      says(os.rename, "/remote-demo/w/a", "/remote-demo/gone"), says(os.rename, "/remote-mapped/w/a", f"{sys.argv[1]}/c"),
      says(os.rename, "a", "d"), says(os.rename, "/remote-demo/w/a", "/remote-demo/w/c"))
"""


def test_two_names_of_two_places_are_two_file_systems(
    places: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    run = under(places, tmp_path / "report", sys.executable, "-c", BETWEEN, places[2] / "w")
    assert run.stdout.split() == ["EXDEV"] * 5 + ["ENOENT", "ENOENT", "done", "done", "done"], run.stderr
    assert sorted(os.listdir(places[2] / "w")) == ["c", "d"]
    assert sorted(os.listdir(places[0] / "remote-demo/w")) == ["c"] and os.listdir(places[1] / "w") == []


def test_what_is_about_a_descriptor_is_not_caught(places: tuple[Path, Path, Path], tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
        "for _ in range(1000): os.utime(fd); os.fchmod(fd, 0o600); os.ftruncate(fd, 5)\n"
    )
    run = under(places, tmp_path / "report", sys.executable, "-c", script, places[2] / "w/f")
    assert run.returncode == 0, run.stderr
    assert json.loads((tmp_path / "report").read_text())["counters"]["received"] < 1000
