"""What programs write, on its way: pieces, their order, bounds, and who is told of an error."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import Any

import pytest

from pymirror.features.fs import messages as m
from pymirror.features.fs import written as module
from pymirror.features.fs.attr import Attr
from pymirror.features.fs.cache import Node
from pymirror.features.fs.questions import Questions
from pymirror.features.fs.written import File, Writes

ATTR = Attr(0o100644, 0, 0, 1, 1, 1, 0, 0, 4096, 0, 0, 0, 0)


class Peer:
    """Keeps what is asked until it is answered by hand."""

    def __init__(self) -> None:
        self.asked: list[tuple[m.Write, asyncio.Future[Any]]] = []

    def request(self, message: Any, timeout: float | None = None) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.asked.append((message, future))
        return future

    def send(self, message: Any) -> None: ...

    def answer(self, number: int = 0, failed: int = 0) -> None:
        _, future = self.asked.pop(number)
        if failed:
            future.set_exception(OSError(failed, os.strerror(failed)))
        else:
            future.set_result(m.Refreshed(ATTR.pack(), 1))

    def ranges(self) -> list[tuple[int, int]]:
        return [(asked.offset, asked.offset + len(asked.data)) for asked, _ in self.asked]


@pytest.fixture
async def peer() -> Peer:
    return Peer()


@pytest.fixture
async def writes(peer: Peer) -> Writes:
    return Writes(Questions(peer, 1, 10.0))  # type: ignore[arg-type]


@pytest.fixture
async def file(writes: Writes) -> File:
    return writes.open(Node(7, b"/f"), 3, lasting=True, synced=False)


async def turns() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


async def test_what_follows_is_one_piece_which_leaves_when_it_is_old(
    peer: Peer, writes: Writes, file: File
) -> None:
    for at in range(0, 30, 10):
        assert writes.put(file, at, b"x" * 10, False)
    assert not peer.asked and writes.pending(file.node)
    await asyncio.sleep(module.AGE * 5)
    assert peer.ranges() == [(0, 30)]
    peer.answer()
    await turns()
    assert not writes.pending(file.node)


async def test_a_full_piece_leaves_at_once(peer: Peer, writes: Writes, file: File) -> None:
    assert writes.put(file, 0, b"x" * m.MOST_WRITE, False)
    assert peer.ranges() == [(0, m.MOST_WRITE)]


async def test_what_does_not_follow_is_another_piece(peer: Peer, writes: Writes, file: File) -> None:
    assert writes.put(file, 0, b"a", False) and writes.put(file, 9, b"b", False)
    settling = asyncio.ensure_future(writes.settle(file))
    await turns()
    assert peer.ranges() == [(0, 1), (9, 10)]
    peer.answer(1)
    await turns()
    assert not settling.done()
    peer.answer()
    await asyncio.wait_for(settling, 10)


@pytest.mark.parametrize(("offset", "append"), [(0, False), (1, False), (5, True)])
async def test_what_overlaps_and_what_is_appended_waits_for_what_is_under_way(
    peer: Peer, writes: Writes, file: File, offset: int, append: bool
) -> None:
    assert writes.put(file, 0, b"ab", append)
    settling = asyncio.ensure_future(writes.settle(file))
    await turns()
    assert writes.put(file, offset, b"cd", append)
    again = asyncio.ensure_future(writes.settle(file))
    await asyncio.sleep(module.AGE * 5)
    assert len(peer.asked) == 1
    peer.answer()
    await asyncio.wait_for(settling, 10)
    await asyncio.sleep(module.AGE * 5)
    peer.answer()
    await asyncio.wait_for(again, 10)


async def test_what_is_on_its_way_is_bounded(
    peer: Peer, writes: Writes, file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_OF_FILE", 100)
    assert writes.put(file, 0, b"x" * 100, False)
    assert not writes.put(file, 100, b"y", False)
    room = writes.progress(file)
    await turns()
    assert peer.ranges() == [(0, 100)] and not room.done()
    peer.answer()
    await asyncio.wait_for(room, 10)
    assert writes.put(file, 100, b"y", False)


async def test_one_write_of_any_size_has_room_when_nothing_is_under_way(
    writes: Writes, file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_OF_FILE", 10)
    monkeypatch.setattr(module, "MOST", 10)
    assert writes.put(file, 0, b"x" * 50, False)


async def test_an_error_is_told_once_and_the_first_one_wins(peer: Peer, writes: Writes, file: File) -> None:
    writes.put(file, 0, b"a", False)
    writes.put(file, 9, b"b", False)
    settling = asyncio.ensure_future(writes.settle(file))
    await turns()
    peer.answer(failed=errno.ENOSPC)
    await turns()
    peer.answer(failed=errno.EIO)
    await asyncio.wait_for(settling, 10)
    with pytest.raises(OSError) as caught:
        writes.raised(file)
    assert caught.value.errno == errno.ENOSPC
    writes.raised(file)


async def test_a_busy_writer_does_not_keep_who_waits_for_what_was_before(
    peer: Peer, writes: Writes, file: File
) -> None:
    writes.put(file, 0, b"a", False)
    settling = asyncio.ensure_future(writes.settle(file))
    await turns()
    writes.put(file, 100, b"later", False)
    peer.answer()
    await asyncio.wait_for(settling, 10)
    assert file.size == len(b"later")


@pytest.fixture
async def second(writes: Writes, file: File) -> File:
    """The same file by another descriptor."""
    return writes.open(file.node, 4, lasting=True, synced=False)


@pytest.mark.parametrize(
    ("offset", "append", "waits"), [(0, False, True), (5, True, True), (5, False, False)]
)
async def test_what_was_written_first_is_there_first_by_whichever_descriptor(
    peer: Peer, writes: Writes, file: File, second: File, offset: int, append: bool, waits: bool
) -> None:
    assert writes.put(file, 0, b"first", append)
    assert writes.put(second, offset, b"second", append) is not waits
    assert [asked.data for asked, _ in peer.asked] == [b"first"]
    if waits:
        room = writes.progress(second)
        peer.answer()
        await asyncio.wait_for(room, 10)
        assert writes.put(second, offset, b"second", append)
    settling = asyncio.ensure_future(writes.settle(second))
    await turns()
    assert peer.asked[-1][0].data == b"second" and peer.asked[-1][0].handle == 4
    while peer.asked:
        peer.answer()
    await asyncio.wait_for(settling, 10)


async def test_an_error_is_told_to_each_descriptor_that_was_open(
    peer: Peer, writes: Writes, file: File, second: File
) -> None:
    writes.put(file, 0, b"a", False)
    settling = asyncio.ensure_future(writes.settle(file))
    await turns()
    peer.answer(failed=errno.ENOSPC)
    await asyncio.wait_for(settling, 10)
    late = writes.open(file.node, 5, lasting=True, synced=False)
    for told in (second, file, late):
        with pytest.raises(OSError, match="space"):
            writes.raised(told)
        writes.raised(told)
    writes.raised(writes.open(file.node, 6, lasting=True, synced=False))  # somebody knows by now


async def test_what_nobody_was_told_of_is_in_the_log(
    peer: Peer, writes: Writes, file: File, caplog: pytest.LogCaptureFixture
) -> None:
    writes.put(file, 0, b"a", False)
    settling = asyncio.ensure_future(writes.settle(file))
    await turns()
    peer.answer(failed=errno.EDQUOT)
    await asyncio.wait_for(settling, 10)
    writes.closed(file)
    assert "/f: not all that was written arrived: Disk quota exceeded" in caplog.text
