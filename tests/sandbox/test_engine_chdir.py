"""chdir into a tree and to a folder that is mapped: carried out in the program's own thread, which may be signalled,
stopped, ended or traced by somebody else meanwhile."""

from __future__ import annotations

import errno
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tools import tool

pytestmark = pytest.mark.sandbox

PROGRAMS = Path(__file__).parent / "programs"
NOBODY = 65534
DROP = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
KILLED = 128 + 9
Under = Callable[..., Any]


@pytest.fixture
def places(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """The tree's top and a folder of this machine; each has the folder `w` as chdirs.c wants it."""
    top, own = tmp_path / "root", tmp_path / "own"
    for folder, seen_as in ((top / "remote-demo/w", "/remote-demo/w"), (own / "w", str(own / "w"))):
        (folder / "sub/deep").mkdir(parents=True)
        (folder / "file").write_text("ab\n")
        (folder / "rel").symlink_to("sub")
        (folder / "abs").symlink_to(f"{seen_as}/sub")
        (folder / "tofile").symlink_to("file")
    yield top, own


@pytest.fixture
def under(places: tuple[Path, Path], tmp_path: Path) -> Under:
    def run(*program: str | Path, before: tuple[str, ...] = (), report: Path = tmp_path / "report") -> Any:
        harness = [sys.executable, PROGRAMS / "under_engine.py", places[0], report, "--mapping", places[1]]
        words = [*before, *harness, "--", *program]
        return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, cwd="/")

    return run


@pytest.fixture(scope="module", params=["gcc", "musl-gcc"])
def chdirs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("chdirs") / "chdirs"
    words = [tool(request.param), "-O1", "-static", "-pthread", "-o", made, PROGRAMS / "chdirs.c"]
    subprocess.run(words, check=True)
    return made


@pytest.mark.parametrize("place", ["/remote-demo/w", "/remote-mapped/w"])
def test_it_goes_where_the_kernels_goes(
    under: Under, chdirs: Path, places: tuple[Path, Path], place: str
) -> None:
    """What is there then, by relative paths, getcwd, and for a child by fork, vfork, exec and posix_spawn."""
    own = subprocess.run([chdirs, "every", places[1] / "w"], capture_output=True, text=True, check=True)
    there = under(chdirs, "every", place)
    assert there.returncode == 0, there.stderr
    assert there.stdout.splitlines() == own.stdout.splitlines()
    assert "the folder: 0" in own.stdout and "vforked: 0\n" in own.stdout and "spawned: 0\n" in own.stdout


@pytest.mark.parametrize(
    ("what", "count", "said"),
    [
        ("registers", 1, "registers kept"),
        ("storm", 2000, "rung 1, mask 0, descriptors 0"),
        ("queued", 2000, "of 2000 signals 2000"),
        ("z: stopped and continued", 2000, "stopped 1, then 42"),
        ("threads", 300, "threads, descriptors 0"),
        ("full", 1, f"full: {errno.EMFILE}, with room: 0"),
        ("killed", 1000, "killed, wrong 0"),
    ],
)
def test_in_a_storm(under: Under, chdirs: Path, what: str, count: int, said: str) -> None:
    run = under(chdirs, what, "/remote-demo/w", str(count))
    assert (run.stdout.strip(), run.returncode) == (said, 0), run.stderr


@pytest.mark.parametrize(("way", "status"), [("0", KILLED), ("1", KILLED), ("2", 7), ("3", 7)])
def test_the_programs_own_end_is_pythons(under: Under, chdirs: Path, way: str, status: int) -> None:
    """Killed, killed with threads, ended by a thread, become another program: at twelve moments."""
    for moment in range(12):
        run = under(chdirs, way, "/remote-demo/w", str(3000 + moment * 1777))
        assert run.returncode == status, (moment, run.stdout, run.stderr)


def test_its_stops_are_not_taken_for_a_job_that_was_stopped(
    places: tuple[Path, Path], chdirs: Path, tmp_path: Path
) -> None:
    """Under a shell at a terminal pymirror stops with its program, and nobody here would continue it."""
    words = [sys.executable, PROGRAMS / "under_engine.py", places[0], tmp_path / "report"]
    command = [*words, "--", chdirs, "storm", "/remote-demo/w", "4000"]  # by its first thread
    ours, theirs = pty.openpty()
    run = subprocess.run(
        ["sh", "-c", '"$@"; echo "ended $?"', "sh", *command],
        stdin=theirs,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        start_new_session=True,
        preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),  # it becomes the session's terminal
        check=False,
    )
    os.close(ours)
    os.close(theirs)
    assert run.stdout == "rung 1, mask 0, descriptors 0\nended 0\n"


def refused(path: str) -> str:
    return f"import os\ntry: os.chdir('{path}'); print(os.getcwd())\nexcept OSError as e: print(e.errno)"


@pytest.mark.parametrize("mode", [0o700, 0o711])
@pytest.mark.parametrize("name", ["/remote-demo/w/sub", "/remote-mapped/w/sub"])
def test_the_programs_own_right_to_search_counts(
    under: Under, places: tuple[Path, Path], name: str, mode: int
) -> None:
    """One that it may search and not read is gone into, as root runs pymirror."""
    for folder in (places[1], *places[1].parents, places[0] / "remote-demo"):
        if folder.stat().st_mode & 0o111 != 0o111:
            folder.chmod(0o755)
    for folder in (places[0] / "remote-demo/w/sub", places[1] / "w/sub"):
        folder.chmod(mode)
    python = Path("/usr/bin/python3")
    run = under(*DROP, tool(str(python)), "-c", refused(name))
    went = {"/remote-demo/w/sub": name, "/remote-mapped/w/sub": str(places[1] / "w/sub")}[name]
    assert run.stdout.strip() == (went if mode == 0o711 else str(errno.EACCES)), run.stderr


def test_without_root(under: Under, chdirs: Path, places: tuple[Path, Path], tmp_path: Path) -> None:
    drop = (*DROP, "--bounding-set=-all")
    if subprocess.run([*drop, sys.executable, "-c", "import pymirror.core"], check=False).returncode:
        pytest.skip("this Python is not readable for other users")
    for folder in (tmp_path, *tmp_path.parents, chdirs.parent):
        if folder.stat().st_mode & 0o111 != 0o111:
            folder.chmod(0o755)
    report = tmp_path / "theirs"
    report.mkdir()
    report.chmod(0o777)
    run = under(chdirs, "storm", "/remote-demo/w", "500", before=drop, report=report / "report")
    assert (run.stdout.strip(), run.returncode) == ("rung 1, mask 0, descriptors 0", 0), run.stderr


def test_a_program_that_is_traced_is_told(under: Under, tmp_path: Path) -> None:
    trace = [tool("strace"), "-f", "-o", tmp_path / "trace"]
    run = under(*trace, "/usr/bin/python3", "-c", refused("/remote-demo/w"))
    assert run.stdout.strip() == str(errno.EPERM), run.stderr


def test_what_stays_here_is_not_carried_out(under: Under, tmp_path: Path) -> None:
    run = under("/usr/bin/python3", "-c", refused("/tmp"))
    assert run.stdout.strip() == "/tmp", run.stderr
    report = json.loads((tmp_path / "report").read_text())
    assert ["stat", "/tmp", "read"] in report["asked"] and report["counters"]["carried"] == 0


SHELL = """
cd /remote-demo/w && pwd -P && cd sub && pwd -P && cd .. && cat file
mkdir -p /remote-demo/new/a/b && ls /remote-demo/new/a
make -s -C /remote-demo/w -f - <<< 'all:; @pwd'
tar -C /remote-demo/w -cf - file | tar -tf -
cd /remote-demo/gone; cd /remote-demo/w/file
"""


def test_shells_and_tools(under: Under) -> None:
    run = under(tool("bash"), "-c", SHELL)
    assert run.stdout.splitlines() == [
        *("/remote-demo/w", "/remote-demo/w/sub", "ab", "b", "/remote-demo/w", "file"),
    ], run.stderr
    said = [line.rpartition(": ")[2] for line in run.stderr.splitlines() if "cd:" in line]
    assert said == ["No such file or directory", "Not a directory"]


def test_python(under: Under) -> None:
    script = (
        "import os, subprocess\n"
        "os.chdir('/remote-demo/w'); print(os.getcwd(), sorted(os.listdir()))\n"
        "print(subprocess.run(['pwd', '-P'], cwd='/remote-demo/w/sub', capture_output=True, text=True).stdout)"
    )
    run = under("/usr/bin/python3", "-c", script)
    names = ["abs", "file", "rel", "sub", "tofile"]
    assert run.stdout == f"/remote-demo/w {names}\n/remote-demo/w/sub\n\n", run.stderr


def test_node(under: Under) -> None:
    script = "process.chdir('/remote-demo/w/sub'); console.log(process.cwd(), require('fs').readdirSync('.'))"
    assert under(tool("node"), "-e", script).stdout == "/remote-demo/w/sub [ 'deep' ]\n"


GO = """package main
import ("fmt"; "os"; "os/exec")
func main() {
  done := make(chan error)
  for i := 0; i < 8; i++ {
    go func() { for j := 0; j < 200; j++ { if e := os.Chdir("/remote-demo/w/sub"); e != nil { done <- e } }; done <- nil }()
  }
  for i := 0; i < 8; i++ { if e := <-done; e != nil { fmt.Println(e) } }
  here, _ := os.Getwd()
  command := exec.Command("/bin/pwd", "-P")
  command.Dir = "/remote-demo/w"
  there, e := command.Output()
  fmt.Print(here, " ", string(there), e, "\\n")
}
"""


def test_static_go(under: Under, tmp_path: Path) -> None:
    (tmp_path / "goes.go").write_text(GO)
    environ = {**os.environ, "CGO_ENABLED": "0", "GO111MODULE": "off"}
    words = [tool("go"), "build", "-o", tmp_path / "goes", tmp_path / "goes.go"]
    subprocess.run(words, env=environ, check=True)
    run = under(tmp_path / "goes")
    assert run.stdout == "/remote-demo/w/sub /remote-demo/w\n<nil>\n", run.stderr
