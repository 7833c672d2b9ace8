"""How many events may be on their way, and that the peer hears in time that there is room again."""

from __future__ import annotations

import errno

import pytest

from pymirror.core import room
from pymirror.core.message import message
from pymirror.core.room import Inbox, Outbox
from pymirror.core.testing import Transcript


@message("test-room")
class News:
    number: int


@message("test-room-2")
class Other:
    data: bytes


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_EVENTS", 8)
    monkeypatch.setattr(room, "MAX_EVENT_BYTES", 1000)


@pytest.mark.parametrize(
    ("sizes", "refused_at"),
    [
        ([1] * 9, 8),  # by their number
        ([400] * 3, 2),  # by their bytes
        ([5000, 1], 1),  # one alone goes, however large: else it never could
    ],
)
def test_what_waits_is_bounded(small: None, sizes: list[int], refused_at: int) -> None:
    outbox = Outbox()
    for size in sizes[:refused_at]:
        outbox.admit("a", size)
    with pytest.raises(BlockingIOError) as refused:
        outbox.admit("a", sizes[refused_at])
    assert refused.value.errno == errno.EAGAIN
    outbox.admit("b", 1)  # each feature has room of its own


def test_room_comes_back_with_the_acknowledgement_not_with_the_departure(small: None) -> None:
    outbox = Outbox()
    for sequence in range(1, 9):
        outbox.admit("a", 10)
        outbox.left(sequence, "a", 10)
    with pytest.raises(BlockingIOError):
        outbox.admit("a", 10)
    outbox.acknowledged(3)
    assert not outbox.drained("a")  # half must be free, so that a sender does not go by ones
    outbox.acknowledged(4)
    assert outbox.drained("a")
    outbox.admit("a", 10)


@pytest.mark.parametrize(
    ("sizes", "tell"), [([1, 1], [False, False]), ([1, 1, 1], [False, False, True]), ([300], [True])]
)
def test_the_receiver_tells_before_the_room_is_used_up(
    small: None, sizes: list[int], tell: list[bool]
) -> None:
    inbox = Inbox()
    assert [inbox.arrived(size) for size in sizes] == tell
    inbox.told()
    assert not inbox.arrived(1)


def test_a_peer_that_takes_nothing_stops_the_events_and_nothing_else(small: None) -> None:
    talk = Transcript()
    for number in range(8):
        talk.agent.event(News(number))
    taken = talk.agent.take()  # into the sockets: nobody reads there
    assert taken and not talk.agent.drained("test-room")
    with pytest.raises(BlockingIOError):
        talk.agent.event(News(8))
    talk.agent.event(Other(b"x"))
    assert talk.agent.request(News(0)) == 1


def test_a_peer_that_only_listens_acknowledges_by_a_ping(small: None) -> None:
    talk = Transcript()
    for number in range(8):
        talk.agent.event(News(number))
    talk.exchange()
    assert talk.agent.drained("test-room") and "layer: ping 0" in talk.lines
    for number in range(8):
        talk.agent.event(News(number))
