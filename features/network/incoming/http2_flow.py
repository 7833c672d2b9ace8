"""One stream of one side of an HTTP/2 connection. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import MutableSequence
from typing import TYPE_CHECKING, Any, Protocol

from pymirror.features.network.incoming.http2_headers import Head

if TYPE_CHECKING:
    from pymirror.features.network.incoming.http2_sending import Sending


class Flow:
    """number: 0 while it waits to be opened. other: the same stream on the side it goes to or comes from.

    To be sent: queue, in which what came from `other` waits; then the end if `ends`, then RST_STREAM if
    `after`. window: bytes of data that the peer allows.
    Received: allowed, bytes of data that may still come; owed, those that left and are not allowed again yet;
    prepaid, those that were allowed again before they left. answered: its head came, no interim one.
    asked: the request's head. extended: it is an extended CONNECT (RFC 8441).
    """

    __slots__ = (
        "after",
        "allowed",
        "answered",
        "asked",
        "begun",
        "closed",
        "ends",
        "extended",
        "got_end",
        "number",
        "other",
        "owed",
        "prepaid",
        "queue",
        "sent_end",
        "side",
        "window",
    )

    def __init__(self, side: Sending, number: int = 0) -> None:
        self.side, self.number = side, number
        self.other: Flow | None = None
        self.queue: deque[Head | bytes | memoryview] = deque()
        self.window = self.allowed = self.owed = self.prepaid = 0
        self.after: int | None = None
        self.asked: Head | None = None
        self.begun = self.ends = self.sent_end = self.got_end = False
        self.closed = self.answered = self.extended = False


SMALL = 512


def append(queue: MutableSequence[Any], item: Head | bytes) -> None:
    """A piece of a few bytes costs fifty more to keep: small ones are joined."""
    if queue and type(item) is bytes:
        last = queue[-1]
        if type(last) is bytes and len(last) < SMALL:
            queue[-1] = last + item
            return
    queue.append(item)


class Hears(Protocol):
    """What a side tells. ends: nothing more comes on that stream."""

    def came(self, flow: Flow, head: Head, ends: bool) -> None:
        """A new stream of the peer's."""

    def head(self, flow: Flow, head: Head, ends: bool) -> None:
        """The head of an answer, an interim one, or trailers."""

    def data(self, flow: Flow, data: bytes, ends: bool) -> None: ...

    def reset(self, flow: Flow, code: int) -> None:
        """The stream is over: by the peer, by its fault, or as it was left out when it went away."""

    def unable(self, flow: Flow) -> None:
        """It cannot be opened: it is an extended CONNECT, and the peer knows none."""

    def settled(self) -> None:
        """The first SETTINGS are there."""

    def leaving(self, last: int, code: int) -> None:
        """GOAWAY; streams of ours with a greater number than `last` were not looked at."""
