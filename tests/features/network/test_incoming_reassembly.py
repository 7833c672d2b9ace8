"""Segments in any order, doubled, cut anew or missing: the client's bytes, or a copy that says it ended."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from pymirror.features.network.incoming import reassembly as r
from pymirror.features.network.incoming.segments import ACK, FIN, RST, Segment
from tests.features.network.tcp_words import APPLICATION, PORT, Talk

TALK = Talk()
GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"


def local(address: bytes) -> bool:
    return address == APPLICATION


@define
class Heard:
    """said: the events in words; data of one copy is joined."""

    table: r.Table = field(factory=lambda: r.Table(local))
    said: list[str | bytes] = field(factory=list)
    last: r.Connection | None = None

    def __attrs_post_init__(self) -> None:
        self.table.ports.add(PORT)

    def hear(self, segments: Iterable[Segment]) -> list[str | bytes]:
        for segment in segments:
            self.note(self.table.segment(segment))
        return self.said

    def note(self, events: Iterable[r.Event]) -> None:
        for event in events:
            self.last = event.connection
            if isinstance(event, r.Bytes):
                if isinstance(self.said[-1], bytes):
                    self.said[-1] += event.data
                else:
                    self.said.append(event.data)
            else:
                lost = isinstance(event, r.Lost)
                self.said.append(event.reason if lost else type(event).__name__)  # type: ignore[union-attr]

    @property
    def held(self) -> int:
        return self.table._held


def heard(*segments: Segment, talk: Talk = TALK) -> list[str | bytes]:
    return Heard().hear([*talk.begin(), *segments])


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[Talk, bytes, list[Segment]]:
    """The bytes of a client, whose sequence numbers may go round, in pieces that overlap, in any order."""
    data = draw(st.binary(min_size=1, max_size=400))
    talk = Talk(draw(st.one_of(st.integers(0, 2**32 - 1), st.integers(2**32 - 200, 2**32 - 1))))
    cuts = sorted(draw(st.sets(st.integers(1, len(data) - 1), max_size=12))) if len(data) > 1 else []
    whole = [talk.client(a, data[a:b]) for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    spans = draw(st.lists(st.tuples(st.integers(0, 399), st.integers(1, 100)), max_size=8))
    again = [talk.client(a, data[a : a + size]) for a, size in spans if data[a : a + size]]
    end = [talk.fin(len(data))] * draw(st.integers(1, 2))
    return talk, data, draw(st.permutations(whole + again + end))


@given(arrivals())
def test_any_order_gives_the_same_bytes_and_one_end(case: tuple[Talk, bytes, list[Segment]]) -> None:
    talk, data, segments = case
    found = Heard()
    assert found.hear([*talk.begin(), *segments]) == ["Began", data, "Ended"]
    assert found.held == 0
    found.hear([talk.application(len(data) + 1, 0, 5, FIN | ACK)])
    assert not found.table._known and found.said == ["Began", data, "Ended"]


@given(arrivals(), st.data())
def test_what_never_came_is_told_when_the_application_has_it(
    case: tuple[Talk, bytes, list[Segment]], choice: st.DataObject
) -> None:
    talk, data, segments = case
    gap = choice.draw(st.integers(0, len(data) - 1))
    kept = [s for s in segments if not (at := s.sequence - talk.isn - 1 & 0xFFFFFFFF) <= gap < at + s.size]
    found = Heard()
    found.hear([*talk.begin(), *kept])
    came = b"".join(each for each in found.said if isinstance(each, bytes))
    found.hear([talk.application(len(came))])
    assert data.startswith(came) and len(came) <= gap and found.said == ["Began", *[came] * bool(came)]
    found.hear([talk.application(len(came) + 1)])
    assert found.said[-1] == r.GAP and found.held == 0


def test_the_first_copy_stays() -> None:
    late = TALK.client(4, b"EFGH"), TALK.client(2, b"xxxxxx"), TALK.client(0, b"ABCDEFGH")
    assert heard(*late) == ["Began", b"ABxxEFGH"]
    assert heard(TALK.client(0, b"ABCD"), TALK.client(0, b"xxxxEF")) == ["Began", b"ABCDEF"]


@pytest.mark.parametrize(
    ("segments", "said"),
    [
        ([], []),
        ([TALK.client(0, b"x", acked=1)], [b"x"]),
        ([TALK.client(-1, b"")], []),  # a probe whether anybody is there
        ([TALK.client(0, b"abc"), TALK.client(2, b"c"), TALK.client(2)], [b"abc"]),
        (
            [TALK.client(0, b"abc"), TALK.client(3, b"d"), TALK.application(3), TALK.client(3, b"d")],
            [b"abcd"],
        ),
        ([TALK.syn(), TALK.client(0, b"abc"), TALK.syn_ack()], [b"abc"]),
        ([TALK.fin(0, b"abc"), TALK.client(4, b"no more")], [b"abc", "Ended"]),
        ([TALK.fin(0), TALK.application(1, 0, 9), TALK.application(1, 9, 9, FIN | ACK)], ["Ended"]),
        ([TALK.application(0, 0, 9, FIN | ACK), TALK.client(0, b"abc", acked=10)], [b"abc"]),
        ([TALK.application(0, 0, 0, FIN | ACK), TALK.fin(0), TALK.application(1, 1)], ["Ended"]),
        ([TALK.client(0, b"abc"), TALK.rst(3)], [b"abc", "WasReset"]),
        ([TALK.client(0, b"abc"), TALK.rst(0)], [b"abc"]),  # an old one
        ([TALK.client(0, b"abc"), TALK.rst(1 << 27)], [b"abc"]),  # of another with the same names
        ([TALK.client(0, b"abc"), TALK.application(3, 0, flags=RST)], [b"abc", "WasReset"]),
        ([TALK.fin(0, b"abc"), TALK.application(4, 0, flags=RST)], [b"abc", "Ended"]),
        ([TALK.client(0, b"abc"), TALK.application(4)], [b"abc", r.GAP]),
        ([TALK.client(1 << 27, b"abc")], [r.GAP]),
        ([TALK.client(0, b"ab")._replace(size=9), TALK.application(9)], [b"ab", r.GAP]),
    ],
)
def test_a_connection(segments: list[Segment], said: list[str | bytes]) -> None:
    assert heard(*segments) == ["Began", *said]


def test_nothing_is_copied_before_the_application_has_answered() -> None:
    found = Heard()
    assert found.hear([TALK.syn(), TALK.syn(), TALK.client(0, b"abc")]) == []
    assert found.hear([TALK.application(0)]) == ["Began", b"abc"]  # whose SYN was missed
    refused = Heard()
    assert refused.hear([TALK.syn(), TALK.application(0, -1, flags=RST | ACK), TALK.client(0, b"abc")]) == []
    assert not refused.table._known


def test_fast_open() -> None:
    for accepted in (3, 0):
        segments = [TALK.syn(b"abc"), TALK.syn_ack(accepted), TALK.client(0, b"abcd")]
        assert Heard().hear(segments) == ["Began", b"abcd"]
    assert Heard().hear([TALK.syn(b"abc"), TALK.application(0)]) == ["Began", b"abc"]


def test_only_what_is_for_a_taken_port_of_an_own_address() -> None:
    found = Heard()
    elsewhere = [s._replace(target=b"\x0a\0\0\x09") for s in (TALK.syn(), TALK.client(0, GET))]
    other = [s._replace(target_port=81) for s in (TALK.syn(), TALK.client(0, GET))]
    own = [TALK.application(0, 0, flags=2), TALK.application(0, 0, 50)]  # of the pod as a client
    assert found.hear([*elsewhere, *other, *own]) == [] and not found.table._known


def test_the_same_two_ports_again() -> None:
    next_one = Talk(900_000, 7000)
    over = [TALK.client(0, b"abc"), TALK.fin(3), TALK.application(4, 0, 2, FIN | ACK)]
    again = [*next_one.begin(), next_one.client(0, b"def")]
    assert heard(*over, *again) == ["Began", b"abc", "Ended", "Began", b"def"]
    assert heard(TALK.client(0, b"abc"), *again) == ["Began", b"abc", "WasReset", "Began", b"def"]
    assert heard(*over[:2], *again) == ["Began", b"abc", "Ended", "Began", b"def"]
    given_up = [TALK.syn(), *again]
    assert Heard().hear(given_up) == ["Began", b"def"]


def test_a_syn_that_the_application_does_not_accept_changes_nothing() -> None:
    stranger = Talk(900_000, 7000)
    segments = [TALK.client(0, b"abc"), stranger.syn(), TALK.application(3), TALK.client(3, b"def")]
    assert heard(*segments) == ["Began", b"abcdef"]


def test_bytes_out_of_order_are_bounded() -> None:
    found = Heard()
    found.hear(TALK.begin())
    found.hear(TALK.client(1 + 1000 * n, bytes(1000)) for n in range(230))
    assert found.said == ["Began"] and 230_000 < found.held <= r.HELD
    found.hear(TALK.client(1 + 1000 * n, bytes(1000)) for n in range(230, 300))
    assert found.said == ["Began", r.TOO_MUCH] and found.held == 0


def test_so_are_single_bytes() -> None:
    found = Heard()
    found.hear([*TALK.begin(), *(TALK.client(1 + 2 * n, b"x") for n in range(5000))])
    assert found.said == ["Began", r.TOO_MUCH]


def test_so_are_those_of_all_together() -> None:
    found = Heard()
    for port in range(60):
        talked = [*TALK.begin(), TALK.client(1, bytes(200_000))]
        found.hear(moved(s, port) for s in talked)
        assert found.held <= r.ALL_HELD
    assert found.said.count("Began") == 60 and found.said.count(r.TOO_MUCH) > 10


def moved(segment: Segment, by: int) -> Segment:
    """The same from another client's port."""
    if segment.target_port == PORT:
        return segment._replace(source_port=segment.source_port + by)
    return segment._replace(target_port=segment.target_port + by)


def test_connections_are_bounded() -> None:
    found = Heard()
    found.hear(moved(TALK.syn(), n) for n in range(r.MOST_OPENING + 50))
    assert len(found.table._known) == r.MOST_OPENING and found.said == []
    found.hear(moved(TALK.syn_ack(), n) for n in range(r.MOST_OPENING + 50))
    assert found.said == ["Began"] * r.MOST_OPENING  # the oldest were forgotten
    found = Heard()
    for n in range(r.MOST + 3):
        found.hear(moved(s, n) for s in TALK.begin())
    assert found.said == ["Began"] * r.MOST + [r.TOO_MANY] * 3


def test_what_is_silent_is_forgotten() -> None:
    found = Heard()
    found.hear(TALK.begin())
    found.table.now = r.IDLE
    assert found.table.expire() == []
    found.hear([TALK.client(-1)])
    found.table.now += r.IDLE
    assert found.table.expire() == []
    found.table.now += 1
    found.note(found.table.expire())
    assert found.said == ["Began", r.SILENT] and not found.table._known


@pytest.mark.parametrize(
    ("segments", "said"),
    [
        ([TALK.syn()], []),
        ([*TALK.begin(), TALK.fin(0)], ["Began", "Ended"]),
        ([*TALK.begin(), TALK.application(0, flags=FIN | ACK)], ["Began", "WasReset"]),
    ],
)
def test_what_is_half_there_sooner(segments: list[Segment], said: list[str]) -> None:
    found = Heard()
    found.hear(segments)
    found.table.now = r.CLOSING + 1
    found.note(found.table.expire())
    assert found.said == said and not found.table._known


# Older than the session ----------------------------------------------------------------------

BODY = TALK.client(0, b"part of something")
ANSWER = TALK.application(17, 0, 100)
NEXT = TALK.client(17, GET, acked=100)


@pytest.mark.parametrize(
    ("segments", "said"),
    [
        ([TALK.client(0, GET)], ["Began", GET]),
        ([TALK.fin(0, GET)], ["Began", GET, "Ended"]),
        ([TALK.client(0, b"X" * 40), TALK.client(0, GET)], []),
        ([TALK.client(0, GET[4:])], []),
        ([TALK.client(0, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")], []),
        ([BODY, ANSWER, NEXT], ["Began", GET]),
        ([BODY, ANSWER, NEXT, TALK.application(17 + len(GET))], ["Began", GET]),
        ([BODY, NEXT], []),  # a body that looks like a request: the application has not answered
        ([BODY, TALK.application(17), NEXT], []),
        ([BODY, ANSWER, NEXT._replace(acknowledged=0)], []),  # nor has the client got all of it
        ([BODY, ANSWER, TALK.client(20, GET, acked=100)], []),  # something is between
        ([BODY, ANSWER, BODY, NEXT], ["Began", GET]),
        ([BODY, ANSWER, TALK.fin(17, acked=100), NEXT], []),
        ([BODY, TALK.rst(17), NEXT], []),
        ([BODY, ANSWER, TALK.client(17, b"more", acked=100), TALK.application(21, 100, 9)], [r.UNJOINED]),
        (
            [
                *(BODY, ANSWER, TALK.client(17, b"m", acked=100)),
                *(TALK.application(18, 100, 9), TALK.client(18, b"n", acked=109)),
            ],
            [r.UNJOINED],
        ),
        (
            [
                BODY,
                ANSWER,
                TALK.client(17, b"m", acked=100),
                TALK.application(18, 100, 9),
                TALK.client(18, GET, acked=109),
            ],
            [r.UNJOINED, "Began", GET],
        ),
    ],
)
def test_an_older_connection_is_joined_at_a_request(segments: list[Segment], said: list[str | bytes]) -> None:
    assert Heard().hear(segments) == said


def test_after_a_gap_the_next_request_is_a_copy_again() -> None:
    request = len(GET)
    lost = [TALK.application(request, 0, 50)]
    found = heard(*lost, TALK.client(request, GET, acked=50), TALK.application(2 * request, 50, 50))
    assert found == ["Began", r.GAP, "Began", GET]


def test_a_connection_whose_syn_was_missed_behind_an_earlier_one_is_joined_too() -> None:
    other, size = Talk((1 << 31) + 5000, 1 << 30), len(GET)
    said = heard(
        other.client(0, GET),
        other.application(size, 0, 50),
        other.client(size, GET, acked=50),
        other.application(2 * size, 50, 50),
        other.client(2 * size, GET, acked=100),
    )
    assert said == ["Began", r.GAP, "Began", GET + GET]


def test_a_late_segment_of_what_has_ended_is_no_older_connection() -> None:
    talked = [TALK.client(0, GET), TALK.fin(len(GET)), TALK.application(len(GET) + 1, 0, 9, FIN | ACK)]
    assert heard(*talked, TALK.client(0, GET)) == ["Began", GET, "Ended"]


def test_the_next_request_is_a_copy_of_its_own_if_the_program_wants_no_more() -> None:
    found, size = Heard(), len(GET)
    found.hear([*TALK.begin(), TALK.client(0, GET)])
    assert found.last is not None
    found.table.renew(found.last)
    found.hear([TALK.client(size, b"its body"), TALK.application(size + 8, 0, 50)])
    found.hear([TALK.client(size + 8, GET, acked=50), TALK.application(2 * size + 8, 50, 50)])
    found.hear([TALK.client(2 * size + 8, GET, acked=100)])
    assert found.said == ["Began", GET + b"its body", "Began", GET + GET]


def test_what_was_forgotten_is_joined_again() -> None:
    found, size = Heard(), len(GET)
    found.hear([*TALK.begin(), TALK.client(0, GET)])
    assert found.last is not None
    found.table.forget(found.last)
    found.table.forget(found.last)
    found.hear([TALK.client(size, b"its body"), TALK.application(size + 8, 0, 50)])
    found.hear([TALK.client(size + 8, GET, acked=50)])
    assert found.said == ["Began", GET, "Began", GET]


def test_a_released_port_begins_nothing() -> None:
    found = Heard()
    found.hear([*TALK.begin(), TALK.client(0, b"abc")])
    found.table.ports.discard(PORT)
    assert found.table.copied() == {PORT}
    found.hear([TALK.client(3, b"def"), *(moved(s, 1) for s in [*TALK.begin(), TALK.client(0, GET)])])
    assert found.said == ["Began", b"abcdef"]
    found.hear([TALK.rst(6)])
    assert found.table.copied() == set()
