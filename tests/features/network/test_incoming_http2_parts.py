"""Frames, heads, settings and windows by themselves; and an exchange that is fed with anything."""

from __future__ import annotations

import asyncio
from typing import Any

import hpack
import pytest
from h2_memory import Memory
from hpack import NeverIndexedHeaderTuple
from http2_place import Filter
from hypothesis import given, settings
from hypothesis import strategies as st

from pymirror.features.network.incoming import http2_frames as frames
from pymirror.features.network.incoming.budget import BUDGET, LITTLE, Budget, Share
from pymirror.features.network.incoming.http2 import Exchange
from pymirror.features.network.incoming.http2_flow import Flow, append
from pymirror.features.network.incoming.http2_frames import Cutter, Wrong
from pymirror.features.network.incoming.http2_front import request
from pymirror.features.network.incoming.http2_headers import KNOWN, Head, Reader, Writer, plain
from pymirror.features.network.incoming.http2_mirror import Copy
from pymirror.features.network.incoming.http2_settings import Settings, announced
from pymirror.features.network.incoming.http2_windows import (
    BEGINS,
    MOST,
    REACH,
    Credit,
)
from pymirror.features.network.incoming.limits import Limits

KINDS = st.integers(0, 12)
FRAME = st.tuples(KINDS, st.integers(0, 255), st.integers(0, 9), st.binary(max_size=40))


@given(st.lists(FRAME, max_size=8), st.lists(st.integers(1, 30), min_size=1))
def test_frames_are_cut_from_any_pieces(sent: list[frames.Frame], sizes: list[int]) -> None:
    data = frames.PREFACE + b"".join(frames.frame(*each) for each in sent)
    cutter, found, at = Cutter(16384, frames.PREFACE), list[frames.Frame](), 0
    while at < len(data):
        size = sizes[at % len(sizes)]
        found += cutter.feed(data[at : at + size])
        at += size
    assert found == sent


def test_a_head_longer_than_a_frame_is_continued() -> None:
    found = Cutter(10).feed(frames.headers(7, True, b"x" * 25, 10))
    assert [each[:3] for each in found] == [(1, frames.END_STREAM, 7), (9, 0, 7), (9, frames.END_HEADERS, 7)]
    assert b"".join(each[3] for each in found) == b"x" * 25


NAME = st.sampled_from([b":path", b":method", b"x-one", b"x-two", b"cookie", b"authorization"])
VALUE = st.sampled_from([b"", b"/", b"GET", b"v" * 50, b"w" * 1500, b"\x00\xff"])
FIELD = st.tuples(NAME, VALUE, st.booleans())
HEADS = st.lists(st.tuples(st.lists(FIELD, max_size=6), st.sampled_from([0, 100, 1024, 4096])), max_size=40)


@given(HEADS)
def test_heads_go_through_as_they_are(sent: list[tuple[list[tuple[bytes, bytes, bool]], int]]) -> None:
    """Whatever the tables do meanwhile; each is sent twice, so that what is known is used too."""
    far, near, writer, reader = Writer(), Reader(), Writer(), hpack.Decoder()
    for fields, table in sent:
        writer.resize(table)
        marked = [
            hpack.NeverIndexedHeaderTuple(*each[:2]) if each[2] else hpack.HeaderTuple(*each[:2])
            for each in fields
        ]
        for _ in range(2):
            read = reader.decode(writer.write(near.read(far.write(Head(marked)))), raw=True)
            assert [tuple(each) for each in read] == [each[:2] for each in fields]
            assert [not each.indexable for each in read] == [each[2] for each in fields]


def test_a_head_that_came_before_is_not_decoded_again() -> None:
    far, near, writer = hpack.Encoder(), Reader(), Writer()
    heads = [near.read(far.encode([(b"x-one", b"1"), (b":method", b"GET")])) for _ in range(4)]
    assert heads[0] is not heads[1] is heads[2] is heads[3]
    assert writer.write(heads[1]) != writer.write(heads[1]) == writer.write(heads[1])


def test_what_a_filter_sees() -> None:
    fields = [
        (b":method", b"GET"),
        (b":path", b"/a?b"),
        (b":authority", b"h"),
        (b"x", b"1"),
        (b"cookie", b"c"),
    ]
    assert request(plain(fields)) == (b"GET", b"/a?b", [(b"host", b"h"), (b"x", b"1"), (b"cookie", b"c")])
    twice = plain([*fields, (b"host", b"other"), (b"cookie", b"d")])
    assert request(twice)[2] == [(b"x", b"1"), (b"host", b"other"), (b"cookie", b"c; d")]
    assert request(plain([(b":method", b"CONNECT"), (b":authority", b"h:1")]))[:2] == (b"CONNECT", b"h:1")


def test_settings_are_said_and_heard() -> None:
    mine = Settings(table=0, push=0, streams=5, window=1 << 20, frame=20000, head=9, connect=1)
    heard = Settings()
    for number, value in frames.pairs(Cutter(100).feed(frames.settings(mine.said()))[0][3]):
        heard = heard.heard(number, value)
    assert heard == mine
    assert Settings().said() == [] and Settings().heard(0x99, 1) == Settings()
    asked = announced(Settings())
    assert (asked.streams, asked.window, asked.head, asked.push) == (1000, 65535, 65536, 1)


@pytest.mark.parametrize("pair", [(2, 2), (4, 1 << 31), (5, 16383), (5, 1 << 24), (8, 2)])
def test_settings_that_cannot_be(pair: tuple[int, int]) -> None:
    with pytest.raises(Wrong):
        Settings().heard(*pair)


def moved(credit: Credit, size: int) -> None:
    """So many came and left at once."""
    while size:
        step = min(size, credit.open)
        credit.arrived(step, step)
        credit.left(step)
        credit.due()
        size -= step


def test_what_moves_may_have_more_on_its_way_and_what_piles_up_less() -> None:
    credit = Credit(BEGINS, Share(budget=Budget(1 << 40, 1 << 40)))
    assert credit.due() == 0
    moved(credit, 8 << 20)
    assert credit.open == REACH
    while credit.held + credit.open < MOST or credit.open:
        credit.arrived(credit.open, credit.open)
        credit.due()
    assert credit.held == MOST
    with pytest.raises(Wrong) as error:
        credit.arrived(1, 1)
    assert error.value.code == frames.FLOW_CONTROL_ERROR
    credit.open = 0
    for _ in range(64):  # one comes as one leaves
        credit.left(BEGINS)
        credit.arrived(0, BEGINS)
    credit.left(MOST - BEGINS)
    assert 0 < credit.due() <= 2 * BEGINS


def test_an_agent_that_holds_much_gives_less() -> None:
    budget = Budget(BEGINS // 2, 1 << 40)
    credit = Credit(BEGINS, Share(budget=budget))
    moved(credit, 1 << 20)
    credit.arrived(credit.open, 40 << 10)
    assert credit.due() == 24 << 10
    credit.left(40 << 10)
    assert credit.due() > 0 and budget.held == 0


async def test_an_agent_that_is_full_has_back_first_what_did_not_move_for_longest() -> None:
    budget, given = Budget(0, 5 * LITTLE), list[int]()

    def share(number: int) -> Share:
        def give_back() -> None:
            given.append(number)
            shares[number].add(-shares[number].size)

        return Share(give_back, budget)

    shares = [share(number) for number in range(5)]
    for number, size in enumerate((LITTLE, 2 * LITTLE, 2 * LITTLE - 1)):
        shares[number].add(size)
    shares[1].add(-1)
    await asyncio.sleep(0)
    assert not given
    shares[3].add(LITTLE)
    shares[4].add(LITTLE)
    await asyncio.sleep(0)
    assert given == [2] and budget.held == 5 * LITTLE - 1  # the first is small, of the second something left
    for each in shares[:4]:
        each.add(-each.size)
    shares[4].add(10 * LITTLE)
    await asyncio.sleep(0)
    assert given == [2, 4] and budget.held == 0


@pytest.mark.asyncio
async def test_what_is_kept_does_not_say_that_something_moves() -> None:
    given: list[str] = []
    budget = Budget(1, 100)
    stuck = Share(lambda: given.append("stuck"), budget)
    other = Share(lambda: given.append("other"), budget)
    stuck.add(40)
    other.add(40)
    stuck.add(1, left=False)
    stuck.add(-1, left=False)
    other.add(40)
    await asyncio.sleep(0)
    assert given[0] == "stuck"
    for each in (stuck, other):
        each.add(-each.size)


@pytest.mark.asyncio
async def test_one_that_cannot_hold_less_does_not_spare_the_others(caplog: pytest.LogCaptureFixture) -> None:
    budget = Budget(1, 100)

    def fails() -> None:
        raise ValueError("a bug")

    first, second = Share(fails, budget), Share(lambda: second.add(-second.size), budget)
    first.add(60)
    second.add(60)
    await asyncio.sleep(0)
    assert budget.held == 60 and "a bug" in caplog.text


@pytest.mark.asyncio
async def test_first_bytes_count_until_the_application_is_there() -> None:
    held = BUDGET.held
    openers: Any = (lambda given: None, lambda given: None)
    stream: Any = Memory()
    said_to: Any = (lambda words: None, lambda: None)
    exchange = Exchange(stream, *openers, Filter(), Limits(), *said_to, b"x" * 60_000)
    assert BUDGET.held == held + 60_000
    exchange.cancel()
    assert BUDGET.held == held


def test_heads_are_known_again_up_to_a_size() -> None:
    writer, reader = Writer(), Reader()
    most = [0, 0]
    for size in (12000, 10, 1000, 5000):
        for number in range(60):
            head = Head([NeverIndexedHeaderTuple(b"x", b"%05d" % number * (size // 5))])
            block = writer.write(head)
            assert reader.read(block).fields == head.fields
            most = [max(most[0], writer.known.size), max(most[1], reader.held)]
    assert all(KNOWN // 2 < each <= KNOWN for each in most)
    assert reader.known and len(reader.known) < 60
    assert reader.read(block) is reader.read(block)


def test_a_table_that_was_made_larger_counts() -> None:
    reader, encoder = Reader(1 << 20), hpack.Encoder()
    reader.read(encoder.encode([(b"a", b"b")]))
    encoder.header_table_size = 1 << 19
    reader.read(encoder.encode([(b"c", b"d")]))
    assert reader.held == (1 << 19) - 4096


def test_small_pieces_are_joined() -> None:
    queue: list[Any] = []
    for _ in range(1000):
        append(queue, b"x")
    append(queue, Head([]))
    append(queue, b"y")
    assert [len(each) for each in queue if isinstance(each, bytes)] == [512, 488, 1]
    assert not Flow(None).queue  # type: ignore[arg-type]


# Anything -------------------------------------------------------------------------------------------

BLOCK = st.sampled_from(
    [
        bytes.fromhex("828684") + b"\x01\x05there",
        bytes.fromhex("828684") + b"\x40\x06x-take\x03yes",
        b"\x88",
        b"\x08\x03103",
        b"\x40\x01t\x011",
        b"\x80",
    ]
)
NUMBER = st.sampled_from([0, 1, 1, 1, 3, 3, 5, 2, 7])
WORD = st.integers(0, (1 << 32) - 1).map(lambda each: each.to_bytes(4, "big"))
LIKELY = st.one_of(
    st.builds(frames.frame, st.just(1), st.sampled_from([0, 4, 5, 5, 4, 12, 36]), NUMBER, BLOCK),
    st.builds(frames.frame, st.just(0), st.sampled_from([0, 0, 1, 8]), NUMBER, st.binary(max_size=20)),
    st.builds(lambda n: frames.frame(0, 0, n, b"x" * 16384), NUMBER),
    st.builds(frames.frame, st.sampled_from([3, 8]), st.just(0), NUMBER, WORD),
    st.builds(frames.window_update, NUMBER, st.integers(0, 100000)),
    st.builds(lambda key, value: frames.settings([(key, value)]), st.integers(1, 8), st.integers(0, 70000)),
    st.builds(frames.goaway, st.sampled_from([0, 1, 3, frames.LARGEST_NUMBER]), st.integers(0, 13)),
    st.builds(frames.frame, st.just(9), st.sampled_from([0, 4]), NUMBER, BLOCK),
    st.builds(frames.frame, KINDS, st.integers(0, 255), NUMBER, st.binary(max_size=20)),
)
SAID = st.lists(st.tuples(st.integers(0, 2), LIKELY), max_size=25)


@settings(max_examples=400, deadline=None)
@given(SAID, st.sampled_from([b"", b"mine"]), st.integers(0, 3), st.sampled_from([0, 50, 1 << 20]))
async def test_whatever_is_said_everything_ends(
    said: list[tuple[int, bytes]], words: bytes, ends: int, space: int
) -> None:
    """Each side says anything, and reads at times; then one of them ends, or the exchange is closed."""
    streams, over, before = [Memory(space), Memory(space), Memory(space)], list[int](), BUDGET.held
    openers = [lambda given, stream=stream: given(stream) for stream in streams[1:]]
    said_to = (lambda words: None, lambda: over.append(1), frames.PREFACE[:9])
    exchange = Exchange(streams[0], *openers, Filter(words), Limits(), *said_to)
    for stream, begins in zip(streams, (frames.PREFACE[9:], b"", b""), strict=True):
        stream.feed(begins + frames.settings([]))
    for whose, data in said:
        streams[whose].feed(data)
        streams[whose].widen(20)
    for stream in streams:
        stream.widen(1 << 30)
        frames.Cutter(1 << 24, frames.PREFACE if stream is not streams[0] else b"").feed(stream.take())
    if ends < 3:
        streams[ends].finish()
    exchange.cancel()
    assert over == [1] and BUDGET.held == before


@settings(max_examples=200, deadline=None)
@given(SAID, st.sampled_from([b"", b"mine"]), st.booleans())
async def test_whatever_is_copied_everything_ends(
    said: list[tuple[int, bytes]], words: bytes, ends: bool
) -> None:
    program, over, before = Memory(), list[str](), BUDGET.held
    copy = Copy(lambda given: given(program), Filter(words), Limits(), lambda words: None, over.append)
    copy.feed(frames.PREFACE + frames.settings([]))
    program.feed(frames.settings([]))
    for whose, data in said:
        if whose:
            copy.feed(data)
        else:
            program.feed(data)
    if ends:
        copy.end()
    copy.close("enough")
    assert len(over) == 1 and BUDGET.held == before
