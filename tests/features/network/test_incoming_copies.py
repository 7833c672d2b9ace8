"""One copy on its way to the program: bytes, ends and resets, who reads too slowly, and who has read enough."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from pymirror.core.errors import ChannelLost
from pymirror.features.network.incoming import copies
from pymirror.features.network.incoming.copies import Copy, Filter, Waiting

pytestmark = pytest.mark.asyncio


class Program:
    """The stream of a copy, as a program uses it. room: bytes it takes."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.got, self.ended, self.closed, self.left = b"", False, False, room
        self.answers: list[bytes] = []
        self.broken: Exception | None = None
        self.opened = 0

    def open(self) -> Program:
        self.opened += 1
        return self

    def attach(self, came: Callable[[], object], room: Callable[[], object]) -> None:
        self.came, self.more = came, room

    def room(self) -> int:
        return self.left

    def write_now(self, data: bytes | memoryview) -> int:
        if self.broken is not None:
            raise self.broken
        taken = bytes(data[: self.left])
        self.got += taken
        self.left -= len(taken)
        return len(taken)

    def read_now(self, size: int = 65536) -> bytes:
        if self.answers:
            return self.answers.pop(0)
        if self.broken is not None:
            raise self.broken
        raise BlockingIOError

    def end(self) -> None:
        assert not self.ended
        self.ended = True

    def close(self) -> None:
        self.closed = True

    def answer(self, *data: bytes) -> None:
        self.answers += data
        self.came()

    def reads(self, room: int) -> None:
        self.left += room
        self.more()


class Case:
    def __init__(self, program: Program | None, chosen: Filter | None = None) -> None:
        self.said: list[str] = []
        self.waiting = Waiting()
        self.over = asyncio.Event()
        begin = program.open if program is not None else lambda: None
        self.copy = Copy(begin, chosen, self.waiting, self._over, self._answered)  # type: ignore[arg-type]
        self.copy.open()

    def _over(self, copy: Copy) -> None:
        self.said.append("over")
        self.over.set()

    def _answered(self, copy: Copy) -> None:
        self.said.append("answered")


async def test_bytes_and_the_end_arrive_and_the_answer_is_dropped() -> None:
    program = Program()
    case = Case(program)
    case.copy.take(b"ab")
    case.copy.take(b"cd")
    case.copy.end()
    program.answer(b"half")
    assert (program.got, program.ended, case.said) == (b"abcd", True, [])
    program.answer(b"the rest", b"")
    assert case.said == ["over"] and program.closed


async def test_what_finds_no_room_waits_and_so_does_the_end() -> None:
    program = Program(room=3)
    case = Case(program)
    case.copy.take(b"abcd")
    case.copy.take(b"efgh")
    case.copy.end()
    assert (program.got, case.copy.unsent, case.waiting.size, program.ended) == (b"abc", 5, 5, False)
    program.reads(2)
    assert (program.got, case.copy.unsent, program.ended) == (b"abcde", 3, False)
    program.reads(9)
    assert (program.got, case.waiting.size, program.ended) == (b"abcdefgh", 0, True)
    case.copy.reset()


async def test_a_reset_lets_go_of_what_waits_and_says_nothing() -> None:
    program = Program(room=1)
    case = Case(program)
    case.copy.take(b"abc")
    case.copy.reset()
    case.copy.take(b"def")
    case.copy.end()
    assert (program.got, program.ended, program.closed, case.waiting.size, case.said) == (
        b"a",
        False,
        True,
        0,
        [],
    )


async def test_a_program_that_has_ended_may_still_read() -> None:
    program = Program()
    case = Case(program)
    program.answer(b"go on", b"")
    program.answer(b"")
    case.copy.take(b"abc")
    assert case.said == ["answered"] and program.got == b"abc"
    case.copy.end()
    assert case.said == ["answered", "over"] and program.ended


@pytest.mark.parametrize("error", [ConnectionResetError(), ChannelLost("gone")])
async def test_a_program_that_resets_ends_it(error: Exception) -> None:
    reading, writing = Program(), Program()
    case, other = Case(reading), Case(writing)
    reading.broken = writing.broken = error
    reading.came()
    other.copy.take(b"abc")
    other.copy.take(b"abc")
    assert case.said == other.said == ["over"] and other.waiting.size == 0


async def test_a_program_that_does_not_end_is_left_after_its_last_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(copies, "LINGER", 0.05)
    program = Program()
    case = Case(program)
    case.copy.end()
    program.answer(b"half")
    await asyncio.wait_for(case.over.wait(), 20)
    assert program.closed and case.said == ["over"]


async def test_what_is_filtered_begins_with_what_goes_on() -> None:
    program = Program()
    case = Case(program, lambda data: data.upper() if data != b"no" else b"")
    case.copy.take(b"no")
    assert program.opened == 0
    case.copy.take(b"yes")
    case.copy.take(b"no")
    case.copy.end()
    assert (program.opened, program.got, program.ended) == (1, b"YES", True)
    case.copy.reset()
    nothing = Case(Program(), lambda data: b"")
    nothing.copy.take(b"no")
    nothing.copy.end()
    assert nothing.said == ["over"]


async def test_a_channel_that_takes_no_more_connections_ends_it() -> None:
    case = Case(None)
    case.copy.take(b"abc")
    assert case.said == ["over"] and case.waiting.size == 0
