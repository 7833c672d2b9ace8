"""What the target's kernel refuses arrives as it says it, once; and who makes what in the target."""

from __future__ import annotations

import os
import stat
import sys

import pytest

from tests.sandbox.test_fs_odd import TOLD, told
from tests.sandbox.written_place import FOLDER, Place, target

pytestmark = pytest.mark.sandbox

FILLS = """
fd = os.open(f"{d}/big", os.O_WRONLY | os.O_CREAT)
codes, size = [], 0
for _ in range(64):
    try:
        size += os.write(fd, b"x" * 65536)
    except OSError as error:
        codes.append(f"write {errno.errorcode[error.errno]}")
        break
for name, work in (("fsync", os.fsync), ("fsync", os.fsync), ("close", os.close)):
    try:
        work(fd)
    except OSError as error:
        codes.append(f"{name} {errno.errorcode[error.errno]}")
print(*codes)
"""
CLOSED = """
for number in range(20):
    fd = os.open(f"{d}/{number}", os.O_WRONLY | os.O_CREAT)
    codes = [os.write(fd, b"x" * 4096)]
    for work in (os.fsync, os.fsync) if number % 2 else (os.fdatasync, os.close):
        try:
            codes.append(work(fd))
        except OSError as error:
            codes.append(errno.errorcode[error.errno])
    print(codes)
fd = os.open(f"{d}/small", os.O_WRONLY | os.O_CREAT)
told(os.write, fd, b"x" * 4096)
told(os.close, fd)
fd = os.open(f"{d}/synced", os.O_WRONLY | os.O_CREAT | os.O_DSYNC)
told(os.write, fd, b"x" * 4096)
told(os.close, fd)
fd = os.open(f"{d}/appended", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
told(os.write, fd, b"x" * 4096)
told(os.fsync, fd)
told(os.fsync, fd)
told(os.close, fd)
fd = os.open(f"{d}/allocated", os.O_WRONLY | os.O_CREAT)
told(os.posix_fallocate, fd, 0, 1 << 20)
told(os.close, fd)
os.unlink(f"{d}/big")
told(put, f"{d}/small", b"y" * 4096)
"""


def test_a_full_disk() -> None:
    """Told at the next call, at fsync or at close, and then not again; what is removed is room."""
    with target("1m") as place:
        first, *rest = told(place, FILLS + CLOSED)
        assert first in (
            *("write ENOSPC", "fsync ENOSPC"),
            "write ENOSPC fsync ENOSPC",  # of what was on its way when the write was told
        )
        assert rest == [
            *["[4096, 'ENOSPC', None]"] * 20,
            *("4096", "ENOSPC"),
            *("ENOSPC", "None"),
            *("4096", "ENOSPC", "None", "None"),
            *("ENOSPC", "None"),
            "4096",
        ]
        assert (place.folder / "small").read_bytes() == b"y" * 4096
        assert not (place.folder / "big").exists()


EACH = """
told(put, f"{d}/file")
told(put, f"{d}/file", flags=os.O_WRONLY | os.O_TRUNC)
told(put, f"{d}/new")
told(os.mkdir, f"{d}/made")
told(os.mkfifo, f"{d}/pipe")
told(os.symlink, "file", f"{d}/link")
told(os.link, f"{d}/file", f"{d}/more")
told(os.rename, f"{d}/file", f"{d}/other")
told(os.unlink, f"{d}/file")
told(os.rmdir, f"{d}/sub")
told(os.chmod, f"{d}/file", 0o600)
told(os.chown, f"{d}/file", 1, 1)
told(os.utime, f"{d}/file", (1, 1))
told(os.truncate, f"{d}/file", 0)
told(os.access, f"{d}/file", os.W_OK)
told(os.access, f"{d}/file", os.R_OK)
told(got, f"{d}/file")
fd = os.open(d, os.O_RDONLY)
told(put, "file", dir_fd=fd)
told(os.mkdir, "made", dir_fd=fd)
told(os.unlink, "file", dir_fd=fd)
file = os.open(f"{d}/file", os.O_RDONLY)
told(os.fchmod, file, 0o600)
told(put, f"/proc/self/fd/{file}")
"""
FILES = "echo -n old >/mnt/d/file && mkdir /mnt/d/sub"


def by_itself(place: Place, uid: int) -> list[str]:
    """What EACH prints in the target, run by that user."""
    user = ("setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups")
    return place.run_there(*user, sys.executable, "-c", TOLD + EACH).splitlines()


def test_a_mount_of_the_target_that_is_read_only() -> None:
    with target(prepare=f"{FILES} && mount -o remount,ro /mnt") as place:
        found, expected = told(place, EACH), by_itself(place, 0)
        assert expected[:14] == ["EROFS"] * 14
        assert found[14] == "True"  # by its mode; who writes is told
        assert found[:14] + found[15:] == expected[:14] + expected[15:]


def test_the_target_is_a_user_who_may_not() -> None:
    """Nor may the program, root or not: it is the target's first process that counts."""
    with target(uid=1000, prepare=FILES, mode=0o755) as place:
        found, expected = told(place, EACH), by_itself(place, 1000)
        assert set(expected[:15]) == {"EACCES", "EPERM", "False"}
        assert found == expected
        assert (place.folder / "file").read_text() == "old"


def test_what_is_read_from_the_target_and_written_here() -> None:
    """By its path it is this machine's, which has none; by a descriptor of the target's nothing is written."""
    with target(prepare=FILES) as place:
        config = {"read_write": [], "read_only": [f"^{FOLDER}"], "mode": "read"}
        assert told(place, EACH, **config) == [
            *["ENOENT"] * 14,
            *("False", "True", "b'old'", "EROFS", "EROFS", "EROFS", "EROFS", "EROFS"),
        ]
        assert sorted(os.listdir(place.folder)) == ["file", "sub"]


def test_one_file_is_written() -> None:
    """The others of its folder are not, whatever way they are reached."""
    with target(prepare=FILES) as place:
        script = """
told(put, f"{d}/audit.log", b"1\\n", flags=os.O_WRONLY | os.O_APPEND | os.O_CREAT)
told(put, f"{d}/file")
told(os.rename, f"{d}/audit.log", f"{d}/audit.log.1")
fd = os.open(d, os.O_RDONLY)
told(put, "file", dir_fd=fd)
told(put, "audit.log", b"2\\n", flags=os.O_WRONLY | os.O_APPEND, dir_fd=fd)
told(os.rename, "audit.log", "audit.log.1", src_dir_fd=fd, dst_dir_fd=fd)
told(os.unlink, "file", dir_fd=fd)
told(os.truncate, f"{d}/audit.log", 2)
told(got, f"{d}/audit.log")
told(got, f"{d}/file")
"""
        config = {"read_write": [f"^{FOLDER}/audit\\.log$"], "mode": "read"}
        assert told(place, script, **config) == [
            *("2", "ENOENT", "EXDEV", "EROFS", "2", "EROFS", "EROFS", "None", "b'1\\n'", "b'old'"),
        ]
        assert (place.folder / "audit.log").read_text() == "1\n"
        assert (place.folder / "file").read_text() == "old"


MAKES = """
told(put, f"{d}/file")
told(os.mkdir, f"{d}/folder")
told(os.symlink, "file", f"{d}/link")
os.umask(0o077)
told(put, f"{d}/private")
told(os.mkdir, f"{d}/hidden")
told(os.mkfifo, f"{d}/pipe")
fd = os.open(d, os.O_RDONLY)
told(put, "inner", dir_fd=fd, mode=0o666)
told(put, f"{d}/set", mode=0o4755)
"""


def made(place: Place) -> dict[str, tuple[int, int, int]]:
    """Owner, group and mode of each."""
    found = ((path.name, path.lstat()) for path in place.folder.iterdir())
    return {name: (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) for name, info in found}


@pytest.mark.parametrize(
    ("uid", "fs", "owner"),
    [(0, {}, (0, 0)), (1000, {}, (1000, 1000)), (0, {"owner": "1234:2345"}, (1234, 2345))],
)
def test_whose_it_is(uid: int, fs: dict[str, str], owner: tuple[int, int]) -> None:
    """The target's user's, or whom the configuration names; the mode is what the program asks for."""
    with target(uid=uid) as place:
        assert told(place, MAKES, **fs) == ["3", "None", "None", "3", "None", "None", "3", "3"]
        assert made(place) == {
            name: (*owner, mode)
            for name, mode in {
                "file": 0o755,
                "folder": 0o755,
                "link": 0o777,
                "private": 0o700,
                "hidden": 0o700,
                "pipe": 0o600,
                "inner": 0o600,
                "set": 0o4700 if owner == (0, 0) else 0o700,  # a write takes the bit from who has no FSETID
            }.items()
        }
