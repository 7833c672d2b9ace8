"""The tree on a real kernel mount over a folder: what is read, how often is asked, what changes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import mmap
import os
import stat
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from pymirror.core.call import Call, Errno, OtherPath, Scope, Text, Untouched, Verdict
from pymirror.core.feature import Launch
from pymirror.core.testing import FakeTarget, pair
from pymirror.features.fs.access import Identity
from pymirror.features.fs.agent import Agent
from pymirror.features.fs.config import Config
from pymirror.features.fs.layer import Layer

pytestmark = pytest.mark.sandbox

T = TypeVar("T")
ASKED = ("Fetch", "List", "Read", "Refresh", "StatFs")


class Mounted:
    """A program's view: its calls go to the layer half, then to the kernel below the tree's root."""

    def __init__(self, layer: Layer, counters: Counter[str], folder: Path) -> None:
        self.layer, self.counters, self.folder = layer, counters, folder
        self.trips = 0

    async def away(self, work: Callable[..., T], *args: Any, **named: Any) -> T:
        """In a thread: the loop serves the mount and must never touch it."""
        return await asyncio.to_thread(work, *args, **named)

    async def call(self, name: str, path: str, **more: Any) -> Any:
        answer = self.layer.path(Call(name, os.fsencode(path), **more))
        verdict = answer if isinstance(answer, Verdict) else await answer
        if isinstance(verdict, Errno) and "; in the target: " in verdict.reason:
            raise OSError(verdict.code, os.strerror(verdict.code))
        return verdict

    async def open(self, path: str, flags: int = os.O_RDONLY) -> int:
        verdict = await self.call("open", path)
        assert isinstance(verdict, OtherPath), verdict
        return await self.away(os.open, verdict.path, flags, dir_fd=verdict.root)

    async def read(self, path: str) -> bytes:
        fd = await self.open(path)
        try:
            return await self.away(everything, fd)
        finally:
            await self.away(os.close, fd)

    async def stat(self, path: str, follow: bool = True) -> os.stat_result:
        verdict = await self.call("stat", path, follow=follow)
        assert isinstance(verdict, OtherPath), verdict
        return await self.away(os.stat, verdict.path, dir_fd=verdict.root, follow_symlinks=follow)

    async def list(self, path: str) -> list[tuple[str, os.stat_result]]:
        """As `ls -l`: open, read, and a stat of each."""
        fd = await self.open(path, os.O_RDONLY | os.O_DIRECTORY)

        def look() -> list[tuple[str, os.stat_result]]:
            return [
                (name, os.stat(name, dir_fd=fd, follow_symlinks=False)) for name in sorted(os.listdir(fd))
            ]

        try:
            return await self.away(look)
        finally:
            await self.away(os.close, fd)

    def asked(self) -> int:
        """Round trips since the last time."""
        now = sum(count for name, count in self.counters.items() if name.startswith("requests "))
        found, self.trips = now - self.trips, now
        return found


def everything(fd: int) -> bytes:
    parts = []
    while part := os.read(fd, 1 << 20):
        parts.append(part)
    return b"".join(parts)


@contextlib.asynccontextmanager
async def mounted(folder: Path, tmp: Path, **config: Any) -> AsyncIterator[Mounted]:
    with FakeTarget(folder) as target:
        async with pair(
            Layer, Agent, Config(local=["^/here/"], not_found=["^/nowhere"], **config), target
        ) as both:
            await both.layer.prepare(Launch(["true"], {}, str(tmp)))
            made = Mounted(both.layer, both.link.counters, folder)
            made.asked()
            yield made


@pytest.fixture
async def tree(tmp_path: Path) -> AsyncIterator[Mounted]:
    """A target whose root is a folder, its `data` laid out."""
    folder, tmp = tmp_path / "root", tmp_path / "tmp"
    (folder / "data/sub/deep").mkdir(parents=True)
    tmp.mkdir()
    (folder / "data/file").write_bytes(b"hello\n")
    (folder / "data/sub/deep/file").write_bytes(b"deep\n")
    (folder / "data/absolute").symlink_to("/data/file")
    (folder / "data/absolute2").symlink_to("/data/absolute")
    (folder / "data/sub/up").symlink_to("../file")
    (folder / "data/out").symlink_to("../../../../../../etc/passwd")
    (folder / "data/dangling").symlink_to("/none")
    (folder / "data/loop").symlink_to("loop")
    os.mkfifo(folder / "data/fifo")
    async with mounted(folder, tmp) as made:
        yield made


async def test_bytes_through_links_of_every_kind(tree: Mounted) -> None:
    for name in ("file", "absolute", "absolute2", "sub/up", "sub/../file"):
        assert await tree.read(f"/data/{name}") == b"hello\n", name


async def test_a_link_never_leads_out_of_the_root(tree: Mounted) -> None:
    with pytest.raises(FileNotFoundError):
        await tree.read("/data/out")


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("none", errno.ENOENT),
        ("dangling", errno.ENOENT),
        ("loop", errno.ELOOP),
        ("file/below", errno.ENOTDIR),
    ],
)
async def test_errors_are_the_targets(tree: Mounted, name: str, code: int) -> None:
    with pytest.raises(OSError) as caught:
        await tree.call("stat", f"/data/{name}")
    assert caught.value.errno == code


async def test_every_field_of_stat(tree: Mounted) -> None:
    os.utime(tree.folder / "data/file", ns=(1_234_567_890_123_456_789, 1_111_111_111_987_654_321))
    os.chown(tree.folder / "data/file", 1234, 4321)
    os.chmod(tree.folder / "data/file", 0o4751)
    for name in ("file", "fifo", "absolute", "sub"):
        expected = os.lstat(tree.folder / "data" / name)
        found = await tree.stat(f"/data/{name}", follow=False)
        for (
            field
        ) in "st_mode st_uid st_gid st_size st_mtime_ns st_ctime_ns st_ino st_nlink st_blocks".split():
            assert getattr(found, field) == getattr(expected, field), (name, field)


async def test_readlink_tells_the_true_target(tree: Mounted) -> None:
    assert await tree.call("readlink", "/data/absolute2") == Text("fs.mode read", value=b"/data/absolute")
    assert (await tree.call("readlink", "/data/file")).code == errno.EINVAL


async def test_verdicts_beside_the_target(tree: Mounted) -> None:
    assert isinstance(await tree.call("open", "/here/x"), Untouched)
    nowhere = await tree.call("open", "/nowhere/x")
    assert isinstance(nowhere, Errno) and nowhere.code == errno.ENOENT
    assert (await tree.call("open", "/data/file")).scope is Scope.CALL
    assert isinstance(await tree.call("open", "/data/file", write=True), Untouched)
    again = await tree.call("open", "/data/file")  # what was to be changed here may be there by now
    assert isinstance(again, OtherPath) and again.scope is Scope.ONCE


# Round trips ------------------------------------------------------------------------------------


async def test_open_read_close_of_a_small_file_is_one_round_trip(tree: Mounted) -> None:
    (tree.folder / "data/sub/small").write_bytes(os.urandom(64 << 10))
    assert len(await tree.read("/data/sub/small")) == 64 << 10
    assert tree.asked() == 1


async def test_cat_and_pythons_open_are_one_round_trip(tree: Mounted) -> None:
    fd = await tree.open("/data/sub/deep/file")

    def cat() -> bytes:
        os.fstat(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        os.lseek(fd, 0, os.SEEK_CUR)
        with open(fd, "rb") as file:
            return file.read()

    assert await tree.away(cat) == b"deep\n"
    assert tree.asked() == 1


async def test_again_is_no_round_trip(tree: Mounted) -> None:
    await tree.read("/data/absolute2")
    await tree.stat("/data/sub/deep")
    with pytest.raises(FileNotFoundError):
        await tree.stat("/data/sub/none")
    tree.asked()
    for _ in range(3):
        await tree.read("/data/absolute2")
        await tree.read("/data/file")
        await tree.stat("/data/sub/deep")
        with pytest.raises(FileNotFoundError):
            await tree.stat("/data/sub/none")
    assert tree.asked() == 0


async def test_a_long_listing_is_one_or_two_round_trips(tree: Mounted) -> None:
    for number in range(1000):
        (tree.folder / f"data/sub/{number:04}").write_bytes(b"x" * number)
    found = await tree.list("/data/sub")
    assert 1 <= tree.asked() <= 2
    assert [name for name, _ in found] == sorted(os.listdir(tree.folder / "data/sub"))
    assert all(st.st_size == int(name) for name, st in found if name.isdigit())
    await tree.list("/data/sub")
    assert tree.asked() == 0


async def test_a_cold_stat_is_one_round_trip(tree: Mounted) -> None:
    await tree.stat("/data/sub/deep/file")
    assert tree.asked() == 1


# Changes ----------------------------------------------------------------------------------------


async def settled(look: Callable[[], Any], wanted: Any) -> None:
    """The push of a change has its own way: look until it is there, bounded."""
    for _ in range(500):
        if (found := await look()) == wanted:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"still {found!r}, not {wanted!r}")


async def size(tree: Mounted, path: str) -> int:
    try:
        return (await tree.stat(path)).st_size
    except FileNotFoundError:
        return -1


def append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)


CHANGES: dict[str, tuple[Callable[[Path], Any], str, bytes | None]] = {
    "written": (lambda data: (data / "file").write_bytes(b"changed\n"), "file", b"changed\n"),
    "replaced": (lambda data: ((data / "n").write_bytes(b"new\n"), os.rename(data / "n", data / "file")), "file", b"new\n"),
    "appended": (lambda data: append(data / "file", b"more\n"), "file", b"hello\nmore\n"),
    "deleted": (lambda data: (data / "file").unlink(), "file", None),
    "made": (lambda data: (data / "sub/late").write_bytes(b"late\n"), "sub/late", b"late\n"),
    "behind a link": (lambda data: (data / "file").write_bytes(b"linked\n"), "absolute2", b"linked\n"),
    "link moved": (
        lambda data: ((data / "absolute").unlink(), (data / "absolute").symlink_to("/data/sub/deep/file")),
        "absolute2",
        b"deep\n",
    ),
    "folder moved": (lambda data: os.rename(data / "sub/deep", data / "sub/gone"), "sub/deep/file", None),
    "file to folder": (
        lambda data: ((data / "sub/deep/file").unlink(), (data / "sub/deep/file").mkdir(),
                      (data / "sub/deep/file/in").write_bytes(b"in\n")),
        "sub/deep/file/in",
        b"in\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", list(CHANGES))
async def test_a_change_is_pushed(tree: Mounted, what: str) -> None:
    change, name, wanted = CHANGES[what]

    async def content() -> bytes | None:
        try:
            return await tree.read(f"/data/{name}")
        except (FileNotFoundError, NotADirectoryError):
            return None

    for _ in range(2):
        await content()
        await tree.list("/data/sub")
    await asyncio.to_thread(change, tree.folder / "data")
    await settled(content, wanted)


async def test_attributes_and_listings_follow(tree: Mounted) -> None:
    await tree.list("/data/sub")
    await tree.stat("/data/file")
    os.chmod(tree.folder / "data/file", 0o600)
    (tree.folder / "data/sub/new").write_bytes(b"")

    async def mode() -> int:
        return stat.S_IMODE((await tree.stat("/data/file")).st_mode)

    async def names() -> list[str]:
        return [name for name, _ in await tree.list("/data/sub")]

    await settled(mode, 0o600)
    await settled(names, ["deep", "new", "up"])


async def test_a_growing_file_is_seen_growing_by_who_has_it_open(tree: Mounted) -> None:
    fd = await tree.open("/data/file")
    seen = await tree.away(everything, fd)
    for word in (b"one\n", b"two\n", b"three\n" * 20_000):
        append(tree.folder / "data/file", word)
        wanted = seen + word

        async def more() -> bytes:
            nonlocal seen
            seen += await tree.away(everything, fd)
            return seen

        await settled(more, wanted)
    await tree.away(os.close, fd)


async def test_an_open_file_outlives_its_name(tree: Mounted) -> None:
    (tree.folder / "data/large").write_bytes(content := os.urandom(3 << 20))
    fd = await tree.open("/data/large")
    (tree.folder / "data/large").unlink()
    await settled(lambda: size(tree, "/data/large"), -1)
    assert await tree.away(everything, fd) == content
    await tree.away(os.close, fd)


# Sizes ------------------------------------------------------------------------------------------


async def test_a_large_file_in_every_way(tree: Mounted) -> None:
    content = os.urandom((20 << 20) + 12345)
    (tree.folder / "data/large").write_bytes(content)
    assert await tree.read("/data/large") == content
    fd = await tree.open("/data/large")

    def ways() -> list[bytes]:
        with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as view:
            mapped = hashlib.sha256(view).digest()
        spots = b"".join(os.pread(fd, 1000, at) for at in range(len(content) - 500, 0, -7_654_321))
        return [mapped, spots]

    mapped, spots = await tree.away(ways)
    assert mapped == hashlib.sha256(content).digest()
    assert spots == b"".join(content[at : at + 1000] for at in range(len(content) - 500, 0, -7_654_321))
    await tree.away(os.close, fd)


async def test_a_folder_of_fifty_thousand(tree: Mounted) -> None:
    folder = tree.folder / "data/many"
    folder.mkdir()
    for number in range(50_000):
        os.close(os.open(folder / f"name-{number:05}", os.O_CREAT))
    fd = await tree.open("/data/many", os.O_RDONLY | os.O_DIRECTORY)
    assert len(await tree.away(os.listdir, fd)) == 50_000
    await tree.away(os.close, fd)


async def test_writing_in_the_tree_is_refused(tree: Mounted) -> None:
    verdict = await tree.call("stat", "/data")
    for work, name in ((os.mkdir, "data/x"), (os.unlink, "data/file")):
        with pytest.raises(OSError) as caught:
            await tree.away(work, name, dir_fd=verdict.root)
        assert caught.value.errno == errno.EROFS
    assert (tree.folder / "data/file").exists()


async def test_the_end_releases_who_waits(tmp_path: Path) -> None:
    """A reader that waits for an agent that never answers gets EIO when the session ends."""
    (tmp_path / "root/data").mkdir(parents=True)
    (tmp_path / "tmp").mkdir()
    (tmp_path / "root/data/file").write_bytes(os.urandom(1 << 20))
    async with mounted(tmp_path / "root", tmp_path / "tmp") as tree:
        fd = await tree.open("/data/file")
        never: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        assert tree.layer._tree is not None
        asked = asyncio.Event()

        async def silent(*_: Any) -> bytes:
            asked.set()
            return await never

        tree.layer._tree._reader.fetch = silent
        reader = asyncio.create_task(tree.away(os.pread, fd, 4096, 500_000))
        await asyncio.wait_for(asked.wait(), 10)
    with pytest.raises(OSError):
        await asyncio.wait_for(reader, 10)
    with contextlib.suppress(OSError):  # ENOTCONN: what it was open on is gone
        os.close(fd)


# News that meets an answer ----------------------------------------------------------------------


async def churn(folder: Path, done: asyncio.Event) -> None:
    """Files written, made and taken away, and a link swapped as a ConfigMap's is, in bursts."""
    number = 0
    while not done.is_set():
        for _ in range(5):
            number += 1
            append(folder / "file", b"x")
            (folder / f"sub/{number % 7}").write_bytes(b"y" * (number % 100))
            with contextlib.suppress(FileNotFoundError):
                (folder / f"sub/{(number + 3) % 7}").unlink()
            (folder / "next").symlink_to("one" if number % 2 else "sub")
            os.rename(folder / "next", folder / "link")
        await asyncio.sleep(0.001)  # the loop is the halves' too


async def test_news_in_the_middle_of_a_question_is_no_error(tree: Mounted) -> None:
    """A name is there or it is not: no other error ever comes, whatever changes meanwhile."""
    data, done = tree.folder / "data", asyncio.Event()
    (data / "link").symlink_to("sub")
    (data / "one").mkdir()
    seen: Counter[str] = Counter()
    fd = await tree.open("/data/sub", os.O_RDONLY | os.O_DIRECTORY)

    def by_descriptor() -> None:
        os.fstat(fd)
        os.listdir(fd)

    async def look(what: str, work: Callable[[], Any]) -> None:
        try:
            await work()
            seen[f"{what} ok"] += 1
        except OSError as error:
            seen[f"{what} {errno.errorcode[error.errno or 0]}"] += 1

    writer = asyncio.create_task(churn(data, done))
    for number in range(60):
        await look("stat", lambda: tree.stat("/data/file"))
        await look("lstat", lambda: tree.stat("/data/link", follow=False))
        await look("readlink", lambda: tree.call("readlink", "/data/link"))
        await look("listed", lambda: tree.list("/data/sub"))
        await look("descriptor", lambda: tree.away(by_descriptor))
        await look("gone", lambda n=number: tree.stat(f"/data/sub/{n % 7}"))
        await look("through", lambda: tree.read("/data/link/../file"))
    done.set()
    await writer
    await tree.away(os.close, fd)
    allowed = {"listed ENOENT", "gone ENOENT"}  # a name that was listed may be gone when it is looked at
    assert {name for name in seen if not name.endswith(" ok")} <= allowed, seen
    assert seen["lstat ok"] == seen["readlink ok"] == seen["descriptor ok"] == 60


async def test_a_slow_question_does_not_hold_up_other_news(tree: Mounted) -> None:
    """The kernel takes a notice about a folder only when nobody looks a name up in it."""
    await tree.stat("/data/file")
    verdict = await tree.stat("/data/sub/deep") and await tree.call("stat", "/data/sub")
    questions = tree.layer._tree.questions  # type: ignore[union-attr]
    never, asked, fetch = asyncio.get_running_loop().create_future(), asyncio.Event(), questions.fetch

    def slow(path: bytes, *more: Any) -> Any:
        if path != b"/data/sub/slow":
            return fetch(path, *more)
        asked.set()
        return never

    questions.fetch = slow  # type: ignore[method-assign]
    waiting = asyncio.create_task(tree.away(os.stat, "data/sub/slow", dir_fd=verdict.root))
    await asyncio.wait_for(asked.wait(), 10)
    (tree.folder / "data/sub/new").write_bytes(b"")  # a notice for a name in that folder waits
    append(tree.folder / "data/file", b"more\n")
    await settled(lambda: size(tree, "/data/file"), 11)
    never.set_exception(FileNotFoundError(errno.ENOENT, "slow"))
    with pytest.raises(FileNotFoundError):
        await waiting


async def test_an_open_folder_that_is_rewound_shows_what_is_there_now(tree: Mounted) -> None:
    fd = await tree.open("/data/sub", os.O_RDONLY | os.O_DIRECTORY)
    assert sorted(await tree.away(os.listdir, fd)) == ["deep", "up"]
    (tree.folder / "data/sub/new").write_bytes(b"")

    async def names() -> list[str]:
        return sorted(await tree.away(os.listdir, fd))

    await settled(names, ["deep", "new", "up"])
    await tree.away(os.close, fd)


async def test_a_bug_while_answering_is_eio_and_said(tree: Mounted, caplog: pytest.LogCaptureFixture) -> None:
    verdict = await tree.call("stat", "/data/file")
    node = tree.layer._tree.cache.by_path[b"/data/file"]  # type: ignore[union-attr]
    node.attr = node.attr._replace(size=-1)  # what no peer can send, and no struct can hold
    with pytest.raises(OSError) as caught:
        await tree.away(os.stat, verdict.path, dir_fd=verdict.root)
    assert caught.value.errno == errno.EIO
    assert "the tree failed" in caplog.text


async def test_access_says_what_an_open_would(tree: Mounted) -> None:
    tree.layer._tree._readers = Identity(uid=1000, groups=frozenset({1000}), overrides=False)  # type: ignore[union-attr]
    (tree.folder / "data/secret").write_bytes(b"")
    os.chmod(tree.folder / "data/secret", 0o600)
    for name, mode, wanted in (
        ("secret", os.R_OK, False),
        ("secret", os.F_OK, True),
        ("file", os.R_OK, True),
        ("file", os.X_OK, False),
        ("sub", os.R_OK | os.X_OK, True),
    ):
        verdict = await tree.call("access", f"/data/{name}")
        assert await tree.away(os.access, verdict.path, mode, dir_fd=verdict.root) is wanted, (name, mode)


async def test_a_request_that_is_taken_back_at_once_is_answered(tree: Mounted) -> None:
    """Cancelled before its task took a first step: it would never be answered, nor its asker able to die."""
    verdict = await tree.call("stat", "/data/sub")
    made = tree.layer._tree
    assert made is not None and isinstance(verdict, OtherPath)
    device = made._device
    serve = device.serve

    def at_once(request: Any) -> None:
        serve(request)
        for task in device._tasks.values():
            task.cancel()

    device.serve = at_once  # type: ignore[method-assign]
    with pytest.raises(InterruptedError):
        await tree.away(os.stat, "data/sub/unknown", dir_fd=verdict.root)
