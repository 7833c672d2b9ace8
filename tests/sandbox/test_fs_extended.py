"""Extended attributes of the target's files on a real kernel mount: as its own kernel says, and how often is asked."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import struct
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from pymirror.features.fs import fuse
from pymirror.runtimes.process.sandbox import FILES, Sandbox
from tests.sandbox.test_fs_own import run
from tests.sandbox.test_fs_tree import Mounted, mounted
from tests.sandbox.test_fs_write import do

pytestmark = pytest.mark.sandbox

ACCESS = "system.posix_acl_access"
NONE = 0xFFFFFFFF


def acl(*entries: tuple[int, int, int]) -> bytes:
    """tag, rights, id: struct posix_acl_xattr_header and its entries."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


NOBODY_READS = acl((1, 6, NONE), (2, 4, 65534), (4, 4, NONE), (0x10, 4, NONE), (0x20, 0, NONE))
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)  # NET_BIND_SERVICE, effective


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "data/sub").mkdir(parents=True)
    (folder / "data/file").write_bytes(b"content")
    (folder / "data/has").write_bytes(b"content")
    (folder / "data/link").symlink_to("has")
    os.setxattr(folder / "data/has", "user.one", b"1")
    os.setxattr(folder / "data/has", "user.two", b"two")
    os.setxattr(folder / "data/has", ACCESS, NOBODY_READS)
    return folder


@pytest.fixture
async def tree(folder: Path, tmp_path: Path) -> AsyncIterator[Mounted]:
    async with mounted(folder, tmp_path, mode="write") as made:
        yield made


async def on(tree: Mounted, work: Callable[..., Any], path: str, *args: Any) -> Any:
    """`work(path, …)` on the tree's file of that name; a final link is not followed."""
    verdict = await tree.call("stat", path, follow=False)
    return await tree.away(work, f"/proc/self/fd/{verdict.root}/{os.fsdecode(verdict.path)}", *args)


def no_follow(path: str) -> list[str]:
    return os.listxattr(path, follow_symlinks=False)


async def refused(tree: Mounted, work: Callable[..., Any], path: str, *args: Any) -> int:
    with pytest.raises(OSError) as caught:
        await on(tree, work, path, *args)
    return caught.value.errno or 0


async def test_what_the_target_has_is_shown(tree: Mounted, folder: Path) -> None:
    assert sorted(await on(tree, os.listxattr, "/data/has")) == sorted(os.listxattr(folder / "data/has"))
    assert await on(tree, os.getxattr, "/data/has", "user.two") == b"two"
    assert await on(tree, os.getxattr, "/data/has", ACCESS) == NOBODY_READS
    assert await refused(tree, os.getxattr, "/data/has", "user.none") == errno.ENODATA
    assert await refused(tree, os.getxattr, "/data/file", "user.none") == errno.ENODATA
    assert await on(tree, os.listxattr, "/data/file") == []
    assert await on(tree, no_follow, "/data/link") == []


async def test_a_value_is_asked_for_once(tree: Mounted) -> None:
    await tree.stat("/data/has")
    tree.asked()
    for _ in range(3):
        await on(tree, os.getxattr, "/data/has", "user.one")
        await on(tree, os.listxattr, "/data/has")
        await refused(tree, os.getxattr, "/data/has", "user.none")
    assert tree.asked() == 3


async def test_files_without_any_are_not_asked_about(tree: Mounted, folder: Path) -> None:
    """As `ls -l` and `cp -a` do it, for each file: `ls` not again after the first EOPNOTSUPP."""
    for number in range(100):
        (folder / f"data/sub/{number}").touch()
    tree.asked()
    names = await tree.list("/data/sub")
    assert len(names) == 100 and tree.asked() <= 2
    assert await refused(tree, os.getxattr, "/data/sub/1", ACCESS) == errno.EOPNOTSUPP
    await tree.list("/data")
    tree.asked()
    for name, _ in names:
        assert await refused(tree, os.getxattr, f"/data/sub/{name}", ACCESS) == errno.ENODATA
        assert await on(tree, os.listxattr, f"/data/sub/{name}") == []
    assert tree.asked() == 0


async def test_room_and_sizes_as_the_kernel_has_them(tree: Mounted, folder: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    room = ctypes.create_string_buffer(64)

    def sizes(path: str) -> list[Any]:
        name, found = os.fsencode(path), []
        for size in (0, 1, 2, 3, 64):
            got = libc.getxattr(name, b"user.two", room, size)
            found.append((got, ctypes.get_errno() if got < 0 else room.raw[:got] if size else b""))
        for size in (0, 5, 64):
            got = libc.listxattr(name, room, size)
            found.append((got, ctypes.get_errno() if got < 0 else 0))
        return found

    assert await on(tree, sizes, "/data/has") == sizes(str(folder / "data/has"))


# Changes ----------------------------------------------------------------------------------------


async def test_what_is_set_is_the_targets(tree: Mounted, folder: Path) -> None:
    await tree.list("/data")
    tree.asked()
    await on(tree, os.setxattr, "/data/file", "user.new", b"value")
    assert tree.asked() == 1
    assert os.getxattr(folder / "data/file", "user.new") == b"value"
    assert await on(tree, os.getxattr, "/data/file", "user.new") == b"value"
    await on(tree, os.setxattr, "/data/file", "user.new", b"other", os.XATTR_REPLACE)
    assert await on(tree, os.getxattr, "/data/file", "user.new") == b"other"
    assert await refused(tree, os.setxattr, "/data/file", "user.new", b"", os.XATTR_CREATE) == errno.EEXIST
    assert await refused(tree, os.setxattr, "/data/file", "user.no", b"", os.XATTR_REPLACE) == errno.ENODATA
    await on(tree, os.removexattr, "/data/file", "user.new")
    assert os.listxattr(folder / "data/file") == [] == await on(tree, os.listxattr, "/data/file")
    assert await refused(tree, os.removexattr, "/data/file", "user.new") == errno.ENODATA
    await on(tree, os.setxattr, "/data/sub", "user.folder", b"")
    assert await on(tree, os.getxattr, "/data/sub", "user.folder") == b""
    assert await refused(tree, os.setxattr, "/data/file", "other.x", b"") == errno.EOPNOTSUPP


async def test_an_access_list_and_the_mode(tree: Mounted, folder: Path) -> None:
    await on(tree, os.setxattr, "/data/file", ACCESS, NOBODY_READS)
    assert os.getxattr(folder / "data/file", ACCESS) == NOBODY_READS
    assert await on(tree, os.getxattr, "/data/file", ACCESS) == NOBODY_READS
    assert (await tree.stat("/data/file")).st_mode == (folder / "data/file").stat().st_mode
    await do(tree, os.chmod, "/data/file", 0o660)  # the mask is the group's part
    assert await on(tree, os.getxattr, "/data/file", ACCESS) == os.getxattr(folder / "data/file", ACCESS)
    assert await on(tree, os.getxattr, "/data/file", ACCESS) != NOBODY_READS


async def test_rights_of_a_program(tree: Mounted, folder: Path) -> None:
    """A write takes them away in the target."""
    await on(tree, os.setxattr, "/data/file", "security.capability", CAPABILITY)
    assert os.getxattr(folder / "data/file", "security.capability") == CAPABILITY
    assert await on(tree, os.getxattr, "/data/file", "security.capability") == CAPABILITY
    fd = await do(tree, os.open, "/data/file", os.O_WRONLY, call="open")
    await tree.away(os.write, fd, b"changed")
    await tree.away(os.close, fd)
    assert os.listxattr(folder / "data/file") == []


async def test_an_open_file_without_a_name(tree: Mounted, folder: Path) -> None:
    fd = await do(tree, os.open, "/data/file", os.O_RDWR, call="open")
    await do(tree, os.unlink, "/data/file")
    await tree.away(os.setxattr, fd, "user.x", b"1")
    assert await tree.away(os.getxattr, fd, "user.x") == b"1"
    assert await tree.away(os.listxattr, fd) == ["user.x"]
    await tree.away(os.removexattr, fd, "user.x")
    assert await tree.away(os.listxattr, fd) == []
    await tree.away(os.close, fd)


async def test_where_nothing_may_be_changed(folder: Path, tmp_path: Path) -> None:
    async with mounted(folder, tmp_path, mode="read") as tree:
        fd = await tree.open("/data/has")
        assert await tree.away(os.getxattr, fd, "user.one") == b"1"
        with pytest.raises(OSError) as caught:
            await tree.away(os.setxattr, fd, "user.one", b"2")
        assert caught.value.errno == errno.EROFS
        await tree.away(os.close, fd)


# News -------------------------------------------------------------------------------------------


async def test_what_the_pod_changes_is_seen(tree: Mounted, folder: Path) -> None:
    await tree.list("/data")
    assert await on(tree, os.listxattr, "/data/file") == []
    os.setxattr(folder / "data/file", "user.pod", b"1")
    await seen(tree, "/data/file", b"1")
    os.setxattr(folder / "data/file", "user.pod", b"2")
    await seen(tree, "/data/file", b"2")
    os.removexattr(folder / "data/file", "user.pod")
    await seen(tree, "/data/file", None)


async def seen(tree: Mounted, path: str, value: bytes | None) -> None:
    """Sooner or later, bounded."""
    found: bytes | None = b"never looked"
    for _ in range(500):
        try:
            found = await on(tree, os.getxattr, path, "user.pod")
        except OSError as error:
            assert error.errno == errno.ENODATA
            found = None
        if found == value:
            return
    pytest.fail(f"{found!r}, not {value!r}")


async def test_writes_do_not_ask_for_rights_each_time(tree: Mounted) -> None:
    asked: Counter[int] = Counter()
    device = tree.layer._tree._device  # type: ignore[union-attr]
    begin = device._begin

    def counted(request: fuse.Request) -> Any:
        asked[request.opcode] += 1
        return begin(request)

    device._begin = counted
    fd = await do(tree, os.open, "/data/new", os.O_CREAT | os.O_WRONLY, call="open")
    tree.asked()
    for _ in range(50):
        await tree.away(os.write, fd, b"x" * 100)
    await tree.away(os.close, fd)
    assert asked[fuse.WRITE] >= 50
    assert asked[fuse.GETXATTR] <= 1, asked


# A session -------------------------------------------------------------------------------------

PROGRAM = """
import os
f = "/srv/data/file"
print(os.listxattr(f))
os.setxattr(f, "user.a", b"value"); os.setxattr(f, "user.b", b"")
print(sorted(os.listxattr(f)), os.getxattr(f, "user.a"))
os.removexattr(f, "user.b")
fd = os.open(f, os.O_RDONLY)
print(os.listxattr(fd), os.getxattr(f"/proc/self/fd/{fd}", "user.a"))
"""


async def test_a_program_under_pymirror() -> None:
    async with Sandbox.start({**FILES, "/srv/data/file": b"content"}) as sandbox:
        output = await asyncio.to_thread(
            run, sandbox.pid, [sys.executable, "-c", PROGRAM], mode="write", remote=["^/srv/data"]
        )
        assert output.splitlines() == ["[]", "['user.a', 'user.b'] b'value'", "['user.a'] b'value'"]
        assert os.getxattr(f"/proc/{sandbox.pid}/root/srv/data/file", "user.a") == b"value"
