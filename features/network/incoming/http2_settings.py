"""What one side of an HTTP/2 connection asks of the other. Pure."""

from __future__ import annotations

from attrs import evolve, frozen

from pymirror.features.network.incoming.http2_frames import (
    FLOW_CONTROL_ERROR,
    LARGEST_NUMBER,
    PROTOCOL_ERROR,
    Wrong,
)
from pymirror.features.network.incoming.http2_headers import MOST, TABLE

MOST_STREAMS = 1000
UNLIMITED = (1 << 32) - 1
DEFAULT_WINDOW = 65535
LARGEST_WINDOW = 1 << 20
"""Bytes of one stream that a client may have sent and nobody taken, however many the application allows."""
SMALLEST_FRAME = 16384
LARGEST_FRAME = 32 << 10
"""Bytes of a frame's payload, which is held whole; two fit into the smallest window."""

_NAMES = {
    1: "table",
    2: "push",
    3: "streams",
    4: "window",
    5: "frame",
    6: "head",
    8: "connect",
}


@frozen
class Settings:
    """table: bytes of the sender's decoder's. streams: that its peer may have open. window: bytes of a
    stream that may come unasked. frame: bytes of a payload. head: bytes of a list of headers. connect: is
    extended CONNECT (RFC 8441) known? The defaults are what holds until something else is said."""

    table: int = 4096
    push: int = 1
    streams: int = UNLIMITED
    window: int = DEFAULT_WINDOW
    frame: int = SMALLEST_FRAME
    head: int = UNLIMITED
    connect: int = 0

    def said(self) -> list[tuple[int, int]]:
        """What of it must be said."""
        values = ((number, getattr(self, name), getattr(Settings(), name)) for number, name in _NAMES.items())
        return [(number, value) for number, value, default in values if value != default]

    def heard(self, number: int, value: int) -> Settings:
        """With that one; an unknown one changes nothing. Wrong."""
        name = _NAMES.get(number)
        if name is None:
            return self
        if name == "window" and value > LARGEST_NUMBER:
            raise Wrong(FLOW_CONTROL_ERROR, f"a window of {value} bytes")
        if (name in ("push", "connect") and value > 1) or (
            name == "frame" and not SMALLEST_FRAME <= value < 1 << 24
        ):
            raise Wrong(PROTOCOL_ERROR, f"a setting {name} of {value}")
        return evolve(self, **{name: value})


BACKEND = Settings(push=0, window=LARGEST_WINDOW, head=MOST)
"""What the application and the program are asked."""
LARGEST_TABLE = 1 << 20
COPIED = Settings(streams=MOST_STREAMS, window=LARGEST_NUMBER, frame=1 << 20)
"""What a client may do of whom we do not know what the application asked of it."""


def announced(application: Settings) -> Settings:
    """What the client is asked: what the application asks, within our bounds."""
    return Settings(
        table=min(application.table, TABLE),
        streams=min(application.streams, MOST_STREAMS),
        window=min(max(application.window, DEFAULT_WINDOW), LARGEST_WINDOW),
        frame=min(application.frame, LARGEST_FRAME),
        head=min(application.head, MOST),
        connect=application.connect,
    )
