"""Walks below a root and below a known folder, calm ones, listings and mounts: on real folders."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import attrs
import pytest

from pymirror.features.fs import walk
from pymirror.features.fs.attr import Attr
from pymirror.features.fs.marks import UNTOLD
from pymirror.features.fs.mounts import is_volume, mount_points
from pymirror.features.fs.walk import LeftBase, NotCalm, View, WalkFailed

VIEW = View(watch=lambda fd, path, attr: True)
CALM = attrs.evolve(VIEW, calm=True)


@pytest.fixture
def root(tmp_path: Path) -> int:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").write_bytes(b"content")
    (tmp_path / "a/up").symlink_to("../a/b/file")
    (tmp_path / "a/top").symlink_to("/a/b")
    return os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)


def seen(way: walk.Walk) -> list[bytes]:
    return [spot.path for spot in way.spots]


def test_a_walk_tells_every_place(root: int) -> None:
    with walk.walking(root, VIEW) as way:
        assert way.to(b"/a/top/file", True).path == b"/a/b/file"
        assert seen(way) == [b"/", b"/a", b"/a/top", b"/a", b"/a/b", b"/a/b/file"]


def test_a_walk_from_a_known_folder_tells_what_is_new(root: int) -> None:
    base = os.open("a", os.O_PATH, dir_fd=root)
    with walk.walking(root, VIEW, base, b"/a") as way:
        assert way.to(b"b/../b/file", True).path == b"/a/b/file"
        assert seen(way) == [b"/a/b", b"/a/b", b"/a/b/file"]
    os.fstat(base)  # still the caller's
    os.close(base)


@pytest.mark.parametrize("path", [b"../a/b/file", b"up", b"top/file"])
def test_a_walk_that_leaves_its_base_says_so(root: int, path: bytes) -> None:
    base = os.open("a", os.O_PATH, dir_fd=root)
    with walk.walking(root, VIEW, base, b"/a") as way, pytest.raises(LeftBase):
        way.to(path, True)
    os.close(base)


def test_no_descriptor_stays(root: int) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with walk.walking(root, VIEW) as way, pytest.raises(WalkFailed):
        way.to(b"/a/b/file/x", True)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_calm_walk_reads_what_is_in_memory(root: int) -> None:
    with walk.walking(root, CALM) as way:
        last = way.to(b"/a/b/file", True)
        fd = walk.reopen(last)
        assert walk.read_calmly(fd, 0, 100, last.attr, CALM) == b"content"
        assert walk.read_calmly(fd, 3, 2, last.attr, CALM) == b"te"
        assert walk.read_calmly(fd, 50, 10, last.attr, CALM) == b""
        os.close(fd)


def test_a_calm_read_is_never_short(root: int) -> None:
    """A page that is not in memory, or a size that is not true any more: a thread's work."""
    fd = os.open("a/b/file", os.O_RDONLY, dir_fd=root)
    larger = Attr.of(os.fstat(fd))._replace(size=100)
    empty = larger._replace(size=0)
    for attr in (larger, empty, larger._replace(size=1 << 20)):
        with pytest.raises(NotCalm):
            walk.read_calmly(fd, 0, 1 << 20, attr, CALM)
    os.close(fd)


def test_a_calm_walk_stops_where_another_machine_is_asked(root: int) -> None:
    far = attrs.evolve(CALM, apart=lambda path: path == b"/a/b", quick=lambda path: path != b"/a/b")
    with walk.walking(root, far) as way, pytest.raises(NotCalm):
        way.to(b"/a/b/file", True)
    with walk.walking(root, attrs.evolve(far, calm=False)) as way:
        assert way.to(b"/a/b/file", True).attr.size == 7


def test_a_file_with_two_names_and_a_mount_have_watches_of_their_own(root: int, tmp_path: Path) -> None:
    os.link(tmp_path / "a/b/file", tmp_path / "a/b/second")
    (tmp_path / "a/b/mounted").write_bytes(b"")
    (tmp_path / "a/b/plain").write_bytes(b"")
    watched: list[bytes] = []

    def watch(fd: int, path: bytes, attr: Attr) -> bool:
        watched.append(path)
        return True

    view = View(watch, apart=lambda path: path == b"/a/b/mounted")
    with walk.walking(root, view) as way:
        folder = way.to(b"/a/b", True)
        fd = walk.reopen(folder)
        entries = {name: told for name, _, _, told, _ in walk.entries(fd, folder, view)}
        os.close(fd)
    assert watched == [b"/", b"/a", b"/a/b", *(p for p in watched[3:])]
    assert set(watched[3:]) == {b"/a/b/file", b"/a/b/second", b"/a/b/mounted"}
    assert set(entries.values()) == {True}


def listed(root: int, view: View) -> dict[bytes, walk.Entry]:
    with walk.walking(root, view) as way:
        folder = way.to(b"/a/b", True)
        fd = walk.reopen(folder)
        try:
            return {entry[0]: entry for entry in walk.entries(fd, folder, view)}
        finally:
            os.close(fd)


def test_a_listing_does_not_touch_what_another_machine_holds(root: int, tmp_path: Path) -> None:
    (tmp_path / "a/b/far").mkdir()
    touched: list[bytes] = []

    def watch(fd: int, path: bytes, attr: Attr) -> bool:
        touched.append(path)
        return True

    view = View(watch, apart=lambda path: path == b"/a/b/far", quick=lambda path: False)
    _, attr, link, told, _ = listed(root, view)[b"far"]
    assert attr == Attr.bare(stat.S_IFDIR, os.stat(tmp_path / "a/b/far").st_ino)
    assert not told and not link and b"/a/b/far" not in touched


@pytest.mark.parametrize(
    ("name", "kind"),
    [(b"file", stat.S_IFREG), (b"link", stat.S_IFLNK), (b"inner", stat.S_IFDIR), (b"fifo", 0)],
)
def test_an_entry_that_cannot_be_looked_at_is_named(
    root: int, tmp_path: Path, name: bytes, kind: int
) -> None:
    """As in a folder that may be read and not searched, or of a mount whose server has died."""
    (tmp_path / "a/b/link").symlink_to("x")
    (tmp_path / "a/b/inner").mkdir()
    os.mkfifo(tmp_path / "a/b/fifo")
    whole = listed(root, VIEW)

    def refuse(path: bytes) -> bool:
        if path == b"/a/b/" + name:
            raise OSError(errno.ENOTCONN, "its server has died")
        return False

    found = listed(root, attrs.evolve(VIEW, apart=refuse))
    assert found[name] == (name, Attr.bare(kind, whole[name][1].ino), b"", False, UNTOLD)
    assert list(found) == list(whole)
    assert [other for other, _, _, told, _ in found.values() if not told] == [name]


def test_a_mount_that_is_entered_is_said(root: int) -> None:
    crossed: list[int] = []
    view = attrs.evolve(VIEW, crossed=crossed.append)
    listed(root, view)
    assert crossed == []
    listed(root, attrs.evolve(view, apart=lambda path: path == b"/a"))
    assert crossed == [os.fstat(root).st_dev]


def test_a_descriptor_given_away_stays_open(root: int) -> None:
    with walk.walking(root, VIEW) as way:
        given = way.to(b"/a/b", True).give()
    os.close(given)


def test_mount_points_as_the_kernel_writes_them() -> None:
    text = (
        b"22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw\n"
        b"40 22 0:5 / /a\\040b rw - tmpfs tmpfs rw\n"
        b"41 22 0:6 /x /etc/hosts rw master:2 - nfs4 host:/x rw\n"
        b"broken line\n"
    )
    assert mount_points(text) == {b"/": "ext4", b"/a b": "tmpfs", b"/etc/hosts": "nfs4"}


@pytest.mark.parametrize(
    ("point", "kind", "volume"),
    [
        (b"/data", "ext4", True),
        (b"/etc/app/key", "tmpfs", True),
        (b"/run/secrets/other", "tmpfs", True),
        (b"/", "overlay", False),
        (b"/proc/acpi", "tmpfs", False),
        (b"/dev/shm", "tmpfs", False),
        (b"/etc/hosts", "ext4", False),
        (b"/run/secrets/kubernetes.io/serviceaccount", "tmpfs", True),
        (b"/weird", "cgroup2", False),
    ],
)
def test_what_counts_as_a_volume(point: bytes, kind: str, volume: bool) -> None:
    assert is_volume(point, kind) is volume


def test_a_walk_error_is_the_kernels(root: int) -> None:
    for path, code in ((b"/a/none/x", errno.ENOENT), (b"/a/b/file/", errno.ENOTDIR)):
        with walk.walking(root, VIEW) as way, pytest.raises(WalkFailed) as caught:
            way.to(path, True)
        assert caught.value.errno == code
