"""What the kernel asks when files are changed, unpacked: as include/uapi/linux/fuse.h lays it out."""

from __future__ import annotations

import struct

import pytest

from pymirror.features.fs import fuse_changes as fc
from pymirror.features.fs import messages as m

MODE, UID, GID, SIZE, ATIME, MTIME, FH, ATIME_NOW, MTIME_NOW = (1 << bit for bit in range(9))


def attributes(valid: int, **values: int) -> memoryview:
    names = "fh size owner atime mtime ctime atime_ns mtime_ns ctime_ns mode unused uid gid unused2".split()
    return memoryview(struct.pack("<II6Q8I", valid, 0, *(values.get(name, 0) for name in names)))


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        (attributes(MODE, mode=0o100640), {"mode": 0o640}),
        (attributes(UID | GID, uid=5, gid=6), {"uid": 5, "gid": 6}),
        (attributes(SIZE | FH, size=9, fh=3), {"size": 9, "handle": 3}),
        (attributes(SIZE, size=9, fh=3), {"size": 9}),
        (
            attributes(ATIME | ATIME_NOW | MTIME, mtime=2, mtime_ns=7),
            {"atime": m.NOW, "mtime": 2_000_000_007},
        ),
        (attributes(MTIME, mtime=(1 << 64) - 2, mtime_ns=5), {"mtime": -1_999_999_995}),
        (attributes(MTIME, mtime=(1 << 64) - 1, mtime_ns=999_999_999), {"mtime": -1000}),  # -1 keeps it
        (attributes(0, mode=1, uid=1, size=1, atime=1), {}),
    ],
)
def test_new_attributes(body: memoryview, asked: dict[str, int]) -> None:
    kept = dict.fromkeys("mode uid gid size atime mtime".split(), m.KEEP) | {"handle": 0}
    assert fc.new_attributes(body)._asdict() == kept | asked


def test_a_write_has_its_data_and_says_whether_it_is_of_a_mapping() -> None:
    body = struct.pack("<QQIIQII", 4, 99, 3, 1, 0, 0o2001, 0) + b"abcd"
    assert fc.written(memoryview(body)) == (4, 99, b"abc", 0o2001, True)


def test_names() -> None:
    assert fc.created(memoryview(struct.pack("<IIII", 0o102, 0o644, 0, 0) + b"new\0")) == (
        0o102,
        0o644,
        b"new",
    )
    assert fc.made_node(memoryview(struct.pack("<IIII", 0o10644, 0x103, 0, 0) + b"p\0")) == (
        0o10644,
        0x103,
        b"p",
    )
    assert fc.made_folder(memoryview(struct.pack("<II", 0o755, 0) + b"d\0")) == (0o755, b"d")
    assert fc.made_link(memoryview(b"name\0/to\0")) == (b"name", b"/to")
    assert fc.named(memoryview(struct.pack("<Q", 8) + b"n\0")) == (8, b"n")
    assert fc.renamed(memoryview(struct.pack("<Q", 8) + b"a\0b\0"), False) == (8, 0, b"a", b"b")
    assert fc.renamed(memoryview(struct.pack("<QII", 8, 2, 0) + b"a\0b\0"), True) == (8, 2, b"a", b"b")


def test_what_open_files_are_asked() -> None:
    assert fc.handle_asked(memoryview(struct.pack("<IIQ", 1, 0, 5))) == 5
    assert fc.handle_asked(memoryview(struct.pack("<IIQ", 0, 0, 5))) == 0
    assert fc.sync_data(memoryview(struct.pack("<QII", 5, 1, 0))) and not fc.sync_data(memoryview(bytes(16)))
    assert fc.allocated(memoryview(struct.pack("<QQQII", 1, 2, 3, 4, 0))) == (1, 2, 3, 4)
    assert fc.sought(memoryview(struct.pack("<QQII", 1, 2, 3, 0))) == (1, 2, 3)
