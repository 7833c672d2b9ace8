"""What a mirrored client's HTTP/1 connection has for the local program: its requests that match. Pure.

There are the client's bytes alone: what the application answered, and so whether it made an upgrade, is not
known. After a request that asked for one, what is no HTTP any more is taken for the other protocol's.
"""

from __future__ import annotations

from collections import deque

from pymirror.features.network.incoming.body import Body
from pymirror.features.network.incoming.http1 import Head, Piece, Requests
from pymirror.features.network.incoming.http_filter import Deciding


class Copy:
    """most: bytes of a body that are held for the filter."""

    def __init__(self, matcher: Deciding, most: int) -> None:
        self._matcher, self._most = matcher, most
        self._requests = Requests(content=matcher.needs_body)
        self._pieces: deque[Piece] = deque()  # of a request that waits for its body
        self._waiting = 0  # bytes of these
        self._body: Body | None = None
        self._taken = self._upgrades = self._inside = False  # the last request

    def feed(self, data: bytes) -> bytes:
        """What of it, and of what was held, goes to the program."""
        for piece in self._requests.feed(data):
            self._pieces.append(piece)
            self._waiting += len(piece.raw)
        return self._go_on()

    @property
    def held(self) -> int:
        """Bytes: of a head that is not whole, and of a request that waits for its body."""
        return self._requests.held + self._waiting

    def _go_on(self) -> bytes:
        out = []
        while self._pieces:
            piece = self._pieces[0]
            if piece.head is not None and not self._begins(piece.head):
                break
            self._pieces.popleft()
            self._waiting -= len(piece.raw)
            if piece.lost and not (self._inside or self._upgrades):
                self._taken = False
            self._inside = not piece.ends
            if self._taken:
                out.append(piece.raw)
        return b"".join(out)

    def _begins(self, head: Head) -> bool:
        """Is it known whose the request is?"""
        decision = self._matcher.decide(head.method, head.target, head.headers)
        if decision is None:
            self._body = body = self._body or Body(self._most)
            if body.whole(self._pieces):
                decision = self._matcher.decide(head.method, head.target, head.headers, bytes(body.content))
            elif not body.given_up:
                return False
        self._body = None
        self._taken, self._upgrades = decision is not None and decision.matches, head.upgrades
        return True
