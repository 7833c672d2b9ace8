"""A mux's peer that keeps to no rule."""

from __future__ import annotations

from typing import Any

from pymirror.core import wire
from pymirror.core.message import message
from pymirror.core.mux import Mux
from pymirror.core.wire import Frame


@message("test-mux")
class Ask:
    number: int


ASKED = wire.encode(Ask(1))[:2]
"""Tag and body."""


class Raw:
    """A peer that says what it likes to a mux (the agent's side, unless told otherwise)."""

    def __init__(self, initiator: bool = False) -> None:
        self.mux, self.sequence = Mux(initiator), 0

    def say(self, kind: int, number: int = 0, tag: str = "", body: bytes = b"", *blobs: bytes) -> list[Any]:
        self.sequence += 1
        return self.send(Frame(kind, number, tag, body, blobs), self.sequence)

    def send(self, frame: Frame, sequence: int, acknowledged: int = 0) -> list[Any]:
        return list(self.mux.receive([wire.pack(frame, sequence, acknowledged), *frame.blobs]))
