"""Calls that are carried out on this machine only: untouched on its paths, refused by name on the others."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tools import tool

pytestmark = pytest.mark.sandbox

PROGRAMS = Path(__file__).parent / "programs"
REFUSED = {
    **dict.fromkeys(("fanotify_mark", "name_to_handle_at"), errno.EOPNOTSUPP),
    **dict.fromkeys(("execve", "execveat"), errno.EACCES),
    **dict.fromkeys("chroot,mount,mount of it,mount nothing,pivot_root,umount2".split(","), errno.EPERM),
    **dict.fromkeys("open_tree move_mount fspick mount_setattr open_tree_attr".split(), errno.EPERM),
    **dict.fromkeys("setxattrat getxattrat listxattrat removexattrat".split(), errno.ENOSYS),
    **dict.fromkeys(("file_getattr", "file_setattr"), errno.ENOSYS),
}


@pytest.fixture(scope="module", params=["gcc", "musl-gcc"])
def others(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("others") / "others"
    words = [tool(request.param), "-O1", "-static", "-o", made, PROGRAMS / "others.c"]
    subprocess.run(words, check=True)
    return made


@pytest.fixture
def places(tmp_path: Path, others: Path) -> Iterator[tuple[Path, Path]]:
    """The tree's top and a folder of this machine, each with a folder and the program itself as a file."""
    top, own = tmp_path / "root", tmp_path / "own"
    for folder in (top / "remote-demo", own):
        (folder / "w").mkdir(parents=True)
        shutil.copy(others, folder / "file")
    yield top, own


def lines(*words: str | Path) -> dict[str, str]:
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return dict(line.split(":") for line in done.stdout.splitlines())


def under(top: Path, report: Path, *program: str | Path) -> list[str | Path]:
    return [sys.executable, PROGRAMS / "under_engine.py", top, report, "--", *program]


def asked(report: Path) -> list[Any]:
    return [each for each in json.loads(report.read_text())["asked"] if each[0] == "other"]


def test_on_this_machine_they_are_the_kernels(
    places: tuple[Path, Path], others: Path, tmp_path: Path
) -> None:
    top, own = places
    words = (others, own / "file", own / "w")
    report = tmp_path / "report"
    plain, there = lines(*words), lines(*under(top, report, *words))
    assert plain["execve"] == plain["execveat"] == "run" and plain["open_tree"] == "0"
    assert there == plain
    assert {each[1] for each in asked(report)} >= {str(own / "file"), str(own / "w")}


def test_elsewhere_they_fail_by_name(places: tuple[Path, Path], others: Path, tmp_path: Path) -> None:
    report = tmp_path / "report"
    found = lines(*under(places[0], report, others, "/remote-demo/file", "/remote-demo/w"))
    assert {name: found[name] for name in REFUSED} == {name: str(code) for name, code in REFUSED.items()}
    assert (found["bad address"], found["no name"]) == (str(errno.EFAULT), str(errno.ENOENT))
    systems = {each[3] for each in asked(report) if each[1].startswith("/remote-demo")}
    assert systems == {name for name in REFUSED if not name.startswith("mount ")}


def test_what_is_nowhere_is_not_found(places: tuple[Path, Path], others: Path, tmp_path: Path) -> None:
    gone = "/remote-demo/gone"
    found = lines(*under(places[0], tmp_path / "report", others, gone, gone))
    assert {found[name] for name in REFUSED} == {str(errno.ENOENT)}


def test_a_relative_path_is_the_kernels(places: tuple[Path, Path], tmp_path: Path) -> None:
    """Also inside a tree: what the kernel finds there it runs, and goes into."""
    script = (
        "import os, subprocess\n"
        "os.fchdir(os.open('/remote-demo', os.O_RDONLY)); os.chdir('w'); print(os.getcwd()); os.chdir('..')\n"
        "print(subprocess.run(['./file'], capture_output=True, text=True).stdout, end='')\n"
    )
    words = under(places[0], tmp_path / "report", sys.executable, "-c", script)
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "/remote-demo/w\nrun\n", done.stderr


def test_many_starts_of_programs_are_asked_about_once(places: tuple[Path, Path], tmp_path: Path) -> None:
    script = "import subprocess\nfor _ in range(50): subprocess.run(['/bin/true'], check=True)\n"
    report = tmp_path / "report"
    subprocess.run(under(places[0], report, sys.executable, "-c", script), timeout=60, check=True)
    assert [each for each in asked(report) if each[1] == "/bin/true"] == [
        ["other", "/bin/true", "read", "execve"]
    ]


def test_the_programs_own_start_is_not_asked_about(places: tuple[Path, Path], tmp_path: Path) -> None:
    """A relative path, and a script that has no first line to say what runs it."""
    script = tmp_path / "script"
    script.write_text("echo $0 $1\n")
    script.chmod(0o755)
    report = tmp_path / "report"
    words = under(places[0], report, "./script", "x")
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert done.stdout == "./script x\n", done.stderr
    assert asked(report) == []
