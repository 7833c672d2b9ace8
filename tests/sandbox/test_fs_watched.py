"""Programs that watch files of the target: the events are those that a watch in the target gets."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from inotify import CHANGES, OPENED, Inotify

from pymirror.core.call import OtherPath
from pymirror.features.fs import mount, replay, standins, watched
from tests.sandbox.test_fs_tree import Mounted, mounted

pytestmark = pytest.mark.sandbox

LAST = "the last"


def lay(folder: Path) -> Path:
    (folder / "data/sub").mkdir(parents=True)
    for name in ("old", "file"):
        (folder / "data" / name).write_bytes(b"")
    return folder / "data"


@pytest.fixture
async def tree(tmp_path: Path) -> AsyncIterator[Mounted]:
    lay(tmp_path / "root")
    (tmp_path / "tmp").mkdir()
    async with mounted(tmp_path / "root", tmp_path / "tmp") as made:
        yield made


class Program:
    """Watches as the engine carries it out: the file below the verdict's root, by a descriptor."""

    def __init__(self, tree: Mounted) -> None:
        self._tree, self.inotify = tree, Inotify()

    async def watch(self, path: str, mask: int = CHANGES) -> int:
        verdict = await self._tree.call("watch", path)
        assert isinstance(verdict, OtherPath), verdict

        def add() -> int:
            fd = os.open(verdict.path, os.O_PATH, dir_fd=verdict.root)
            try:
                return self.inotify.add(f"/proc/self/fd/{fd}", mask)
            finally:
                os.close(fd)

        return await self._tree.away(add)

    async def events(self, last: str = LAST) -> list[tuple[int, str, str, int]]:
        return await self._tree.away(self.inotify.events, last)


def written(data: Path) -> None:
    (data / "new").write_bytes(b"x")
    with open(data / "old", "ab") as file:
        file.write(b"y")
    os.truncate(data / "old", 0)
    os.utime(data / "old")


def renamed(data: Path) -> None:
    (data / "a").write_bytes(b"")
    os.rename(data / "a", data / "b")
    os.rename(data / "b", data.parent / "outside")
    os.rename(data.parent / "outside", data / "back")
    os.rename(data / "back", data / "sub/inner")
    os.rename(data / "sub/inner", data / "old")


def removed(data: Path) -> None:
    os.unlink(data / "old")
    (data / "old").write_bytes(b"")
    os.mkdir(data / "made")
    os.mkfifo(data / "fifo")
    os.symlink("nowhere", data / "link")
    os.link(data / "file", data / "linked")
    os.rmdir(data / "made")
    os.unlink(data / "link")


def modes(data: Path) -> None:
    os.chmod(data / "old", 0o600)
    os.chmod(data / "sub", 0o700)
    os.chown(data, 7, 7)
    os.mkdir(data / "made", 0o700)
    os.chmod(data / "made", 0o755)


def rotated(data: Path) -> None:
    with open(data / "file", "ab", buffering=0) as file:
        file.write(b"1")
        os.rename(data / "file", data / "file.1")
        (data / "file").write_bytes(b"2")
        file.write(b"3")
    os.unlink(data / "file.1")


def odd(data: Path) -> None:
    for name in ("\udcff\udcfe", "a" * 255, " ", "-", "17", "out"):
        (data / name).write_bytes(b"x")
        os.rename(data / name, data / ("z" + name)[:255])


@pytest.mark.parametrize("changes", [written, renamed, removed, modes, rotated, odd])
async def test_the_events_are_the_kernels(
    tree: Mounted, tmp_path: Path, changes: Callable[[Path], None]
) -> None:
    own, kernel, program = lay(tmp_path / "own"), Inotify(), Program(tree)
    for name in ("", "sub", "file", "old"):
        assert await program.watch(f"/data/{name}") == kernel.add(own / name)
    for data in (tree.folder / "data", own):
        await tree.away(changes, data)
        (data / LAST).touch()
    assert await program.events() == kernel.events(LAST)
    program.inotify.close()
    kernel.close()


async def test_what_is_removed_is_not_watched_any_more(tree: Mounted) -> None:
    """A folder's own end is told when nobody holds it open, which the agent may."""
    program = Program(tree)
    watch = await program.watch("/data/sub")
    await program.watch("/data")
    (tree.folder / "data/sub").rmdir()
    (tree.folder / "data" / LAST).touch()
    events = await program.events()
    if watch not in [event[0] for event in events]:
        (tree.folder / "data" / "later").touch()
        events += await program.events("later")
    assert [event[1] for event in events if event[0] == watch] == ["DELETE_SELF", "IGNORED"]
    (tree.folder / "data/sub").mkdir()
    assert await program.watch("/data/sub") not in (watch, 2)
    program.inotify.close()


async def test_who_hears_of_a_change_finds_it(tree: Mounted) -> None:
    program = Program(tree)
    await program.watch("/data")
    for turn in range(20):
        text = b"x" * turn
        assert await tree.read("/data/old") == text
        (tree.folder / "data/old").write_bytes(text + b"x")
        (tree.folder / "data" / f"{turn}").touch()
        await program.events(f"{turn}")
        assert (await tree.stat("/data/old")).st_size == turn + 1
        assert (await tree.stat(f"/data/{turn}")).st_size == 0
    program.inotify.close()


async def test_a_closed_file_that_was_written_is_opened_for_it_here(tree: Mounted) -> None:
    """Who opens and reads there is not told."""
    program = Program(tree)
    await program.watch("/data", CHANGES | OPENED)
    (tree.folder / "data/old").write_bytes(b"x")
    (tree.folder / "data/old").read_bytes()
    (tree.folder / "data" / LAST).touch()
    words = [event[1] for event in await program.events()]
    assert words == ["MODIFY", "OPEN", "CLOSE_WRITE"]
    program.inotify.close()


async def test_links_lead_to_the_same_watch(tree: Mounted) -> None:
    (tree.folder / "data/link").symlink_to("/data/file")
    os.link(tree.folder / "data/file", tree.folder / "data/hard")
    program = Program(tree)
    watch = await program.watch("/data/file")
    assert await program.watch("/data/link") == await program.watch("/data/hard") == watch
    program.inotify.close()


async def test_what_is_not_there_is_the_targets_errno(tree: Mounted) -> None:
    for path, code in (("/data/none", errno.ENOENT), ("/data/file/x", errno.ENOTDIR)):
        with pytest.raises(OSError) as caught:
            await tree.call("watch", path)
        assert caught.value.errno == code


async def test_what_nobody_watches_any_more_is_given_back(
    tree: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standins, "GRACE", 0.05)
    told: asyncio.Queue[list[int]] = asyncio.Queue()
    remove = watched.Watched.remove

    def removes(self: watched.Watched, numbers: list[int]) -> None:
        remove(self, numbers)
        told.put_nowait(numbers)

    monkeypatch.setattr(watched.Watched, "remove", removes)
    program = Program(tree)
    watches = [await program.watch(path) for path in ("/data", "/data/file")]
    await asyncio.sleep(0.2)
    assert told.empty()
    program.inotify.remove(watches[1])
    assert await asyncio.wait_for(told.get(), 10) == [2]
    (tree.folder / "data" / LAST).touch()
    assert await program.events() == [(watches[1], "IGNORED", "", 0)]
    program.inotify.close()
    assert await asyncio.wait_for(told.get(), 10) == [1]


async def test_watches_are_bounded(tree: Mounted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standins, "MOST", 2)
    program = Program(tree)
    await program.watch("/data")
    await program.watch("/data/sub")
    with pytest.raises(OSError) as caught:
        await tree.call("watch", "/data/file")
    assert caught.value.errno == errno.ENOSPC
    program.inotify.close()


async def test_a_thousand_changes_at_once(tree: Mounted) -> None:
    program = Program(tree)
    await program.watch("/data")
    for number in range(1000):
        os.mkdir(tree.folder / "data" / f"{number}")
    (tree.folder / "data" / LAST).touch()
    assert [event[2] for event in await program.events()] == [f"{number}" for number in range(1000)]
    program.inotify.close()


async def test_by_fusermount3(tree: Mounted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mount, "_may_mount", lambda: False)
    program = Program(tree)
    await program.watch("/data")
    (tree.folder / "data/made").mkdir()
    (tree.folder / "data" / LAST).touch()
    assert [event[1] for event in await program.events()] == ["CREATE/"]
    program.inotify.close()


async def test_the_second_half_of_a_rename_is_waited_for(tree: Mounted) -> None:
    """Both queues of the agent are read as they come: here the halves come apart."""
    told: list[list[int]] = []
    there = watched.Watched(lambda events, lost: told.append([event.mask for event in events]))
    event = replay.Event
    there._take([event(1, replay.IN_MODIFY, 0, b"x"), event(1, replay.IN_MOVED_FROM, 9, b"x")], False)
    assert told == [[replay.IN_MODIFY]]
    there._take([event(1, replay.IN_MOVED_TO, 9, b"y")], False)
    assert told[1:] == [[replay.IN_MOVED_FROM, replay.IN_MOVED_TO]]
    there._take([event(1, replay.IN_MOVED_FROM, 10, b"x")], False)
    await asyncio.sleep(5 * watched.PAIR)
    assert told[2:] == [[replay.IN_MOVED_FROM]]
    there.close()
