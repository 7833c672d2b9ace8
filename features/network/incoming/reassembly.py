"""What an application's clients sent, out of copied segments: bytes in order, ends, resets. Pure.

A connection is copied from its SYN on, once the application has answered that. One that is not (older than
the session, or its copy ended) is joined where a segment begins with an HTTP/1 request line and all before it
is answered. What the application has acknowledged and we have not can come no more: that copy ends.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from attrs import define, frozen

from pymirror.features.network.incoming.ordering import Ordered, ahead
from pymirror.features.network.incoming.segments import ACK, FIN, RST, SYN, Segment

HELD, ALL_HELD = 256 << 10, 8 << 20
"""Bytes out of order, of a connection and of all."""
MOST, MOST_OPENING, MOST_OLDER = 4096, 1024, 4096
"""Connections: copied, waiting for the application's answer to their SYN, and waiting to be joined."""
MOST_GONE = 16384
"""Connections that have ended and are still known: a late segment of one is no older connection's."""
FAR = 64 << 20
"""Bytes: no window is so large, so it is another connection with the same ports, whose SYN was missed."""
IDLE, CLOSING = 3600.0, 60.0
"""Seconds without a segment: of a living connection, and of one that is half there."""

GAP = "segments did not come to the copy"
TOO_MUCH = "too much came out of order"
TOO_MANY = "too many connections at once"
SILENT = "nothing came for an hour"
UNJOINED = "they are older than the session and no HTTP/1 request begins on them"

_REQUEST = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32} [^\s]{1,65536} HTTP/1\.[01]\r?\n")

T = TypeVar("T")
Key = tuple[bytes, int, bytes, int]
"""Client's address and port, then the application's."""


class Stage(enum.Enum):
    OPENING = 1
    COPIED = 2
    OLDER = 3
    """Not copied (any more, or yet); `inflow` begins at what the application has acknowledged."""


@define(eq=False)
class Connection:
    """answer: the sequence number of what the application sends next, as far as it came; None: nothing came.
    answered: it spoke last. certain: we know where it stands; not so at an older connection's first segment.
    end: position of the client's FIN; ended: all before it came. renew: see `Table.renew`.
    told: that it is not copied."""

    key: Key
    stage: Stage
    inflow: Ordered
    seen: float
    answer: int | None = None
    answered: bool = True
    certain: bool = True
    end: int | None = None
    ended: bool = False
    answer_ended: bool = False
    renew: bool = False
    told: bool = False
    rival: Connection | None = None

    @property
    def port(self) -> int:
        return self.key[3]


@frozen(eq=False)
class Began:
    """Also anew, for one that has begun: the next request, on a copy of its own."""

    connection: Connection


@frozen(eq=False)
class Bytes:
    connection: Connection
    data: bytes


@frozen(eq=False)
class Ended:
    """The client will send no more."""

    connection: Connection


@frozen(eq=False)
class WasReset:
    connection: Connection


@frozen(eq=False)
class Lost:
    """The copy ended before the connection did."""

    connection: Connection
    reason: str


Event = Began | Bytes | Ended | WasReset | Lost
_NOTHING: Sequence[Event] = ()


class Table:
    """The connections to `ports`. here: whether an address is one of the namespace's own.

    now: seconds, set by whoever gives the segments.
    """

    def __init__(self, here: Callable[[bytes], bool]) -> None:
        self.ports: set[int] = set()
        self.now = 0.0
        self._here = here
        self._known: dict[Key, Connection] = {}
        self._of: dict[Stage, dict[Key, None]] = {stage: {} for stage in Stage}
        self._gone: dict[Key, None] = {}
        self._held = 0

    def copied(self) -> set[int]:
        """Ports with connections that are being copied."""
        return {key[3] for key in self._of[Stage.COPIED]}

    def segment(self, segment: Segment) -> Sequence[Event]:
        """What it adds."""
        key = (segment.source, segment.source_port, segment.target, segment.target_port)
        connection = self._known.get(key)
        if connection is not None:
            return self._from_client(connection, segment)
        connection = self._known.get(key[2:] + key[:2])
        if connection is not None:
            return self._from_application(connection, segment)
        if segment.target_port in self.ports:
            return self._from_stranger(key, segment)
        return _NOTHING

    def renew(self, connection: Connection) -> None:
        """Whoever reads this copy wants no further request on it: the next one has `Began` before it."""
        connection.renew = True

    def forget(self, connection: Connection) -> None:
        """Copy no more of it, but for what follows the next beginning of a request."""
        known = self._known.get(connection.key) is connection
        if known and connection.stage is Stage.COPIED and not connection.ended:
            self._restart(connection, connection.inflow.sequence)
            self._move(connection, Stage.OLDER)
            connection.told = True

    def expire(self) -> list[Event]:
        """What has gone silent. Call it from time to time."""
        events: list[Event] = []
        for each in list(self._known.values()):
            half = each.stage is Stage.OPENING or each.ended or each.answer_ended
            if self.now - each.seen > (CLOSING if half else IDLE):
                if each.stage is Stage.COPIED and not each.ended:
                    events.append(WasReset(each) if half else Lost(each, SILENT))
                self._drop(each)
        return events

    # From the client ------------------------------------------------------------------------

    def _from_stranger(self, key: Key, segment: Segment) -> Sequence[Event]:
        syn = segment.flags & (SYN | ACK | RST) == SYN
        if not (syn or (segment.data and key not in self._gone)) or not self._here(key[2]):
            return _NOTHING
        if syn:
            self._add(self._opening(key, segment))
            return _NOTHING
        older = Connection(key, Stage.OLDER, Ordered(segment.sequence), self.now, certain=False)
        self._add(older)
        return self._to_older(older, segment)

    def _opening(self, key: Key, segment: Segment) -> Connection:
        made = Connection(key, Stage.OPENING, Ordered(segment.sequence + 1), self.now)
        if self._held + len(segment.data) <= ALL_HELD:
            made.inflow.keep(0, segment.data)  # fast open
        return made

    def _from_client(self, connection: Connection, segment: Segment) -> Sequence[Event]:
        if segment.flags & SYN:
            return self._again(connection, segment)
        connection.seen = self.now
        if segment.flags & RST:
            return self._reset_by_client(connection, segment)
        if connection.stage is Stage.OLDER:
            return self._to_older(connection, segment)
        if connection.ended:
            return _NOTHING
        position = connection.inflow.position(segment.sequence)
        if abs(position - connection.inflow.at) > FAR:
            return self._lose(connection, GAP)
        if segment.flags & FIN and connection.end is None:
            connection.end = position + segment.size
        if connection.renew and position == connection.inflow.at and self._may_join(connection, segment):
            connection.renew = False
            return [Began(connection), *self._arrived(connection, position, segment.data)]
        return self._arrived(connection, position, segment.data)

    def _arrived(self, connection: Connection, position: int, data: bytes) -> Sequence[Event]:
        inflow = connection.inflow
        if connection.stage is Stage.OPENING:  # it came before what tells that it was accepted
            if max(inflow.held, self._held - ALL_HELD + HELD) + len(data) <= HELD:
                self._hold(inflow, lambda: inflow.keep(position, data))
            return _NOTHING
        ready = data
        if position != inflow.at or inflow.held:
            ready = self._hold(inflow, lambda: inflow.add(position, data))
            if lost := self._bounded(connection):
                return lost
        else:
            inflow.at += len(data)
        events: list[Event] = []
        if ready:
            connection.answered = False
            events.append(Bytes(connection, ready))
        if connection.end == inflow.at and not connection.ended:
            connection.ended = True
            events.append(Ended(connection))
            self._drop_if_over(connection)
        return events

    def _to_older(self, connection: Connection, segment: Segment) -> Sequence[Event]:
        """Joined, if a request begins with this segment."""
        distance, wanted = ahead(segment.sequence, connection.inflow.sequence), connection.port in self.ports
        joins = wanted and not (connection.certain and distance) and self._may_join(connection, segment)
        if joins and not self._is_full():
            self._restart(connection, segment.sequence)
            self._move(connection, Stage.COPIED)
            connection.end = segment.size if segment.flags & FIN else None
            return [Began(connection), *self._arrived(connection, 0, segment.data)]
        events = [Lost(connection, TOO_MANY)] if joins else _NOTHING
        if segment.flags & FIN:
            self._drop(connection)
        elif segment.data and distance >= 0:
            if wanted and not distance and self._is_other(connection, segment):
                connection.told, events = True, [Lost(connection, UNJOINED)]
            connection.answered, connection.certain = False, True
        return events

    def _is_other(self, connection: Connection, segment: Segment) -> bool:
        """Something begins here, after an answer, and it is no request of HTTP/1; nobody knows that yet."""
        begins = connection.certain and connection.answered and not connection.told
        return begins and _REQUEST.match(segment.data) is None

    def _may_join(self, connection: Connection, segment: Segment) -> bool:
        return (
            connection.answered
            and (connection.answer is None or ahead(segment.acknowledged, connection.answer) >= 0)
            and _REQUEST.match(segment.data) is not None
        )

    def _again(self, connection: Connection, segment: Segment) -> Sequence[Event]:
        """A SYN of the same two ports: sent again, or of a next connection if the application says so."""
        if segment.flags & ACK or connection.inflow.first == (segment.sequence + 1) & 0xFFFFFFFF:
            return _NOTHING
        rival = self._opening(connection.key, segment)
        if connection.stage is Stage.OPENING:
            self._drop(connection)
            self._add(rival)
        else:
            rival.inflow = Ordered(rival.inflow.first)  # what it brings already is bounded for nobody
            connection.rival = rival
        return _NOTHING

    def _reset_by_client(self, connection: Connection, segment: Segment) -> Sequence[Event]:
        if not 0 <= ahead(segment.sequence, connection.inflow.sequence) <= FAR:
            return _NOTHING  # an old one, or of what an agent that steals the port passes on as the client
        return self._reset(connection)

    # From the application -------------------------------------------------------------------

    def _from_application(self, connection: Connection, segment: Segment) -> Sequence[Event]:
        flags, inflow = segment.flags, connection.inflow
        rival = connection.rival
        if rival is not None and flags & SYN and rival.inflow.position(segment.acknowledged) == 0:
            return self._succeed(connection, rival, segment)
        connection.seen = self.now
        if flags & RST:
            return self._reset(connection)
        events, position = _NOTHING, inflow.position(segment.acknowledged)
        if not flags & ACK:
            return _NOTHING
        if connection.stage is Stage.OPENING:
            if not 0 <= position <= FAR:
                return _NOTHING
            events = self._opened(connection)
        self._answers(connection, segment)
        if not inflow.at - FAR <= position <= inflow.at and not connection.ended:
            events = [*events, *self._lose(connection, GAP)]
            self._restart(connection, segment.acknowledged)
        self._drop_if_over(connection)
        return events

    def _opened(self, connection: Connection) -> Sequence[Event]:
        if self._is_full():
            self._move(connection, Stage.OLDER)
            return [Lost(connection, TOO_MANY)]
        self._move(connection, Stage.COPIED)
        return [Began(connection), *self._arrived(connection, 0, b"")]

    def _answers(self, connection: Connection, segment: Segment) -> None:
        ends = bool(segment.flags & (SYN | FIN))
        after = (segment.sequence + segment.size + ends) & 0xFFFFFFFF
        if connection.answer is None or ahead(after, connection.answer) > 0:
            connection.answer = after
            connection.answered = connection.answered or segment.size > 0
        if segment.flags & FIN:
            connection.answer_ended = True

    def _succeed(self, connection: Connection, rival: Connection, segment: Segment) -> Sequence[Event]:
        events = self._reset(connection)
        self._add(rival)
        return [*events, *self._from_application(rival, segment)]

    # What becomes of it ---------------------------------------------------------------------

    def _reset(self, connection: Connection) -> Sequence[Event]:
        copied = connection.stage is Stage.COPIED and not connection.ended
        self._drop(connection)
        return [WasReset(connection)] if copied else _NOTHING

    def _lose(self, connection: Connection, reason: str) -> Sequence[Event]:
        was = connection.stage
        self.forget(connection)
        return [Lost(connection, reason)] if was is Stage.COPIED else _NOTHING

    def _hold(self, inflow: Ordered, change: Callable[[], T]) -> T:
        before = inflow.held
        made = change()
        self._held += inflow.held - before
        return made

    def _bounded(self, connection: Connection) -> Sequence[Event]:
        held = connection.inflow.held
        if held > HELD or (held and self._held > ALL_HELD):
            return self._lose(connection, TOO_MUCH)
        return _NOTHING

    def _is_full(self) -> bool:
        return len(self._of[Stage.COPIED]) >= MOST

    def _restart(self, connection: Connection, sequence: int) -> None:
        self._held -= connection.inflow.held
        connection.inflow = Ordered(sequence)
        connection.end, connection.ended, connection.renew, connection.certain = None, False, False, True

    def _drop_if_over(self, connection: Connection) -> None:
        if connection.ended and connection.answer_ended:
            self._drop(connection)

    def _add(self, connection: Connection) -> None:
        group = self._of[connection.stage]
        if len(group) >= (MOST_OPENING if connection.stage is Stage.OPENING else MOST_OLDER):
            self._drop(self._known[next(iter(group))])
        self._gone.pop(connection.key, None)
        self._known[connection.key] = connection
        group[connection.key] = None
        self._held += connection.inflow.held

    def _move(self, connection: Connection, stage: Stage) -> None:
        del self._of[connection.stage][connection.key]
        connection.stage = stage
        group = self._of[stage]
        if stage is Stage.OLDER and len(group) >= MOST_OLDER:
            self._drop(self._known[next(iter(group))])
        group[connection.key] = None

    def _drop(self, connection: Connection) -> None:
        if self._known.pop(connection.key, None) is None:
            return
        del self._of[connection.stage][connection.key]
        self._held -= connection.inflow.held
        self._gone[connection.key] = None
        if len(self._gone) > MOST_GONE:
            del self._gone[next(iter(self._gone))]
