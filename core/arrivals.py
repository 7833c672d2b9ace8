"""What a mux tells its owner about what arrived: values, handled in the order given."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from pymirror.core.errors import PeerError


@frozen
class Requested:
    """The peer asks; answer with `reply` or `fail` under `id`."""

    id: int
    message: Any


@frozen
class Happened:
    message: Any


@frozen
class Unknown:
    """An event nobody here can read; the session goes on without it."""

    error: PeerError


@frozen
class Answered:
    """Our request `id` has its answer, or the exception to raise."""

    id: int
    message: Any = None
    error: Exception | None = None


@frozen
class Cancelled:
    """The peer no longer waits for request `id`."""

    id: int


@frozen
class Opened:
    stream: int
    message: Any


@frozen
class Received:
    stream: int
    data: bytes


@frozen
class Credited:
    """The writer of `stream` may go on."""

    stream: int


@frozen
class Ended:
    """The peer closed its writing half."""

    stream: int


@frozen
class Broken:
    """The stream is gone, both halves. error: why, where the peer gave a reason."""

    stream: int
    error: Exception | None = None


@frozen
class Ponged:
    pass


@frozen
class Refused:
    """The peer will not talk to us at all."""

    error: Exception


Event = (
    Requested
    | Happened
    | Unknown
    | Answered
    | Cancelled
    | Opened
    | Received
    | Credited
    | Ended
    | Broken
    | Ponged
    | Refused
)
