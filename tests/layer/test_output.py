"""Standard output without waiting: what is held, who is told, and what becomes of it at the end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from pymirror.core.limit import timeout
from pymirror.layer import output
from pymirror.layer.output import Output

WITHIN = 20


@pytest.fixture(name="pipe")
def pipe_fixture() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    os.close(write)


def nobody(error: OSError) -> None:
    raise AssertionError(error)


async def test_all_is_written_in_order_and_at_the_end(pipe: tuple[int, int]) -> None:
    out = Output(pipe[1], nobody)
    for number in range(100):
        out.write(b"%02d" % number)
    await asyncio.to_thread(out.finish)
    assert os.read(pipe[0], 4096) == b"".join(b"%02d" % number for number in range(100))
    out.write(b"too late")
    os.close(pipe[0])


@pytest.mark.parametrize("blocking", [True, False])
async def test_a_reader_that_waits_fills_it_and_is_waited_for(
    pipe: tuple[int, int], blocking: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "ROOM", 1 << 18)
    os.set_blocking(pipe[1], blocking)
    out, freed = Output(pipe[1], nobody), asyncio.Event()
    out.freed = freed.set
    pieces = 0
    while not out.full:
        out.write(b"x" * 65536)
        pieces += 1
    assert pieces <= 8 and not freed.is_set()
    got = len(os.read(pipe[0], 1 << 20))
    while not freed.is_set():
        got += len(await asyncio.to_thread(os.read, pipe[0], 65536))
    assert not out.full
    finishing = asyncio.ensure_future(asyncio.to_thread(out.finish))
    while got < pieces * 65536:
        got += len(await asyncio.to_thread(os.read, pipe[0], 65536))
    await finishing
    os.close(pipe[0])


async def test_a_reader_that_is_gone_is_told_once(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    failed: asyncio.Future[OSError] = asyncio.get_running_loop().create_future()
    out = Output(pipe[1], failed.set_result)
    out.write(b"x")
    async with timeout(WITHIN):
        assert isinstance(await failed, BrokenPipeError)
    out.write(b"more")
    out.finish()


async def test_who_takes_nothing_is_not_waited_for(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "SILENT", 0.05)
    out = Output(pipe[1], lambda error: None)
    out.write(b"x" * (1 << 20))
    async with timeout(WITHIN):
        await asyncio.to_thread(out.finish)
    os.close(pipe[0])
