"""Data frames between sockets and messages: what the C part reads and sends, and where it leaves off."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from pymirror.core import wire
from pymirror.core._batch import fill, give
from pymirror.core.flows import PIECE
from pymirror.core.wire import Frame

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    one, two = socket.socketpair()
    with one, two:
        one.setblocking(False)
        two.setblocking(False)
        yield one, two


def data(number: int, body: bytes, sequence: int, acknowledged: int = 0) -> bytes:
    return wire.pack(Frame(wire.DATA, number, body=body), sequence, acknowledged)


def test_what_sockets_have_becomes_frames(pair: Pair) -> None:
    one, two = pair
    one.send(b"there")
    two.send(b"back")
    wanted = [(two.fileno(), 7, 100), (one.fileno(), 2**32 - 1, 2)]
    frames, after, found = fill(wanted, 2**40, 2**33)
    assert frames == data(7, b"there", 2**40, 2**33) + data(2**32 - 1, b"ba", 2**40 + 1, 2**33)
    assert (after, found) == (2**40 + 2, [(5, 0), (2, 0)])
    assert one.recv(9) == b"ck", "beyond its room nothing is read"


def test_nothing_an_end_and_a_reset_make_no_frames(pair: Pair) -> None:
    one, two = pair
    assert fill([(one.fileno(), 1, 9)], 5, 0) == (b"", 5, [(0, errno.EAGAIN)])
    two.shutdown(socket.SHUT_WR)
    assert fill([(one.fileno(), 1, 9)], 5, 0) == (b"", 5, [(0, -1)])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        there, _ = listener.accept()
        with there:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
            assert fill([(there.fileno(), 1, 9)], 5, 0) == (b"", 5, [(0, errno.ECONNRESET)])


def test_of_one_socket_little_is_read_and_of_all_a_mebibyte() -> None:
    with ExitStack() as stack:
        wanted = []
        for number in range(70):
            one, two = socket.socketpair()
            stack.enter_context(one)
            stack.enter_context(two)
            one.send(bytes(PIECE + 1))
            wanted.append((two.fileno(), number, 8 << 20))
        frames, after, found = fill(wanted, 1, 0)
        read = (1 << 20) // (PIECE + wire.HEADER.size)
        assert found == [(PIECE, -2)] * read + [(0, 0)] * (70 - read) and after == 1 + read
        assert [len(frame.body) for frame, _, _ in wire.unpack([frames])] == [PIECE] * read
        assert fill(wanted[:1], 1, 0)[2] == [(1, 0)]


def test_frames_go_to_their_sockets_in_their_order(pair: Pair) -> None:
    one, two = pair
    batch = data(3, b"a", 11, 40) + data(4, b"", 12, 41) + data(3, b"bc", 13, 42)
    sockets = {3: one.fileno(), 4: two.fileno()}
    assert give(batch, 0, 10, sockets) == (len(batch), 13, 42, [(3, 1, 1), (4, 0, 0), (3, 2, 2)])
    assert two.recv(9) == b"abc"


OTHERS = {
    "another stream": data(5, b"x", 12),
    "a gap": data(3, b"x", 13),
    "again": data(3, b"x", 11),
    "another kind": wire.pack(Frame(wire.END, 3), 12, 0),
    "with a tag": wire.pack(Frame(wire.DATA, 3, "env/Ask", b"x"), 12, 0),
    "with a blob": wire.pack(Frame(wire.DATA, 3, blobs=(b"x",)), 12, 0),
    "cut in its header": data(3, b"x", 12)[:20],
    "cut in its body": data(3, b"xyz", 12)[:-1],
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_what_is_not_its_business_is_left(pair: Pair, other: bytes) -> None:
    one, two = pair
    first = data(3, b"a", 11, 2)
    assert give(first + other, 0, 10, {3: one.fileno()}) == (len(first), 11, 2, [(3, 1, 1)])
    assert give(other, 0, 11, {3: one.fileno()}) == (0, 11, 0, [])
    assert two.recv(9) == b"a"


def test_a_socket_that_does_not_take_all_ends_the_row(pair: Pair) -> None:
    one, two = pair
    large = bytes(1 << 20)
    batch = data(3, large, 1) + data(3, b"after", 2)
    at, received, _, ((number, size, sent),) = give(batch, 0, 0, {3: one.fileno()})
    assert (at, received, number, size) == (len(batch) - len(data(3, b"after", 2)), 1, 3, len(large))
    assert 0 < sent < len(large)
    two.close()
    assert give(data(3, b"x", 1), 0, 0, {3: one.fileno()})[3] == [(3, 1, 0)], "nobody reads it: none"


def test_what_is_asked_wrongly_is_refused(pair: Pair) -> None:
    with pytest.raises(ValueError, match="more than 256"):
        fill([(0, 0, 0)] * 257, 1, 0)
    with pytest.raises(ValueError, match="outside"):
        give(b"", 1, 0, {})
    with pytest.raises(TypeError):
        give(data(3, b"x", 1), 0, 0, {3: "fd"})  # type: ignore[dict-item]
