"""A request's body that the filter must see, held up to its end or a limit. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from pymirror.features.network.incoming.http1 import Piece


class Body:
    """content: of what came. given_up: why the filter will not see it."""

    def __init__(self, most: int) -> None:
        """most: bytes as they came; a chunked body's framing is held too, so it counts."""
        self.content = bytearray()
        self.given_up = ""
        self._most, self._size, self._seen = most, 0, 0

    def whole(self, pieces: Sequence[Piece]) -> bool:
        """Is it, with these? They begin with its head's, as they did the last time."""
        while self._seen < len(pieces) and not self.given_up:
            piece = pieces[self._seen]
            self._seen += 1
            self.content += piece.content
            self._size += 0 if piece.head is not None else len(piece.raw)
            if self._size > self._most:
                self.given_up = f"its body is longer than {self._most} bytes"
            elif piece.lost:
                self.given_up = "its body is no HTTP"
            elif piece.ends:
                return True
        return False
