"""A copy with a filter: which HTTP it is, and what the mirror hears of its end."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from attrs import define, field
from h2.events import RequestReceived
from h2_memory import Memory
from hpack import Encoder
from http2_peer import GET, TAKE, Server, server
from http2_place import Filter
from incoming_agent import until

from pymirror.features.network.incoming import copy_http
from pymirror.features.network.incoming import http2_frames as h2
from pymirror.features.network.incoming.budget import BUDGET
from pymirror.features.network.incoming.copies import Waiting
from pymirror.features.network.incoming.copy_http import Everything, Http, Ways
from pymirror.features.network.incoming.front import Filtered
from pymirror.features.network.incoming.http2_mirror import BROKEN
from pymirror.features.network.incoming.limits import Limits
from pymirror.features.network.incoming.pipe import Pipe

BEGINS = h2.PREFACE + h2.settings([])


@define
class Place:
    """What the mirror hears. streams: those that are opened, in order."""

    streams: list[Any] = field(factory=list)
    heard: list[Any] = field(factory=list)
    opened: int = 0
    answers: bool | None = None

    def begin(self, answers: bool) -> Any:
        self.opened += 1
        self.answers = answers
        return self.streams.pop(0) if self.streams else None

    def copy(self, whole: bool = False) -> Http:
        matcher = Everything() if whole else Filter(b"")
        filtered = Filtered(matcher, Limits(), 1.0, lambda words: None)
        ways = Ways(self.begin, Waiting(), self._one("over"), self._one("answered"), self._lost)
        return Http(filtered, ways, whole)

    def _one(self, what: str) -> Any:
        return lambda copy: self.heard.append((what, copy))

    def _lost(self, copy: Any, why: str) -> None:
        self.heard.append((why, copy))


def asking(number: int = 1, *more: Any, ends: bool = True) -> bytes:
    return h2.headers(number, ends, Encoder().encode([*GET, *more]), 16384)


MINE = b"GET / HTTP/1.1\r\n%s: %s\r\n\r\n" % (TAKE[0].encode(), TAKE[1].encode())
YOURS = b"GET / HTTP/1.1\r\n\r\n"


@pytest.fixture(name="program")
async def program_fixture() -> AsyncIterator[Server]:
    async with server() as program:
        yield program


async def test_http1_goes_on_as_it_is() -> None:
    stream = Memory(1 << 20)
    place = Place([stream])
    copy = place.copy()
    copy.open()
    for data in (b"P", b"RI ", b"* HTTP/2.0\r\n"):
        copy.take(data)
    copy.reset()
    assert (place.opened, place.heard) == (0, [])
    copy = place.copy()
    copy.take(MINE[:1])
    copy.take(MINE[1:] + YOURS)
    assert bytes(stream.written) == MINE and copy.unsent == 0 and place.answers is False


@pytest.mark.parametrize("how", ["end", "reset", "over", "full"])
async def test_what_http1_holds_counts_for_all(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    stream = Memory(1 << 20)
    place = Place([stream])
    copy = place.copy()
    copy.take(MINE + YOURS[:9])
    assert BUDGET.held == 9
    if how == "full":
        monkeypatch.setattr(BUDGET, "_full", 12)
        copy.take(YOURS[9:16])
        await until(lambda: place.heard)
        assert place.heard == [(copy_http.HOLDS, copy)] and stream.closed
    elif how == "over":
        stream.closed = True  # so that to read is to see a reset
        stream.feed(b"")
        assert place.heard == [("over", copy)]
    else:
        getattr(copy, how)()
    assert BUDGET.held == 0


@pytest.mark.parametrize("data", [b"P", b"PRI * HTTP/1", YOURS + MINE, b"\0\1", b""])
async def test_without_a_filter_all_but_http2_goes_on_as_it_is(data: bytes) -> None:
    stream = Memory()
    place = Place([stream])
    copy = place.copy(whole=True)
    copy.open()
    for at in range(len(data)):
        copy.take(data[at : at + 1])
    copy.end()
    assert bytes(stream.written) == data and stream.ended and place.answers is False


async def test_without_a_filter_http2_waits_for_the_programs_windows(program: Server) -> None:
    """The application gave the client more than the program does."""
    sock = socket.create_connection(("127.0.0.1", program.port))
    sock.setblocking(False)
    place = Place([Pipe(sock)])
    copy = place.copy(whole=True)
    copy.take(BEGINS + asking(1, ends=False))
    body = bytes(range(256)) * 1024
    for at in range(0, len(body), 16384):
        copy.take(h2.frame(h2.DATA, 0, 1, body[at : at + 16384]))
    copy.take(h2.frame(h2.DATA, h2.END_STREAM, 1, b""))
    far = await program.accepted()
    came = await far.next(RequestReceived)
    assert await far.body(came.stream_id) == body
    copy.reset()


async def test_a_client_that_said_nothing_is_over() -> None:
    place = Place()
    copy = place.copy()
    copy.take(b"PRI")
    copy.end()
    assert place.heard == [("over", copy)] and place.opened == 0


async def test_http2_is_spoken_anew_and_its_answers_are_read() -> None:
    stream = Memory()
    place = Place([stream])
    copy = place.copy()
    for at in range(len(BEGINS)):
        copy.take(BEGINS[at : at + 1])
    copy.take(asking())
    assert place.opened == 0
    copy.take(asking(3, TAKE))
    assert place.answers is True and bytes(stream.written).startswith(h2.PREFACE)
    copy.reset()
    assert stream.closed and place.heard == []


async def test_a_client_that_breaks_http2_loses_its_copy() -> None:
    place = Place()
    copy = place.copy()
    copy.take(BEGINS + h2.frame(h2.DATA, 0, 9, b""))
    ((why, whose),) = place.heard
    assert why == BROKEN and whose is copy
    copy.take(b"more")
    copy.end()
    assert len(place.heard) == 1 and BUDGET.held == 0


async def test_a_program_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the client's end; until then it may take its time."""
    monkeypatch.setattr(copy_http, "LINGER", 0.01)
    stream = Memory()
    place = Place([stream])
    copy = place.copy()
    copy.take(BEGINS + asking(1, TAKE))
    copy.end()
    assert place.heard == []
    await until(lambda: place.heard)
    assert place.heard == [("over", copy)] and stream.closed


async def test_what_is_answered_is_over(program: Server) -> None:
    """One stream after the other on the same connection; the end comes when the last was answered."""
    sock = socket.create_connection(("127.0.0.1", program.port))
    sock.setblocking(False)
    place = Place([Pipe(sock)])
    copy = place.copy()
    copy.take(BEGINS + asking(1, TAKE))
    far = await program.accepted()
    came = await far.next(RequestReceived)
    far.answer(came.stream_id, b"one")
    copy.take(asking(3, TAKE))
    came = await far.next(RequestReceived)
    copy.end()
    assert place.heard == []
    far.answer(came.stream_id, b"two")
    await until(lambda: place.heard)
    assert place.heard == [("over", copy)] and place.opened == 1
