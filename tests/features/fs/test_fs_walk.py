"""Walks below a root and below a known folder, calm ones, mounts and watches: on real folders."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from pymirror.features.fs import walk
from pymirror.features.fs.attr import Attr
from pymirror.features.fs.config import Config
from pymirror.features.fs.defaults import Here
from pymirror.features.fs.layer import unseen
from pymirror.features.fs.mounts import is_volume, mount_points
from pymirror.features.fs.rules import Rules
from pymirror.features.fs.walk import LeftBase, NotCalm, View, WalkFailed
from pymirror.features.fs.watch import Watcher

VIEW = View(watch=lambda fd, path, device: True)
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

    def watch(fd: int, path: bytes, device: int) -> bool:
        watched.append(path)
        return True

    view = View(watch, apart=lambda path: path == b"/a/b/mounted")
    with walk.walking(root, view) as way:
        folder = way.to(b"/a/b", True)
        fd = walk.reopen(folder)
        entries = {name: told for name, _, _, told in walk.entries(fd, folder, view)}
        os.close(fd)
    assert watched == [b"/", b"/a", b"/a/b", *(p for p in watched[3:])]
    assert set(watched[3:]) == {b"/a/b/file", b"/a/b/second", b"/a/b/mounted"}
    assert set(entries.values()) == {True}


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
        (b"/run/secrets/kubernetes.io/serviceaccount", "tmpfs", False),
        (b"/weird", "cgroup2", False),
    ],
)
def test_what_counts_as_a_volume(point: bytes, kind: str, volume: bool) -> None:
    assert is_volume(point, kind) is volume


def test_a_volume_that_a_default_list_keeps_here_is_said() -> None:
    rules = Rules(Config(local=["^/data/own"]), Here(home="/home/me"))
    volumes = [b"/data", b"/etc/app", b"/data/own", b"/opt/x/"]
    [note] = unseen(rules, volumes)
    assert "read here by default: /etc/app, /opt/x/ (" in note and '"^/etc/app"' in note
    assert unseen(Rules(Config(read_only=["^/etc/app", "^/opt"]), Here()), volumes) == []
    assert " and 6 more" in unseen(rules, [b"/etc/%d" % n for n in range(10)])[0]


Changed = tuple[list[bytes], list[bytes], bool]


async def told(watcher: Callable[[Callable[..., None]], Watcher], work: Callable[[Watcher], None]) -> Changed:
    """What a watcher says first after `work`."""
    news: asyncio.Future[Changed] = asyncio.get_running_loop().create_future()
    made = watcher(lambda *what: None if news.done() else news.set_result(what))
    try:
        work(made)
        return await asyncio.wait_for(news, 10)
    finally:
        made.close()


def put(watcher: Watcher, path: Path) -> bool:
    fd = os.open(path, os.O_PATH)
    try:
        return watcher.watch(fd, os.fsencode(path), os.fstat(fd).st_dev)
    finally:
        os.close(fd)


async def test_the_oldest_watch_goes_and_is_told(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()

    def work(watcher: Watcher) -> None:
        for name in "abac":
            assert put(watcher, tmp_path / name)

    news = await told(lambda changed: Watcher(changed, most=2), work)
    assert news == ([], [os.fsencode(tmp_path / "b")], False)


async def test_a_kept_folder_goes_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    path = os.fsencode(tmp_path / "a/b")
    held: list[int] = []

    def work(watcher: Watcher) -> None:
        put(watcher, tmp_path / "a")
        put(watcher, tmp_path / "a/b")
        fd = os.open(path, os.O_PATH)
        watcher.keep_folder(path, fd, watcher.turns - 1)  # a walk begun before names changed
        held.append(watcher.folder(path))
        watcher.keep_folder(path, fd, watcher.turns)
        held.append(watcher.folder(path))
        os.close(fd)
        os.rename(tmp_path / "a/b", tmp_path / "a/c")

    made: list[Watcher] = []

    def watcher(changed: Callable[..., None]) -> Watcher:
        made.append(Watcher(changed))
        return made[0]

    _paths, below, lost = await told(watcher, work)
    assert held[0] == -1 and held[1] >= 0
    assert path in below and not lost
    assert made[0].folder(path) == -1


async def test_what_cannot_be_watched_is_said(tmp_path: Path) -> None:
    watcher = Watcher(lambda *_: None)
    assert not put(watcher, Path("/proc/self"))
    assert put(watcher, tmp_path)
    watcher.close()
    assert not put(watcher, tmp_path)


async def test_a_walk_error_is_the_kernels(root: int) -> None:
    for path, code in ((b"/a/none/x", errno.ENOENT), (b"/a/b/file/", errno.ENOTDIR)):
        with walk.walking(root, VIEW) as way, pytest.raises(WalkFailed) as caught:
            way.to(path, True)
        assert caught.value.errno == code
