"""Which side an answer is of, said in a header of it (`agent.inject_headers`). Pure."""

from __future__ import annotations

from collections.abc import Sequence

from pymirror.features.network.incoming.http1 import BLANK, Piece
from pymirror.features.network.incoming.http2_headers import Head, plain

NAME = b"Pymirror-Agent"
VALUES = {False: b"passed-through", True: b"forwarded-to-client"}
"""By whether it is the program's."""
_LINES = {taken: b"%s: %s\r\n" % (NAME, value) for taken, value in VALUES.items()}
_FIELDS = {taken: plain([(NAME.lower(), value)]).fields for taken, value in VALUES.items()}


def marked(data: bytes, pieces: Sequence[Piece] | None, taken: bool) -> bytes:
    """An answer's bytes, each final head in them with the header as its last. pieces: what they are cut into,
    with what was held before; None: they are one whole answer."""
    if pieces is not None:
        return b"".join(_piece(piece, taken) for piece in pieces)
    start = len(data) - len(data.lstrip(b"\r\n")) if data[:1] in b"\r\n" else 0
    at = data.index(BLANK, start) + 2
    return b"".join((data[:at], _LINES[taken], data[at:]))


def _piece(piece: Piece, taken: bool) -> bytes:
    if piece.head is None or piece.head.status < 200:
        return piece.raw
    return b"".join((piece.raw[:-2], _LINES[taken], piece.raw[-2:]))


def marked_head(head: Head, taken: bool) -> Head:
    """The same with HTTP/2's head; trailers, and an interim one, stay as they are."""
    if head.interim or not head.get(b":status"):
        return head
    if head.marked is None:
        head.marked = Head([*head.fields, *_FIELDS[taken]])
    return head.marked
