"""Programs as people run them, in a session that writes in the target: what they made is there, and right."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

import pytest

from tests.sandbox.written_place import FOLDER, Place, says, tell

pytestmark = pytest.mark.sandbox

SQL = """
import os, sqlite3, sys
def work(name):
    base = sqlite3.connect(f"{sys.argv[1]}/{sys.argv[2]}.db", timeout=30, isolation_level=None)
    assert base.execute(f"pragma journal_mode={sys.argv[2]}").fetchone() == (sys.argv[2],)
    base.execute("create table if not exists t (who text, number int)")
    for number in range(20):
        base.execute("begin immediate")
        base.execute("insert into t values (?, ?)", (name, number))
        base.execute("rollback" if number % 5 == 4 else "commit")
    base.close()
sqlite3.connect(f"{sys.argv[1]}/{sys.argv[2]}.db").execute(f"pragma journal_mode={sys.argv[2]}").fetchone()
child = os.fork()
work("parent" if child else "child")
assert not child or os.waitpid(child, 0)[1] == 0
os._exit(0) if not child else None
"""


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_sqlite(place: Place, journal: str) -> None:
    """Two processes that write the same."""
    place.python(SQL, FOLDER, journal)
    read = (
        "import sqlite3; b = sqlite3.connect('/mnt/d/%s.db');"
        "print(*b.execute('pragma integrity_check').fetchone(), *b.execute('select count(*), count(distinct who) from t').fetchone())"
    )
    assert place.run_there(sys.executable, "-c", read % journal) == "ok 32 2\n"


def tree(folder: Path) -> None:
    """Folders, links, holes, modes and times."""
    (folder / "a/b").mkdir(parents=True)
    for number in range(30):
        file = folder / f"a/{number}"
        file.write_bytes(os.urandom(number * 1000))
        os.utime(file, ns=(10**18, 10**18 + number))
    (folder / "a/b/link").symlink_to("../1")
    os.link(folder / "a/2", folder / "a/b/two")
    (folder / "a/b/run").write_text("#!/bin/sh\n")
    (folder / "a/b/run").chmod(0o751)
    with open(folder / "hole", "wb") as file:
        file.truncate(1 << 20)


def listed(folder: Path) -> list[tuple[object, ...]]:
    """What of a tree is to be the same."""
    found: list[tuple[object, ...]] = []
    for path in sorted(folder.rglob("*")):
        info, name = path.lstat(), path.relative_to(folder)
        if path.is_symlink():
            found.append((name, os.readlink(path)))
        elif path.is_dir():
            found.append((name, info.st_mode, info.st_mtime_ns))
        else:
            found.append((name, info.st_mode, info.st_mtime_ns, info.st_nlink, path.read_bytes()))
    return found


def test_tar(place: Place, tmp_path: Path) -> None:
    """Packed here and unpacked there; packed there."""
    tree(tmp_path / "tree")
    shell = "set -e; tar --format=posix -C $1 -cSf - tree | tar -xf -; tar --format=posix -cSf packed.tar tree; tar -df packed.tar; tar -C $1 -df packed.tar"
    assert place.inside(FOLDER, "sh", "-c", shell, "sh", str(tmp_path)) == ""
    assert listed(place.folder / "tree") == listed(tmp_path / "tree")


def test_rsync(place: Place, tmp_path: Path) -> None:
    """Both ways; the second time there is nothing to do."""
    tree(tmp_path / "tree")
    tree(tmp_path / "other")
    once = "rsync -aH --delete --checksum"
    shell = f"set -e; {once} $1/other/ .; {once} $1/tree/ .; {once} --itemize-changes $1/tree/ .; {once} ./ $1/back/"
    assert place.inside(FOLDER, "sh", "-c", shell, "sh", str(tmp_path)) == ""
    assert listed(place.folder) == listed(tmp_path / "back") == listed(tmp_path / "tree")


COMMITS = """set -e
export HOME=$1 GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
git init -q .
for n in 1 2 3; do
  for file in a b c d; do echo $n$file >$file; done
  mkdir -p sub/$n; seq 1 500 >sub/$n/seq; echo x >sub/$n/code.py
  git add .; git commit -qm "commit $n"
done
git status --short
echo changed >a; rm b; echo new >new
git status --short
git checkout -q -- a b; git clean -fdq; git status --short
git gc -q
git fsck --strict --no-progress
git log --oneline | wc -l
"""
SAFE = ("env", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*")


def checked(place: Place, name: str) -> str:
    """What git in the target says of a repository."""
    shell = (
        "git -C $1 fsck --strict --no-progress && git -C $1 status --short && git -C $1 log --oneline | wc -l"
    )
    return place.run_there(*SAFE, "sh", "-c", shell, "sh", f"{FOLDER}/{name}")


def test_git(place: Place, tmp_path: Path) -> None:
    (place.folder / "repo").mkdir()
    shell = f"{COMMITS}\ngit clone -q . ../clone; git clone -q ../clone $1/here; git -C $1/here log --oneline | wc -l"
    said = place.inside(f"{FOLDER}/repo", "sh", "-c", shell, "sh", str(tmp_path))
    assert said == " M a\n D b\n?? new\n3\n3\n"
    assert checked(place, "repo") == checked(place, "clone") == "3\n"
    assert (place.folder / "clone/sub/3/code.py").read_text() == "x\n"


def test_pip(place: Place, tmp_path: Path) -> None:
    """A wheel, made by hand, into a folder of the target."""
    wheel = tmp_path / "small-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as made:
        made.writestr("small/__init__.py", "WORD = 'installed'\n")
        made.writestr("small/data.txt", "data\n" * 10000)
        made.writestr("small-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: small\nVersion: 1.0\n")
        made.writestr(
            "small-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        made.writestr("small-1.0.dist-info/RECORD", "")
    options = ("-q", "--no-index", "--disable-pip-version-check", "--root-user-action=ignore")
    place.run(sys.executable, "-m", "pip", "install", *options, "--target", f"{FOLDER}/lib", str(wheel))
    script = f"import sys; sys.path.insert(0, '{FOLDER}/lib'); import small; print(small.WORD)"
    assert place.run_there(sys.executable, "-c", script) == "installed\n"
    assert place.python(script) == "installed\n"
    assert (place.folder / "lib/small/data.txt").read_text() == "data\n" * 10000


READS = """
import os, sys, time
path, lines = sys.argv[1], []
def take(file):
    for line in file:
        assert line.endswith("\\n")
        lines.append(int(line))
        if lines[-1] % 50 == 24:
            print(lines[-1], flush=True)
file = open(path)
print("reading", flush=True)
while 274 not in lines:
    take(file)
    try:
        new = open(path)
    except FileNotFoundError:
        continue
    if os.path.sameopenfile(new.fileno(), file.fileno()):
        time.sleep(0.002)
    else:
        take(file)
        file = new
print(lines == [*range(275)])
"""
"""A log's reader: on after a rotation, when what is left of the old file is read."""
ROTATES = """
import os, sys
for number in range(275):
    with open(sys.argv[1], "a") as file:
        file.write(f"{number}\\n")
    if number % 50 == 49:
        os.rename(sys.argv[1], f"{sys.argv[1]}.{number}")
    if number % 50 == 24:
        input()
"""
"""A log's writer, that rotates it once before the reader is asked how far it is."""


@pytest.mark.parametrize("writer", ["there", "here"])
def test_a_log_is_rotated(place: Place, writer: str) -> None:
    """Read on the other side: no line is lost or told twice."""
    (place.folder / "log").touch()
    here, there = (READS, ROTATES) if writer == "there" else (ROTATES, READS)
    with place.session(here, f"{FOLDER}/log") as ours, place.beside(there, f"{FOLDER}/log") as theirs:
        reads, writes = (ours, theirs) if writer == "there" else (theirs, ours)
        assert says(reads.stdout) == "reading"
        for number in range(24, 275, 50):
            assert says(reads.stdout) == str(number)
            tell(writes.stdin, "go on")
        assert says(reads.stdout) == "True"
    assert len(list(place.folder.iterdir())) == 6


SAVES = """
import os, sys
path = sys.argv[1]
for number in range(60):
    with open(f"{path}.tmp", "w") as file:
        file.write(f"{number:04}\\n" * 20000)
        file.flush()
        os.fsync(file.fileno())
    os.rename(f"{path}.tmp", path)
"""
WHOLE = """
import sys
seen = 0
print("reading", flush=True)
while seen < 59:
    with open(sys.argv[1]) as file:
        lines = set(file)
        assert len(lines) == 1 and file.tell() == 100000, (lines, file.tell())
    number = int(lines.pop())
    assert number >= seen, (number, seen)
    seen = number
print("seen")
"""


@pytest.mark.parametrize("writer", ["there", "here"])
def test_an_editor_saves(place: Place, writer: str) -> None:
    """Who reads on the other side sees one state or the other, and none again that it had left."""
    (place.folder / "text").write_text("0000\n" * 20000)
    reads = place.session if writer == "there" else place.beside
    with reads(WHOLE, f"{FOLDER}/text") as reader:
        assert says(reader.stdout) == "reading"
        if writer == "there":
            place.run_there(sys.executable, "-c", SAVES, f"{FOLDER}/text")
        else:
            place.python(SAVES, f"{FOLDER}/text")
        assert says(reader.stdout) == "seen"


APPENDS = """
import os, sys
path, count, who, lines = sys.argv[1], int(sys.argv[2]), sys.argv[3], 200
for each in range(count):
    if not os.fork():
        fd = os.open(path, os.O_WRONLY | os.O_APPEND)
        for number in range(lines):
            assert os.write(fd, f"{who}{each} {number} {'x' * (number % 90)}\\n".encode()) > 0
        os.close(fd)
        os._exit(0)
assert all(os.wait()[1] == 0 for _ in range(count))
"""


def test_six_append(place: Place) -> None:
    """Four processes of the program and two of the target: no line is lost or torn, each one's are in order."""
    log = place.folder / "log"
    log.touch()
    with place.session(APPENDS, f"{FOLDER}/log", "4", "here") as here:
        place.run_there(sys.executable, "-c", APPENDS, f"{FOLDER}/log", "2", "there")
        assert here.wait(60) == 0
    found: dict[str, list[int]] = {}
    for line in log.read_text().splitlines():
        who, number, rest = line.split(" ")
        assert rest == "x" * (int(number) % 90)
        found.setdefault(who, []).append(int(number))
    assert found == {who: [*range(200)] for who in (*(f"here{n}" for n in range(4)), "there0", "there1")}
