"""Bytes of one direction of a TCP connection, put in order. Pure.

What is here first stays: of bytes that come again, other ones even, nothing is taken.
"""

from __future__ import annotations

_MASK, _HALF = (1 << 32) - 1, 1 << 31
PIECE = 128
"""Bytes that a piece costs beside its own: single bytes may not cost an object each."""


def ahead(one: int, other: int) -> int:
    """How far a sequence number is ahead of another one; they go round at 2**32."""
    return ((one - other + _HALF) & _MASK) - _HALF


class Ordered:
    """first: the sequence number of position 0. at: the position of the next byte in order. held: bytes kept
    beyond it, with `PIECE` for each piece."""

    def __init__(self, first: int) -> None:
        self.first = first & _MASK
        self.at = self.held = 0
        self._pieces: list[tuple[int, bytes]] = []  # by position; they neither overlap nor begin before `at`

    @property
    def sequence(self) -> int:
        """Of the next byte in order."""
        return (self.first + self.at) & _MASK

    def position(self, sequence: int) -> int:
        """The one next to `at` that has this sequence number."""
        return self.at + ((sequence - self.first - self.at + _HALF) & _MASK) - _HALF

    def add(self, position: int, data: bytes) -> bytes:
        """What is in order now."""
        if position == self.at and not self._pieces:
            self.at += len(data)
            return data
        self.keep(position, data)
        return self._take()

    def keep(self, position: int, data: bytes) -> None:
        """The same, but nothing leaves yet."""
        begin, end = max(position, self.at), position + len(data)
        fresh = []
        for at, piece in self._pieces:
            if begin < min(at, end):
                fresh.append((begin, data[begin - position : min(at, end) - position]))
            begin = max(begin, at + len(piece))
        if begin < end:
            fresh.append((begin, data[begin - position :]))
        self._pieces = sorted(self._pieces + fresh)
        self.held += sum(len(piece) + PIECE for _, piece in fresh)

    def _take(self) -> bytes:
        count, at = 0, self.at
        for position, piece in self._pieces:
            if position != at:
                break
            count, at = count + 1, at + len(piece)
        taken = b"".join(piece for _, piece in self._pieces[:count])
        del self._pieces[:count]
        self.at = at
        self.held -= len(taken) + PIECE * count
        return taken
