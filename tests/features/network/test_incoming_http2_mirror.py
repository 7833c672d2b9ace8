"""Copies of a mirrored client's streams: the program gets what matches, and its answers go nowhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from attrs import define
from h2.errors import ErrorCodes
from h2.events import RequestReceived, StreamEnded, StreamReset
from h2_memory import Memory
from hpack import Encoder
from http2_peer import GET, POST, TAKE, Peer, Server, server
from http2_place import Filter, to
from incoming_agent import until

from pymirror.features.network.incoming import http2_frames as frames
from pymirror.features.network.incoming.budget import BUDGET
from pymirror.features.network.incoming.http2_mirror import Copy
from pymirror.features.network.incoming.http2_windows import MOST
from pymirror.features.network.incoming.limits import Limits


@define
class Client:
    """What a client would send, as bytes."""

    copy: Copy
    over: list[str]
    said: list[str]
    encoder: Encoder
    number: int = -1

    def ask(self, headers: list[Any], body: bytes | None = None, ends: bool = True) -> int:
        self.number += 2
        block = self.encoder.encode(headers)
        self.copy.feed(frames.headers(self.number, ends and body is None, block, 16384))
        if body is not None:
            self.data(body, ends)
        return self.number

    def data(self, body: bytes, ends: bool = False) -> None:
        flags = frames.END_STREAM if ends else 0
        self.copy.feed(frames.frame(frames.DATA, flags, self.number, body))


@pytest.fixture(name="program")
async def program_fixture() -> AsyncIterator[Server]:
    async with server() as program:
        yield program


def made(opener: Any, words: bytes = b"") -> Client:
    over, said = list[str](), list[str]()
    copy = Copy(opener, Filter(words), Limits(), said.append, over.append)
    copy.feed(frames.PREFACE + frames.settings([(1, 65536)]))
    return Client(copy, over, said, Encoder())


async def got(program: Peer) -> tuple[bytes, bytes]:
    """(path, body) of the next request, which is answered for nobody."""
    came = await program.next(RequestReceived)
    path, body = dict(map(tuple, came.headers))[b":path"], await program.body(came.stream_id)
    program.answer(came.stream_id, b"nobody reads this" * 100)
    return path, body


async def test_what_matches_is_copied_alone(program: Server) -> None:
    client = made(to(program.port))
    client.encoder.header_table_size = 16384  # which the application may have allowed
    for number in range(40):
        head = [*POST[:3], (":path", f"/{number}"), ("x-number", "x" * 300 + str(number))]
        client.ask([*head, TAKE] if number % 2 else head, b"body %d" % number)
    far = await program.accepted()
    for number in range(1, 40, 2):
        assert await got(far) == (b"/%d" % number, b"body %d" % number)
    client.copy.end()
    with pytest.raises(EOFError):
        await far.next(StreamReset)
    far.close()
    await until(lambda: BUDGET.held == 0)
    assert client.said == []


async def test_a_body_decides_for_a_copy(program: Server) -> None:
    client = made(to(program.port), b"mine")
    client.ask(POST, b"yours")
    client.ask(POST, b"mi", ends=False)
    client.data(b"ne", ends=True)
    assert (await got(await program.accepted()))[1] == b"mine"
    client.copy.close("enough")
    assert client.over == ["enough"]


async def test_what_the_client_gives_up_the_program_gives_up(program: Server) -> None:
    client = made(to(program.port))
    number = client.ask([*POST, TAKE], b"x", ends=False)
    far = await program.accepted()
    await far.next(RequestReceived)
    client.copy.feed(frames.rst_stream(number, frames.CANCEL))
    assert (await far.next(StreamReset)).error_code == ErrorCodes.CANCEL
    client.ask([*POST, TAKE], b"y", ends=False)
    await far.next(RequestReceived)
    client.copy.end()
    assert (await far.next(StreamReset)).error_code == ErrorCodes.CANCEL
    with pytest.raises(EOFError):
        await far.next(StreamEnded)


async def test_windows_that_are_the_applications_matter_to_nobody(program: Server) -> None:
    client = made(to(program.port))
    for _ in range(3):
        client.copy.feed(frames.window_update(0, frames.LARGEST_NUMBER))
    client.ask([*POST, TAKE], b"x", ends=False)
    client.data(b"y" * (1 << 20), ends=True)
    assert len((await got(await program.accepted()))[1]) == (1 << 20) + 1
    client.copy.close("")


async def test_a_program_that_does_not_read_ends_the_copy_and_nothing_else() -> None:
    client = made(lambda given: given(Memory(100)))
    client.ask([*POST, TAKE], b"", ends=False)
    while not client.over:
        client.data(b"x" * 16384)
        assert BUDGET.held <= MOST + 16384
    assert client.over == ["the local program takes less than the client sends"] and BUDGET.held == 0
    client.data(b"and on")


async def test_a_program_that_is_not_there_is_tried_again(program: Server) -> None:
    openers = iter([lambda given: given(None), to(program.port)])
    client = made(lambda given: next(openers)(given))
    client.ask([*GET, TAKE])
    assert client.said == ["the local program and HTTP/2: it cannot be reached"]
    client.ask([*GET, TAKE])
    assert (await got(await program.accepted()))[0] == b"/"
    client.copy.close("")


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", frames.frame(frames.DATA, 0, 9, b"")])
async def test_no_http2_ends_the_copy(said: bytes) -> None:
    client = made(lambda given: None)
    client.copy.feed(said)
    assert len(client.over) == 1 and client.over[0]
