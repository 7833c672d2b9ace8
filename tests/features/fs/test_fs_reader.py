"""Reading ahead: how much is asked for, and what is thrown away."""

from __future__ import annotations

import asyncio

import pytest

from pymirror.features.fs.attr import Attr
from pymirror.features.fs.cache import Node
from pymirror.features.fs.messages import MOST_READ
from pymirror.features.fs.reader import AHEAD, MOST_KEPT, Reader

SIZE = 8 * MOST_READ
STEP = MOST_READ // 4


def file(number: int) -> Node:
    attr = Attr(0o100644, 0, 0, 1, number, 1, SIZE, 0, 4096, 0, 0, 0, 0)
    return Node(number, b"/%d" % number, attr, fresh=True, watched=True)


class Source:
    """Says which bytes were asked for, and counts them."""

    def __init__(self) -> None:
        self.asked = 0

    async def fetch(self, node: Node, offset: int, size: int) -> bytes:
        self.asked += 1
        await asyncio.sleep(0)
        size = max(0, min(size, SIZE - offset))
        return offset.to_bytes(8, "little") + bytes(size - 8) if size else b""


@pytest.mark.parametrize("files", [1, 8, 12, 20, 32])
async def test_files_read_side_by_side_are_fetched_once(files: int) -> None:
    source = Source()
    reader = Reader(source.fetch)
    nodes = [file(number) for number in range(2, 2 + files)]
    for offset in range(0, SIZE, STEP):
        for node in nodes:
            part = reader.ready(node, offset, STEP) or await reader.read(node, offset, STEP)
            assert len(part) == STEP
            if offset % MOST_READ == 0:
                assert int.from_bytes(part[:8], "little") == offset
    assert source.asked == files * SIZE // MOST_READ
    assert len(reader._pieces) <= MOST_KEPT


async def test_more_files_than_pieces_are_read_without_looking_ahead() -> None:
    source = Source()
    reader = Reader(source.fetch)
    nodes = [file(number) for number in range(2, 2 + 2 * MOST_KEPT)]
    for offset in range(0, SIZE, MOST_READ):
        for node in nodes:
            assert len(await reader.read(node, offset, MOST_READ)) == MOST_READ
    assert source.asked <= len(nodes) * SIZE // MOST_READ + MOST_KEPT


async def test_a_file_in_order_is_fetched_ahead() -> None:
    source = Source()
    reader = Reader(source.fetch)
    node = file(2)
    for offset in range(0, 2 * MOST_READ, STEP):
        await reader.read(node, offset, STEP)
    await asyncio.sleep(0)
    assert source.asked > 2 and len(reader._pieces) <= AHEAD + 3
    reader.forget(node)
    assert not reader._pieces


async def test_without_reading_ahead_only_what_is_wanted_is_asked() -> None:
    source = Source()
    reader = Reader(source.fetch, ahead=0)
    for offset in range(0, 2 * MOST_READ, MOST_READ):
        await reader.read(file(2), offset, MOST_READ)
    assert source.asked == 2
