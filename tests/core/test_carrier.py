"""Sockets joined to streams: what is read into a message, what is not, and who is told."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from attrs import define, field

from pymirror.core import arrivals, windows, wire
from pymirror.core._batch import give
from pymirror.core.carrier import LARGE, Carrier
from pymirror.core.errors import PeerError
from pymirror.core.flows import BLOB_FROM
from pymirror.core.message import message
from pymirror.core.mux import Mux


@message("test-carrier")
class Open:
    pass


@define
class Ends:
    """A stream of `near` whose socket is `ours`; sent: the messages that left, as long as `open`."""

    near: Mux = field(factory=lambda: Mux(initiator=True))
    far: Mux = field(factory=lambda: Mux(initiator=False))
    sent: list[list[Any]] = field(factory=list)
    open: bool = True
    told: list[str] = field(factory=list)
    carrier: Carrier = field(init=False)
    number: int = field(init=False)
    ours: socket.socket = field(init=False)
    theirs: socket.socket = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.carrier = Carrier(self.near, self.depart)
        self.number = self.near.open(Open())
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)

    def depart(self) -> None:
        while self.open:
            parts = self.near.take()
            if self.carrier.due:
                parts = self.carrier.fill(parts)
            if not parts:
                return
            self.sent.append(parts)

    def watch(self) -> None:
        told = self.told.append
        self.carrier.watch(self.number, self.ours.fileno(), lambda: told("look"), lambda: told("broken"))

    def arrived(self) -> list[bytes]:
        """What of the stream the other side has received of all that left."""
        events = [event for parts in self.sent for event in self.far.receive(parts)]
        self.sent.clear()
        return [event.data for event in events if isinstance(event, arrivals.Received)]


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    made = Ends()
    yield made
    made.carrier.close()
    made.ours.close()
    made.theirs.close()


async def turns() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


async def test_what_a_socket_has_leaves_behind_what_was_queued(ends: Ends) -> None:
    ends.watch()
    ends.theirs.send(b"hello")
    await turns()
    assert ends.arrived() == [b"hello"], "the stream's beginning is in the same message"
    assert ends.near._out.used == 5, "what was reserved and not read is given back"
    ends.theirs.send(b"again")
    await turns()
    assert ends.arrived() == [b"again"] and ends.told == []


async def test_nothing_is_read_while_nothing_can_leave(ends: Ends) -> None:
    ends.watch()
    ends.open = False
    ends.theirs.send(b"hello")
    await turns()
    assert ends.ours.recv(5, socket.MSG_PEEK) == b"hello" and not ends.carrier._watches
    ends.open = True
    ends.depart()
    await turns()
    assert ends.arrived() == [b"hello"] and ends.carrier._watches


async def test_bytes_do_not_overtake_frames_that_wait(ends: Ends) -> None:
    ends.watch()
    ends.theirs.send(b"after")
    ends.carrier.due = True
    assert ends.carrier.fill([]) == [] and ends.near._out.used == 0, "the stream's beginning has not left"
    ends.near.write(ends.number, b"before")
    ends.depart()
    await turns()
    assert b"".join(ends.arrived()) == b"beforeafter"


async def test_a_large_message_goes_alone_and_the_next_takes_them_along(ends: Ends) -> None:
    ends.depart()
    ends.open = False
    ends.watch()
    ends.theirs.send(b"later")
    large = [bytes(LARGE + 1)]
    ends.carrier.due = True
    assert ends.carrier.fill(large) is large and ends.carrier.due
    ends.open = True
    await turns()
    assert ends.arrived() == [b"later"]


async def test_who_has_no_room_looks_himself(ends: Ends) -> None:
    ends.near.write(ends.number, bytes(windows.FIRST))
    ends.depart()
    ends.watch()
    ends.theirs.send(b"more")
    await turns()
    assert "look" in ends.told and ends.ours.recv(9) == b"more"


async def test_an_end_and_a_reset_are_told_and_not_after_leaving(ends: Ends) -> None:
    ends.watch()
    ends.theirs.shutdown(socket.SHUT_WR)
    await turns()
    assert "look" in ends.told and "broken" not in ends.told
    ends.carrier.leave(ends.ours.fileno())
    await turns()
    ends.told.clear()
    await turns()
    assert ends.told == []
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        client.connect(listener.getsockname())
        ends.ours.close()
        ends.ours, _ = listener.accept()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    ends.watch()
    await turns()
    assert ends.told[0] == "broken"


async def test_what_arrives_goes_straight_and_the_rest_as_ever(ends: Ends) -> None:
    ends.depart()
    ends.arrived()
    ends.carrier.straight(ends.number, ends.ours.fileno())
    ends.far.write(ends.number, b"small")
    assert ends.near.receive(ends.far.take(), give) == []
    assert ends.theirs.recv(9) == b"small" and ends.near._streams[ends.number].into.taken == 5
    large, taken, events = bytes(4095), 5, []
    while not events:
        ends.far.write(ends.number, large)
        events = ends.near.receive(ends.far.take(), give)
        taken += len(large)
    (rest,) = events
    assert isinstance(rest, arrivals.Received) and ends.number not in ends.near.sockets
    ends.far.write(ends.number, b"behind")
    assert ends.near.receive(ends.far.take(), give) == [arrivals.Received(ends.number, b"behind")]
    kept = len(rest.data) + len(b"behind")
    assert ends.near._into.used - ends.near._streams[ends.number].into.taken == kept


async def test_nothing_goes_straight_past_what_its_reader_was_not_told_of(ends: Ends) -> None:
    ends.depart()
    ends.arrived()
    ends.carrier.straight(ends.number, ends.ours.fileno())
    for piece in (bytes(BLOB_FROM), b"behind"):
        ends.far.write(ends.number, piece)
    events = ends.near.receive(ends.far.take(), give)
    assert [len(event.data) for event in events if isinstance(event, arrivals.Received)] == [BLOB_FROM, 6]


async def test_nothing_goes_to_the_socket_of_a_stream_that_ended(ends: Ends) -> None:
    ends.depart()
    ends.arrived()
    ends.carrier.straight(ends.number, ends.ours.fileno())
    ends.far.write(ends.number, b"all")
    ends.far.end(ends.number)
    ended, behind = ends.far.take(), wire.pack(wire.Frame(wire.DATA, ends.number, body=b"x"), 3, 0)
    with pytest.raises(PeerError, match="after its end"):
        ends.near.receive([ended[0] + behind], give)
    assert ends.theirs.recv(9) == b"all"
    ends.carrier.straight(ends.number, ends.ours.fileno())
    assert ends.near.sockets == {}, "its owner is told only now"


@pytest.mark.parametrize(
    ("frame", "acknowledged", "words"),
    [(wire.Frame(wire.DATA, 1, body=b"x"), 9, "never sent"), (wire.Frame(wire.END, 1), 0, "after its end")],
    ids=["acknowledged", "after its end"],
)
async def test_a_peer_that_breaks_the_rules(
    ends: Ends, frame: wire.Frame, acknowledged: int, words: str
) -> None:
    ends.depart()
    ends.carrier.straight(ends.number, ends.ours.fileno())
    more = wire.pack(wire.Frame(wire.DATA, 1, body=b"y"), 2, 0)
    with pytest.raises(PeerError, match=words):
        ends.near.receive([wire.pack(frame, 1, acknowledged) + more], give)


async def test_a_stream_that_is_gone_has_no_socket(ends: Ends) -> None:
    ends.carrier.straight(ends.number, ends.ours.fileno())
    ends.near.reset(ends.number)
    assert ends.near.sockets == {} and ends.near._out.used == 0
