"""What a target's folder may hold and a program may ask that is out of the ordinary, in one session each."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from tests.sandbox.written_place import FOLDER, Place, says, tell

pytestmark = pytest.mark.sandbox

TOLD = """
import errno, os, socket, stat, sys
def told(work, *words, **named):
    try:
        found = work(*words, **named)
    except OSError as error:
        found = errno.errorcode[error.errno]
    print(found)
    return found
def put(path, text=b"new", flags=os.O_WRONLY | os.O_CREAT, **named):
    fd = os.open(path, flags, **named)
    try:
        return os.write(fd, text)
    finally:
        os.close(fd)
def got(path, **named):
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK, **named)
    try:
        return os.read(fd, 100)
    finally:
        os.close(fd)
os.chdir("/")
d = "/mnt/d"
"""


def told(place: Place, script: str, *words: str, **fs: object) -> list[str]:
    """What each `told` of the script printed."""
    return place.python(TOLD + script, *words, **fs).splitlines()


def test_dots(place: Place) -> None:
    """They are names' neighbours, not names; none leads out of the tree, or past its top."""
    (place.folder / "a/b").mkdir(parents=True)
    (place.folder / "link").symlink_to("a/b")
    script = """
told(put, f"{d}/a/../a/b/./../one")
told(put, f"{d}/../../../../../../mnt/d/two")
told(put, f"/proc/../mnt/d/three")
fd = os.open(f"{d}/a/b", os.O_RDONLY)
told(put, "../four", dir_fd=fd)
told(put, "../../../../mnt/d/five", dir_fd=fd)
told(put, "../../../../../../../mnt/d/five", dir_fd=fd)
told(os.mkdir, f"{d}/a/..")
told(os.rmdir, f"{d}/a/b/.")
told(os.unlink, f"{d}/a/b/..")
told(os.rename, f"{d}/a/b/..", f"{d}/c")
told(os.mkdir, f"{d}/a/new/")
told(put, f"{d}/file/")
"""
    assert told(place, script) == [
        *("3", "3", "3", "3", "3", "3"),
        *("EEXIST", "EINVAL", "EISDIR", "EBUSY", "None", "EISDIR"),
    ]
    assert sorted(os.listdir(place.folder)) == ["a", "five", "link", "three", "two"]
    assert sorted(os.listdir(place.folder / "a")) == ["b", "four", "new", "one"]


@pytest.mark.xfail(strict=True, reason="dots are taken out of a path before it is looked up")
def test_dots_after_a_link(place: Place) -> None:
    """`..` is the folder above where the link leads, and of what does not exist there is none."""
    (place.folder / "a/b").mkdir(parents=True)
    (place.folder / "link").symlink_to("a/b")
    (place.folder / "a/file").write_text("content")
    script = """
told(got, f"{d}/link/../file")
told(put, f"{d}/link/../new")
told(put, f"{d}/none/../new")
"""
    assert told(place, script) == ["b'content'", "3", "ENOENT"]
    assert (place.folder / "a/new").read_text() == "new"


def test_loops_of_links(place: Place) -> None:
    (place.folder / "self").symlink_to("self")
    (place.folder / "a").symlink_to(f"{FOLDER}/b")
    (place.folder / "b").symlink_to("a/../a")
    (place.folder / "dangling").symlink_to(f"{FOLDER}/made")
    for number in range(45):
        (place.folder / f"l{number}").symlink_to(f"l{number + 1}")
    (place.folder / "l45").write_text("far")
    script = """
for name in ("self", "a", "b", "l0", "self/x", "l4"):
    told(put, f"{d}/{name}")
told(os.stat, f"{d}/a")
told(os.mkdir, f"{d}/self")
told(put, f"{d}/dangling", flags=os.O_WRONLY | os.O_CREAT | os.O_EXCL)
told(put, f"{d}/dangling")
told(got, f"{d}/l6")
told(put, f"{d}/l44", flags=os.O_WRONLY | os.O_NOFOLLOW)
told(os.unlink, f"{d}/self")
"""
    assert told(place, script) == [
        *("ELOOP", "ELOOP", "ELOOP", "ELOOP", "ELOOP", "ELOOP", "ELOOP", "EEXIST", "EEXIST", "3"),
        *("b'far'", "ELOOP", "None"),
    ]
    assert (place.folder / "made").read_text() == "new"


def test_names(place: Place) -> None:
    """As long as they may be, and one more; bytes that are no text; what a shell would not like."""
    script = """
for name in (b"n" * 255, b"n" * 256, "ä".encode() * 127, b"\\xff\\xfe\\x80", b" \\n\\t*", b"-rf", b"\\\\"):
    path = d.encode() + b"/" + name
    if told(put, path) == 3:
        told(os.rename, path, path + b"" if len(name) > 200 else path + b"2")
for work in (os.mkdir, os.unlink, os.stat):
    told(work, f"{d}/" + "n" * 256)
told(os.rename, d + "/" + "n" * 255, d + "/" + "m" * 256)
told(os.symlink, "x" * 4096, f"{d}/long")
told(os.symlink, "x" * 4095, f"{d}/long")
told(lambda: len(os.readlink(f"{d}/long")))
deep = d + "/x" * 2040
told(os.mkdir, deep)
told(os.mkdir, d + "/" * 4095)
told(put, "")
"""
    names = [b"n" * 255, "ä".encode() * 127, b"\xff\xfe\x802", b" \n\t*2", b"-rf2", b"\\2", b"long"]
    assert told(place, script) == [
        *("3", "None", "ENAMETOOLONG", "3", "None"),
        *("3", "None") * 4,
        *("ENAMETOOLONG",) * 5,
        *("None", "4095", "ENOENT", "ENAMETOOLONG", "ENOENT"),
    ]
    assert sorted(os.listdir(os.fsencode(place.folder))) == sorted(names)
    listed = place.python("import os; print(sorted(os.listdir(b'/mnt/d')))")
    assert listed == f"{sorted(names)}\n"


def test_what_is_no_file(place: Place) -> None:
    """Pipes, sockets and devices are seen, made, renamed and removed; to open one is not to reach its peer."""
    os.mkfifo(place.folder / "pipe")
    os.mknod(place.folder / "null", 0o20666, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(place.folder / "socket"))
        bound.listen()
        script = """
for name in ("pipe", "socket", "null"):
    path = f"{d}/{name}"
    print(oct(os.lstat(path).st_mode), os.lstat(path).st_rdev)
    told(got, path)
    told(put, path, flags=os.O_WRONLY | os.O_NONBLOCK)
    told(put, path, flags=os.O_WRONLY | os.O_NONBLOCK | os.O_TRUNC | os.O_CREAT)
    told(os.chmod, path, 0o600)
    told(os.rename, path, path + "2")
told(os.mkfifo, f"{d}/made", 0o640)
told(os.mknod, f"{d}/zero", 0o20644, os.makedev(1, 5))
told(os.unlink, f"{d}/pipe2")
"""
        found = told(place, script)
    assert found == [
        *("0o10644 0", "b''", "ENXIO", "ENXIO", "None", "None"),  # a pipe of this machine, with no other end
        *("0o140755 0", "ENXIO", "ENXIO", "ENXIO", "None", "None"),
        *("0o20644 259", "EACCES", "EACCES", "EACCES", "None", "None"),
        *("None", "None", "None"),
    ]
    assert sorted(os.listdir(place.folder)) == ["made", "null2", "socket2", "zero"]
    assert (place.folder / "zero").stat().st_rdev == os.makedev(1, 5)


def test_a_hundred_thousand_names(place: Place) -> None:
    for number in range(100_000):
        os.close(os.open(place.folder / f"{number:06}", os.O_CREAT | os.O_WRONLY))
    script = """
print(len(set(os.listdir(d))))
told(lambda: os.stat(f"{d}/099999").st_size)
told(os.stat, f"{d}/100000")
told(put, f"{d}/100000")
told(os.unlink, f"{d}/050000")
told(os.stat, f"{d}/050000")
names = set(os.listdir(d))
print(len(names), "050000" in names, "100000" in names)
"""
    assert told(place, script) == ["100000", "0", "ENOENT", "3", "None", "ENOENT", "100000 False True"]
    assert (place.folder / "100000").read_text() == "new" and not (place.folder / "050000").exists()


def test_a_file_becomes_a_folder_while_it_is_open(place: Place) -> None:
    """What is open stays what it was; by its name it is the other one."""
    (place.folder / "file").write_bytes(b"content")
    (place.folder / "kept").write_bytes(b"content")
    script = """
reading, writing = os.open(f"{d}/kept", os.O_RDONLY), os.open(f"{d}/file", os.O_RDWR)
told(os.pread, reading, 100, 0)
told(os.write, writing, b"mine")
print("open", flush=True)
input()
told(os.pread, reading, 100, 0)
told(os.pwrite, writing, b"more", 4)
told(os.pread, writing, 100, 0)
told(lambda: os.fstat(writing).st_nlink)
told(os.fsync, writing)
told(os.close, writing)
told(lambda: stat.S_ISDIR(os.stat(f"{d}/file").st_mode))
told(os.listdir, f"{d}/kept")
told(put, f"{d}/file")
told(put, f"{d}/file/inner")
"""
    with place.session(TOLD + script) as session:
        assert [says(session.stdout) for _ in range(3)] == ["b'content'", "4", "open"]
        for name in ("file", "kept"):
            (place.folder / name).unlink()
            (place.folder / name).mkdir()
        tell(session.stdin, "go on")
        assert session.stdout is not None
        assert session.stdout.read().splitlines() == [
            *("b'content'", "4", "b'minemore'", "0", "None", "None"),
            *("True", "[]", "EISDIR", "3"),
        ]
    assert (place.folder / "file/inner").read_text() == "new"


RACE = """
import os, sys
won = []
for number in range(300):
    try:
        os.close(os.open(f"{sys.argv[1]}/{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        won.append(number)
    except FileExistsError:
        pass
print(*won)
"""


def test_who_makes_a_file_first(place: Place) -> None:
    """O_EXCL in the program and in the target at once: each file has one maker."""
    with place.session(RACE, FOLDER) as here:
        there = place.run_there(sys.executable, "-c", RACE, FOLDER).split()
        assert here.stdout is not None
        ours = here.stdout.read().split()
    assert sorted(map(int, ours + there)) == list(range(300))


def test_two_names_written_in_two_ways(place: Place) -> None:
    """A path from the top and one from a folder, or from a descriptor, of the same tree are of one file system."""
    (place.folder / "w/s").mkdir(parents=True)
    (place.folder / "one").write_text("1")
    script = """
fd = os.open(f"{d}/w", os.O_RDONLY)
os.fchdir(fd)
put("two")
told(os.rename, f"{d}/one", "one")
told(os.rename, "two", f"{d}/w/s/two")
told(os.rename, "s/two", f"{d}/w/three", src_dir_fd=fd)
told(os.link, f"{d}/w/three", "../four", dst_dir_fd=fd)
told(os.rename, "none", f"{d}/five")
told(os.rename, "one", f"{sys.argv[1]}/one")
told(os.rename, "/proc/version", "one")
file = os.open(d, os.O_TMPFILE | os.O_RDWR)
os.write(file, b"tmp")
told(os.link, f"/proc/self/fd/{file}", f"{d}/named", dst_dir_fd=fd, follow_symlinks=True)
told(os.link, "/proc/self/exe", f"{d}/program", dst_dir_fd=fd, follow_symlinks=True)
told(os.link, "/proc/self/fd/99", f"{d}/program", dst_dir_fd=fd, follow_symlinks=True)
"""
    assert told(place, script, str(place.scratch)) == [
        *("None", "None", "None", "None", "ENOENT", "EXDEV", "EXDEV", "None", "EXDEV", "ENOENT"),
    ]
    assert (place.folder / "named").read_text() == "tmp"
    assert sorted(os.listdir(place.folder)) == ["four", "named", "w"]
    assert sorted(os.listdir(place.folder / "w")) == ["one", "s", "three"]
