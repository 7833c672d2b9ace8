"""The watcher: what it tells, what it lets go, and what it takes from the kernel: on real folders."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from pymirror.features.fs.attr import Attr
from pymirror.features.fs.watch import TMPFS, Watcher

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


def put(watcher: Watcher, path: Path, name: Path | None = None) -> bool:
    fd = os.open(path, os.O_PATH)
    try:
        return watcher.watch(fd, os.fsencode(name or path), Attr.of(os.fstat(fd)))
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
        for since in (watcher.turns - 1, watcher.turns):  # a walk begun before names changed, and one after
            watcher.keep_folder(path, os.open(path, os.O_PATH), since)
            held.append(watcher.folder(path))
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


def kernels(watcher: Watcher) -> int:
    """How many watches the kernel has for it."""
    text = Path(f"/proc/self/fdinfo/{watcher._fd}").read_text(encoding="ascii")
    return sum(line.startswith("inotify") for line in text.splitlines())


async def test_a_name_that_another_file_gets_leaves_no_watch(tmp_path: Path) -> None:
    watcher = Watcher(lambda *_: None, most=4)
    for number in range(20):
        (tmp_path / str(number)).mkdir()
        assert put(watcher, tmp_path / str(number), tmp_path / "name")
    assert kernels(watcher) == 1
    watcher.close()


async def test_a_watch_that_tells_of_two_names_stays_for_the_other(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"")
    os.link(tmp_path / "one", tmp_path / "two")
    (tmp_path / "three").write_bytes(b"")

    def work(watcher: Watcher) -> None:
        assert put(watcher, tmp_path / "one") and put(watcher, tmp_path / "two")
        assert put(watcher, tmp_path / "three", tmp_path / "one")
        assert kernels(watcher) == 2
        os.chmod(tmp_path / "two", 0o600)

    news = await told(Watcher, work)
    assert news == ([os.fsencode(tmp_path / "two")], [], False)


async def test_files_go_before_folders_and_only_their_content_is_told(tmp_path: Path) -> None:
    for name in ("folder", "inner"):
        (tmp_path / name).mkdir()
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"")

    def work(watcher: Watcher) -> None:
        for name in ("folder", "a", "b", "inner"):
            assert put(watcher, tmp_path / name)

    news = await told(lambda changed: Watcher(changed, most=3), work)
    assert news == ([os.fsencode(tmp_path / "a")], [], False)


async def test_a_folder_that_is_not_kept_is_closed(tmp_path: Path) -> None:
    watcher = Watcher(lambda *_: None)
    path, before = os.fsencode(tmp_path), os.listdir("/proc/self/fd")
    watcher.keep_folder(path, os.open(path, os.O_PATH), watcher.turns)  # not watched
    put(watcher, tmp_path)
    watcher.keep_folder(path, os.open(path, os.O_PATH), watcher.turns - 1)
    assert os.listdir("/proc/self/fd") == before
    watcher.keep_folder(path, os.open(path, os.O_PATH), watcher.turns)
    kept = watcher.folder(path)
    watcher.keep_folder(path, os.open(path, os.O_PATH), watcher.turns)
    assert watcher.folder(path) == kept
    watcher.close()


async def test_a_device_number_is_looked_at_anew_where_a_mount_is_entered(tmp_path: Path) -> None:
    """Numbers of what was unmounted are used again: here one that is known to be a tmpfs."""
    for anew in (lambda watcher, device: watcher.crossed(device), lambda watcher, _: watcher.forget_all()):
        watcher = Watcher(lambda *_: None)
        fd = os.open("/proc/self", os.O_PATH)
        device = os.fstat(fd).st_dev
        watcher._types[device] = TMPFS
        assert watcher.in_memory(fd, device)
        anew(watcher, device)
        assert not watcher.in_memory(fd, device)
        assert not put(watcher, Path("/proc/self"))
        os.close(fd)
        watcher.close()


class Told:
    """All that a watcher says, one after the other."""

    def __init__(self) -> None:
        self.news: list[Changed] = []

    def __call__(self, paths: list[bytes], below: list[bytes], lost: bool) -> None:
        self.news.append((paths, below, lost))


async def test_news_of_names_under_change_is_kept_back_but_for_content(tmp_path: Path) -> None:
    told = Told()
    watcher, folder = Watcher(told), os.fsencode(tmp_path)
    assert put(watcher, tmp_path)
    own, other = folder + b"/own", folder + b"/other"
    watcher.hold([own, folder])
    (tmp_path / "own").mkdir()
    watcher.let_go([own, folder], tell=False)
    assert told.news == []
    watcher.hold([own, folder])
    (tmp_path / "own").chmod(0o700)
    (tmp_path / "other").write_bytes(b"x")
    watcher.let_go([own, folder], tell=False)
    assert [(set(paths), set(below)) for paths, below, _ in told.news] == [({other}, {other})]
    told.news.clear()
    watcher.hold([other])
    (tmp_path / "other").write_bytes(b"by somebody else")
    watcher.let_go([other], tell=False)
    assert told.news == [([other], [], False)]
    watcher.close()


async def test_a_change_that_failed_tells_what_others_did(tmp_path: Path) -> None:
    told = Told()
    watcher, path = Watcher(told), os.fsencode(tmp_path / "x")
    assert put(watcher, tmp_path)
    watcher.hold([path])
    (tmp_path / "x").mkdir()
    watcher.let_go([path], tell=True)
    assert told.news[-1] == ([path], [path], False)
    watcher.close()


async def test_what_two_change_is_kept_back_until_each_says_so(tmp_path: Path) -> None:
    told = Told()
    watcher, path = Watcher(told), os.fsencode(tmp_path / "x")
    assert put(watcher, tmp_path)
    watcher.hold([path])
    watcher.hold([path])
    (tmp_path / "x").mkdir()
    watcher.let_go([path], tell=False)
    (tmp_path / "x").rmdir()
    watcher.let_go([path], tell=True)
    assert [below for _, below, _ in told.news if below] == [[path]]
    watcher.close()


async def test_watches_follow_a_folder_to_its_new_name(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    told = Told()
    watcher = Watcher(told)
    old, new = os.fsencode(tmp_path / "a"), os.fsencode(tmp_path / "c")
    for path in (tmp_path, tmp_path / "a", tmp_path / "a/b"):
        assert put(watcher, path)
    watcher.hold([old, new, os.fsencode(tmp_path)])
    os.rename(old, new)
    watcher.let_go([old, new, os.fsencode(tmp_path)], tell=False)
    watcher.rename(old, new, folder=True)
    (tmp_path / "c/b/x").write_bytes(b"")
    watcher.tell_now()
    assert [below for _, below, _ in told.news if below] == [[new + b"/b/x"]]
    told.news.clear()
    watcher.forget([new], folders=True)
    (tmp_path / "c/b/y").write_bytes(b"")
    watcher.tell_now()
    assert told.news == []
    watcher.close()
