"""Changes of the target's tree on a real kernel mount: what is made there, and how often is asked."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from pymirror.core.call import OtherPath
from pymirror.core.syscalls import syscall
from pymirror.features.fs import messages as m
from tests.sandbox.test_fs_tree import Mounted, mounted

pytestmark = pytest.mark.sandbox


@pytest.fixture
async def tree(tmp_path: Path) -> AsyncIterator[Mounted]:
    """A target whose root is a folder."""
    folder = tmp_path / "root"
    (folder / "data").mkdir(parents=True)
    (folder / "data/file").write_bytes(b"content")
    async with mounted(folder, tmp_path, mode="write") as made:
        yield made


async def do(
    tree: Mounted, work: Callable[..., Any], path: str, *args: Any, call: str = "change", **named: Any
) -> Any:
    """`work(path, …)` as the engine has it: its path below the tree's root."""
    verdict = await tree.call(call, path, write=True)
    assert isinstance(verdict, OtherPath), verdict
    return await tree.away(work, verdict.path, *args, dir_fd=verdict.root, **named)


async def test_a_file_is_made_written_and_closed(tree: Mounted) -> None:
    await tree.list("/data")
    tree.asked()
    fd = await do(tree, os.open, "/data/new", os.O_CREAT | os.O_WRONLY, 0o640, call="open")
    assert tree.asked() == 1  # the folder is known, so the name is known not to exist
    assert await tree.away(os.write, fd, b"hello") == 5
    await tree.away(os.close, fd)
    assert tree.asked() == 1
    made = tree.folder / "data/new"
    assert made.read_bytes() == b"hello" and stat.S_IMODE(made.stat().st_mode) == 0o640
    assert (await tree.stat("/data/new")).st_size == 5
    assert tree.asked() == 0
    assert await tree.read("/data/new") == b"hello"


async def test_folders_are_made_and_removed(tree: Mounted) -> None:
    await tree.list("/data")
    tree.asked()
    await do(tree, os.mkdir, "/data/a", 0o750)
    await do(tree, os.mkdir, "/data/a/b")
    await do(tree, os.mkdir, "/data/a/b/c")
    assert tree.asked() == 3
    assert stat.S_IMODE((tree.folder / "data/a").stat().st_mode) == 0o750
    await do(tree, os.rmdir, "/data/a/b/c")
    assert tree.asked() == 1
    assert not (tree.folder / "data/a/b/c").exists()
    with pytest.raises(FileNotFoundError):
        await tree.stat("/data/a/b/c")
    assert tree.asked() == 0


async def test_a_name_becomes_another(tree: Mounted) -> None:
    await tree.read("/data/file")
    await do(tree, os.mkdir, "/data/a")
    verdict = await tree.call("change", "/data/file", write=True)
    tree.asked()
    await tree.away(
        os.rename, verdict.path, b"data/a/moved", src_dir_fd=verdict.root, dst_dir_fd=verdict.root
    )
    assert tree.asked() == 1
    assert (tree.folder / "data/a/moved").read_bytes() == b"content"
    assert await tree.read("/data/a/moved") == b"content"
    with pytest.raises(FileNotFoundError):
        await tree.stat("/data/file")


async def test_attributes_are_set(tree: Mounted) -> None:
    await tree.stat("/data/file")
    tree.asked()
    await do(tree, os.chmod, "/data/file", 0o600)
    assert tree.asked() == 1
    assert stat.S_IMODE((await tree.stat("/data/file")).st_mode) == 0o600
    verdict = await tree.call("change", "/data/file", write=True)
    await tree.away(os.utime, verdict.path, ns=(5, 1_000_000_007), dir_fd=verdict.root)
    assert (tree.folder / "data/file").stat().st_mtime_ns == 1_000_000_007
    assert (await tree.stat("/data/file")).st_mtime_ns == 1_000_000_007


async def test_small_writes_are_sent_together(tree: Mounted) -> None:
    fd = await do(tree, os.open, "/data/big", os.O_CREAT | os.O_WRONLY, call="open")
    tree.asked()

    def write() -> None:
        for number in range(512):
            os.write(fd, bytes([number % 256]) * 4096)

    await tree.away(write)
    await tree.away(os.close, fd)
    assert tree.asked() < 50
    assert (tree.folder / "data/big").read_bytes() == b"".join(bytes([n % 256]) * 4096 for n in range(512))


async def test_what_is_only_written_is_read_by_another_descriptor(tree: Mounted) -> None:
    fd = await do(tree, os.open, "/data/log", os.O_CREAT | os.O_WRONLY, 0o644, call="open")
    await tree.away(os.write, fd, b"one")
    reader = await tree.open("/data/log")
    assert await tree.away(os.pread, reader, 10, 0) == b"one"
    await tree.away(os.write, fd, b" two")
    assert await tree.away(os.pread, reader, 10, 0) == b"one two"
    await do(tree, os.unlink, "/data/log")
    await tree.away(os.write, fd, b"!")
    assert await tree.away(os.pread, reader, 10, 0) == b"one two!"
    assert (await tree.away(os.fstat, reader)).st_size == 8
    await tree.away(os.close, fd)
    assert await tree.away(os.pread, reader, 10, 0) == b"one two!"
    await tree.away(os.close, reader)


async def test_what_is_written_is_read_by_another_descriptor(tree: Mounted) -> None:
    fd = await do(tree, os.open, "/data/both", os.O_CREAT | os.O_RDWR, call="open")
    await tree.away(os.write, fd, b"one")
    assert (await tree.stat("/data/both")).st_size == 3
    assert await tree.read("/data/both") == b"one"
    await tree.away(os.pwrite, fd, b"X", 1)
    assert await tree.away(os.pread, fd, 10, 0) == b"oXe"
    await tree.away(os.close, fd)
    assert await tree.read("/data/both") == b"oXe"


async def test_a_file_without_a_name_gets_two(tree: Mounted) -> None:
    folder = await tree.open("/data", os.O_RDONLY | os.O_DIRECTORY)
    flags = os.O_TMPFILE | os.O_RDWR
    fd = await tree.away(os.open, ".", flags, 0o600, dir_fd=folder)
    await tree.away(os.write, fd, b"one")
    assert os.listdir(tree.folder / "data") == ["file"]
    place = f"/proc/self/fd/{fd}"
    for name in ("first", "second"):
        await tree.away(os.link, place, name, dst_dir_fd=folder, follow_symlinks=True)
    await tree.away(os.write, fd, b" two")
    assert await tree.read("/data/first") == await tree.read("/data/second") == b"one two"
    assert (await tree.stat("/data/second")).st_nlink == 2
    await tree.away(os.close, fd)
    assert (tree.folder / "data/first").read_bytes() == b"one two"
    await tree.away(os.close, folder)


async def test_an_absolute_link_leads_to_its_place_from_another_depth(tree: Mounted) -> None:
    (tree.folder / "data/sub/deep").mkdir(parents=True)
    (tree.folder / "data/link").symlink_to("/data/file")
    verdict = await tree.call("change", "/data/link", write=True, follow=False)
    assert await tree.read("/data/link") == b"content"
    for old, new in (("link", "sub/deep/link"), ("sub/deep", "deep")):
        places = (f"data/{old}", f"data/{new}")
        await tree.away(os.rename, *places, src_dir_fd=verdict.root, dst_dir_fd=verdict.root)
    assert await tree.read("/data/deep/link") == b"content"
    assert os.readlink(tree.folder / "data/deep/link") == "/data/file"


async def test_two_descriptors_write_in_their_order(tree: Mounted) -> None:
    flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND
    one = await do(tree, os.open, "/data/log", flags, 0o644, call="open")
    two = await do(tree, os.open, "/data/log", flags, 0o644, call="open")

    def write() -> None:
        for number in range(100):
            os.write(one if number % 2 else two, b"%d\n" % number)

    await tree.away(write)
    await tree.away(os.close, two)
    await tree.away(os.close, one)
    assert (tree.folder / "data/log").read_text().split() == [str(number) for number in range(100)]


async def test_a_folder_in_doubt_still_takes_names_by_its_descriptor(tree: Mounted) -> None:
    folder = await tree.open("/data", os.O_RDONLY | os.O_DIRECTORY)
    await tree.away(os.mkdir, "before", dir_fd=folder)
    tree.layer.changed(m.Changed([], [], True, 1 << 30))
    await tree.away(os.mkdir, "after", dir_fd=folder)
    assert (tree.folder / "data/after").is_dir()
    os.rename(tree.folder / "data", tree.folder / "old")
    (tree.folder / "data").mkdir()
    tree.layer.changed(m.Changed([], [b"/data"], False, 1 << 31))
    with pytest.raises(OSError):
        await tree.away(os.mkdir, "elsewhere", dir_fd=folder)
    assert os.listdir(tree.folder / "data") == []
    await tree.away(os.close, folder)


async def test_a_listing_has_what_the_program_made_although_its_folder_looks_the_same(tree: Mounted) -> None:
    await tree.list("/data")
    folder = tree.folder / "data"
    before = folder.stat()
    await do(tree, os.mkdir, "/data/made")
    node = tree.layer._tree.cache.by_path[b"/data"]  # type: ignore[union-attr]
    assert node.listing is None and node.complete
    os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert [name for name, _ in await tree.list("/data")] == ["file", "made"]


async def test_two_folders_are_exchanged_with_what_is_below(tree: Mounted) -> None:
    for name in ("one", "two"):
        (tree.folder / "data" / name).mkdir()
        (tree.folder / "data" / name / "file").write_text(name)
        assert await tree.read(f"/data/{name}/file") == name.encode()
    root = (await tree.call("change", "/data", write=True)).root
    places = (root, b"data/one", root, b"data/two", m.EXCHANGE)
    await tree.away(syscall, "renameat2", *places)
    assert await tree.read("/data/one/file") == b"two" and await tree.read("/data/two/file") == b"one"
    (tree.folder / "data/one/file").write_text("longer")
    found = [await later(tree) for _ in range(200)]
    assert b"longer" in found


async def later(tree: Mounted) -> bytes:
    """What is read a moment later: news takes a while."""
    await asyncio.sleep(0.01)
    return await tree.read("/data/one/file")
