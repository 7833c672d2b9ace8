"""inotify_add_watch, carried out on the program's own descriptor in a tree and on a path of this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tools import tool

pytestmark = pytest.mark.sandbox

PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture(scope="module", params=["gcc", "musl-gcc"])
def watches(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("watches") / "watches"
    words = [tool(request.param), "-O1", "-static", "-o", made, PROGRAMS / "watches.c"]
    subprocess.run(words, check=True, stderr=subprocess.DEVNULL)
    return made


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path, Path]:
    """The tree's top, a folder that is mapped to, and one that nobody catches, each with the same in it."""
    top, mapped, own = tmp_path / "root", tmp_path / "mapped", tmp_path / "own"
    for folder in (top / "remote-demo", mapped, own):
        (folder / "w/sub").mkdir(parents=True)
        (folder / "w/file").touch()
        (folder / "w/link").symlink_to("file")
        (folder / "w/up").symlink_to("../w")
    return top, mapped, own


def changes(folder: Path) -> str:
    """Done past the engine: the shell is in a folder of this machine."""
    return f"cd {folder}/w && echo x >> file && : > new && : > sub/new && rm new file"


@pytest.mark.parametrize("place", ["/remote-demo", "/remote-mapped", "own"])
def test_every_watch_is_the_kernels(
    places: tuple[Path, Path, Path], watches: Path, place: str, tmp_path: Path
) -> None:
    top, mapped, own = places
    plain, report = tmp_path / "plain", tmp_path / "report"
    subprocess.run(["cp", "-a", own, plain], check=True)
    words = [watches, str(plain), changes(plain)]
    expected = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout
    where = {"/remote-demo": top / "remote-demo", "/remote-mapped": mapped, "own": own}[place]
    path = place if place.startswith("/") else str(own)
    run = subprocess.run(
        [
            *(sys.executable, PROGRAMS / "under_engine.py", top, report, "--mapping", mapped, "--"),
            *(watches, path, changes(where)),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == expected.splitlines()
    asked = [each[1] for each in json.loads(report.read_text())["asked"] if each[0] == "watch"]
    assert f"{path}/w/file" in asked
    assert (f"{path}/w/sub" in asked) == (place == "/remote-demo")


def test_a_file_that_may_not_be_read_is_not_watched(places: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """On this machine the caller's rights count, also where the path is mapped."""
    (places[1] / "w/file").chmod(0o600)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o5 != 0o5 and folder != Path("/"):
            folder.chmod(0o755)
    script = (
        "import ctypes, os\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "fd = libc.inotify_init1(0)\n"
        "os.setresuid(65534, 65534, 65534)\n"
        "print(libc.inotify_add_watch(fd, b'/remote-mapped/w/file', 2), ctypes.get_errno())\n"
        "print(libc.inotify_add_watch(fd, b'/remote-mapped/w', 2))\n"
    )
    words = [sys.executable, PROGRAMS / "under_engine.py", places[0], tmp_path / "report"]
    done = subprocess.run(
        [*words, "--mapping", places[1], "--", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "-1 13\n1\n", done.stderr
