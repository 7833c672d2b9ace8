"""Two muxes and their transcript: requests, streams, credit, order."""

from __future__ import annotations

import pytest
from raw_peer import ASKED, Ask, Raw

from pymirror.core import arrivals, lanes, mux, room, windows, wire
from pymirror.core.errors import PeerError
from pymirror.core.message import message
from pymirror.core.testing import Transcript
from pymirror.core.wire import Frame


@message("test-mux")
class Data:
    data: bytes


@message("test-mux-large")
class Large:
    data: bytes


def opened(talk: Transcript) -> int:
    number = talk.layer.open(Ask(0))
    assert talk.exchange() == [("agent", arrivals.Opened(number, Ask(0)))]
    talk.lines.clear()
    return number


def write_all(talk: Transcript, number: int, size: int) -> int:
    """Write what there is room for."""
    size = min(size, talk.layer.room(number))
    talk.layer.write(number, bytes(size))
    return size


def filled(talk: Transcript, number: int) -> int:
    """Write to a stream until there is no more room: the bytes."""
    sent = 0
    while size := write_all(talk, number, lanes.CHUNK):
        sent += size
        talk.exchange()
    return sent


# Requests ---------------------------------------------------------------------------------------


def test_answers_come_in_any_order() -> None:
    talk = Transcript()
    one, two = talk.layer.request(Ask(1)), talk.layer.request(Ask(2))
    assert [e for _, e in talk.exchange()] == [
        arrivals.Requested(one, Ask(1)),
        arrivals.Requested(two, Ask(2)),
    ]
    talk.agent.reply(two, Ask(22))
    talk.agent.reply(one, Ask(11))
    assert [e for _, e in talk.exchange()] == [
        arrivals.Answered(two, Ask(22)),
        arrivals.Answered(one, Ask(11)),
    ]
    assert talk.lines == [
        "layer: request 1 test-mux/Ask",
        "layer: request 2 test-mux/Ask",
        "agent: reply 2 test-mux/Ask",
        "agent: reply 1 test-mux/Ask",
    ]


def test_both_sides_ask_and_the_numbers_do_not_meet() -> None:
    talk = Transcript()
    assert talk.layer.request(Ask(1)) == talk.agent.request(Ask(2)) == 1
    assert len(talk.exchange()) == 2
    talk.layer.reply(1, Ask(3))
    assert talk.exchange() == [("agent", arrivals.Answered(1, Ask(3)))]


def test_a_second_answer_is_not_sent() -> None:
    talk = Transcript()
    number = talk.layer.request(Ask(1))
    talk.exchange()
    talk.agent.reply(number, Ask(2))
    talk.agent.reply(number, Ask(3))
    talk.agent.fail(number, ValueError(), "x")
    assert talk.exchange() == [("layer", arrivals.Answered(number, Ask(2)))]


def test_a_cancelled_request_is_told_and_its_late_answer_dropped() -> None:
    talk = Transcript()
    number = talk.layer.request(Ask(1))
    talk.exchange()
    talk.layer.cancel(number)
    assert talk.exchange() == [("agent", arrivals.Cancelled(number))]
    talk.agent.reply(number, Ask(2))
    assert talk.exchange() == []


def test_numbers_wrap_and_skip_what_is_open() -> None:
    talk = Transcript()
    first = talk.layer.request(Ask(1))
    talk.layer._requests._last = 0xFFFFFFFF
    assert (first, talk.layer.request(Ask(2))) == (1, 2)


def test_no_more_requests_than_the_peer_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_OPEN", 2)
    talk = Transcript()
    one, _ = talk.layer.request(Ask(1)), talk.layer.request(Ask(2))
    talk.exchange()
    talk.layer.cancel(one)  # the peer may still be at it
    assert talk.layer.full
    with pytest.raises(PeerError, match="more than 2"):
        talk.layer.request(Ask(3))
    talk.exchange()
    talk.agent.fail(one, PeerError("cancelled"), "")
    talk.exchange()
    assert not talk.layer.full


def test_an_answer_too_large_leaves_the_request_open_for_an_error() -> None:
    talk = Transcript()
    number = talk.layer.request(Ask(1))
    talk.exchange()
    with pytest.raises(ValueError, match="larger than the wire allows"):
        talk.agent.reply(number, Data(bytes(wire.MAX_BLOB + 1)))
    talk.agent.fail(number, PeerError("too large"), "")
    ((_, answer),) = talk.exchange()
    assert isinstance(answer, arrivals.Answered) and str(answer.error) == "too large"


def test_an_unknown_message_costs_only_itself() -> None:
    raw = Raw()
    assert raw.say(wire.REQUEST, 1, "test-mux/Gone", b"\0\x80") == []
    assert raw.say(wire.OPEN, 1, "test-mux/Gone", b"\0\x80") == []
    (event,) = raw.say(wire.EVENT, 0, "test-mux/Gone", b"\0\x80")
    assert isinstance(event, arrivals.Unknown)
    kinds = [frame.kind for frame, _, _ in wire.unpack(raw.mux.take())]
    assert kinds == [wire.ERROR, wire.RESET]
    assert raw.say(wire.REQUEST, 1, *ASKED) == [arrivals.Requested(1, Ask(1))]


def test_an_answer_nobody_can_read_fails_its_request_only() -> None:
    raw = Raw(initiator=True)
    number = raw.mux.request(Ask(1))
    (answer,) = raw.say(wire.REPLY, number, "test-mux/Gone", b"\0\x80")
    assert answer.id == number and isinstance(answer.error, PeerError)


# Order, loss ------------------------------------------------------------------------------------


def test_what_arrives_twice_is_dropped_and_a_gap_is_an_error() -> None:
    raw = Raw()
    frame = Frame(wire.EVENT, 0, *ASKED)
    assert raw.send(frame, 1) == [arrivals.Happened(Ask(1))]
    assert raw.send(frame, 1) == []
    with pytest.raises(PeerError, match="frame 2 is missing: 3"):
        raw.send(frame, 3)


def test_acknowledgements() -> None:
    talk = Transcript()
    assert talk.layer.settled and not talk.agent.owes
    talk.layer.event(Ask(1))
    talk.carry("layer")
    assert not talk.layer.settled and talk.agent.owes
    talk.layer.ping()
    talk.exchange()
    assert talk.layer.settled and not talk.agent.owes
    with pytest.raises(PeerError, match="never sent"):
        Raw().send(Frame(wire.PING), 0, acknowledged=1)


def test_many_pings_are_one_pong() -> None:
    raw = Raw()
    for _ in range(100):
        raw.send(Frame(wire.PING), 0)
    assert [frame.kind for frame, _, _ in wire.unpack(raw.mux.take())] == [wire.PONG]
    assert raw.mux.take() == []


# Streams ----------------------------------------------------------------------------------------


def test_a_stream_with_half_close_both_ways() -> None:
    talk = Transcript()
    number = opened(talk)
    talk.layer.write(number, b"question")
    talk.layer.end(number)
    talk.exchange()
    with pytest.raises(BrokenPipeError):
        talk.layer.write(number, b"more")
    talk.agent.write(number, b"answer")
    talk.agent.end(number)
    assert talk.exchange() == [
        ("layer", arrivals.Received(number, b"answer")),
        ("layer", arrivals.Ended(number)),
    ]
    assert talk.lines == [
        f"layer: data {number} 8 bytes",
        f"layer: end {number}",
        f"agent: data {number} 6 bytes",
        f"agent: end {number}",
    ]
    assert not talk.layer._streams and not talk.agent._streams and not talk.agent._theirs


def test_credit_bounds_the_writer_and_comes_back() -> None:
    talk = Transcript()
    number = opened(talk)
    assert filled(talk, number) == windows.FIRST and talk.layer.room(number) == 0
    talk.agent.consumed(number, windows.CREDIT_FROM - 1)
    assert talk.exchange() == []
    talk.agent.consumed(number, 1)
    assert talk.exchange() == [("layer", arrivals.Credited(number))]
    assert filled(talk, number) == 3 * windows.CREDIT_FROM  # the window was too small: it grows
    with pytest.raises(ValueError, match="credit"):
        talk.layer.write(number, bytes(lanes.CHUNK))


def test_a_stream_that_ended_unread_counts_until_it_is_read() -> None:
    talk = Transcript()
    number = opened(talk)
    filled(talk, number)
    for side in (talk.layer, talk.agent):
        side.end(number)
    talk.exchange()
    talk.agent.consumed(number, windows.FIRST - 1)
    assert talk.exchange() == [] and talk.agent._into.used == talk.layer._out.used == windows.FIRST
    talk.agent.consumed(number, 1)
    talk.exchange()
    assert talk.agent._into.used == talk.layer._out.used == 0
    assert not talk.layer._streams and not talk.agent._streams and not talk.agent._theirs


def test_many_stalled_streams_leave_the_others_their_share() -> None:
    """The pool is as good as used up by then: what was taken must be credited in smaller pieces."""
    talk = Transcript()
    moving = opened(talk)
    talk.layer.write(moving, bytes(windows.CREDIT_FROM_TIGHT))
    talk.exchange()
    talk.agent.consumed(moving, windows.CREDIT_FROM_TIGHT)
    assert talk.exchange() == []
    stalled = [opened(talk) for _ in range(200)]
    for number in stalled:
        assert filled(talk, number) >= windows.LEAST
    assert talk.agent._into.used <= windows.TO_AGENT + len(stalled) * windows.LEAST
    out = talk.layer._out
    whole = windows.reach(out.size - out.used, out.size)
    assert talk.layer.room(moving) == whole > windows.LEAST  # credited when it became tight
    for _ in range(8):
        talk.layer.write(moving, bytes(windows.LEAST))
        talk.exchange()
        talk.agent.consumed(moving, windows.LEAST)
        talk.exchange()
    for number in stalled:
        talk.layer.reset(number)
    talk.exchange()
    assert talk.agent._into.used == talk.layer._out.used == 0
    assert talk.agent.queued == talk.layer.queued == 0


def test_a_stalled_stream_does_not_delay_its_sibling() -> None:
    talk = Transcript()
    stalled, moving = opened(talk), opened(talk)
    filled(talk, stalled)
    for _ in range(8):
        assert write_all(talk, moving, lanes.CHUNK) == lanes.CHUNK
        talk.exchange()
        talk.agent.consumed(moving, lanes.CHUNK)
        talk.exchange()


def test_lanes_take_turns_and_control_goes_first() -> None:
    talk = Transcript()
    one, two = opened(talk), opened(talk)
    write_all(talk, one, 2 * lanes.CHUNK)
    write_all(talk, two, 2 * lanes.CHUNK)
    talk.layer.request(Data(bytes(mux.BULK_FROM)))
    talk.layer.event(Ask(1))
    talk.carry("layer")
    data = [f"layer: data {number} {lanes.CHUNK} bytes" for number in (one, two)]
    assert talk.lines == [
        "layer: event 0 test-mux/Ask",
        *data,
        "layer: request 1 test-mux/Data",
        *data,
    ]


def test_a_message_holds_a_bounded_amount_of_bulk() -> None:
    talk = Transcript()
    for number in [opened(talk) for _ in range(8)]:
        write_all(talk, number, lanes.LANE_ROOM)
    while parts := talk.layer.take():
        assert sum(map(len, parts)) <= mux.BULK_PER_TURN + lanes.CHUNK + 1000
        talk.agent.receive([bytes(part) for part in parts])
    assert talk.layer.queued == 0


def test_messages_of_the_largest_frames_fit_the_wire() -> None:
    talk = Transcript()
    for _ in range(40):
        talk.layer.event(Data(bytes(300)))
        talk.layer.event(Ask(1))
    talk.layer.event(Large(bytes(wire.MAX_BLOB)))
    for _ in range(4):
        talk.layer.request(Data(bytes(wire.MAX_BLOB)))
    assert sum(not isinstance(event, arrivals.Ponged) for _, event in talk.exchange()) == 85


def test_reset_drops_what_waits_and_tells_why() -> None:
    talk = Transcript()
    number = opened(talk)
    talk.layer.write(number, b"x")
    talk.layer.reset(number, PermissionError(13, "no"), "x")
    ((side, broken),) = talk.exchange()
    assert side == "agent" and isinstance(broken.error, PermissionError)  # type: ignore[union-attr]
    assert talk.lines == [f"layer: reset {number}"]
    assert talk.layer.queued == 0 and not talk.agent._theirs


def test_a_stream_reset_before_it_left_was_never_there() -> None:
    talk = Transcript()
    talk.layer.reset(talk.layer.open(Ask(1)))
    assert talk.exchange() == [] and talk.lines == []
