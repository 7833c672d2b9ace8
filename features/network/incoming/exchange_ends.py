"""How one client's HTTP/1 connection ends, with the two that answer it, and what it is made of."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from pymirror.core.errors import PeerError
from pymirror.features.network.carry import Bytes
from pymirror.features.network.incoming.budget import Share
from pymirror.features.network.incoming.choice import Choice
from pymirror.features.network.incoming.http1 import Piece, Requests
from pymirror.features.network.incoming.limits import GONE, PAGE, Limits
from pymirror.features.network.incoming.outlet import Outlet, Side, Timers


class Ends:
    """The part of an exchange (`exchange.py`, which makes `_choice` and `_requests`) that ends it."""

    _choice: Choice
    _requests: Requests

    def __init__(
        self,
        client: Bytes,
        limits: Limits,
        told: Callable[[str], object],
        over: Callable[[], object],
        marks: bool,
        share: Share,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._client, self._stream = Outlet(client), client
        self._limits, self._told, self._over = limits, told, over
        self._marks, self._share = marks, share
        self._waiting = self._counted = 0  # bytes of the client's that no side was given; and of sides, too
        self._sides: dict[bool, Side] = {}
        self._active: Side | None = None
        self._pieces: deque[Piece] = deque()  # of requests, not passed on yet
        self._inside = False  # a request is being passed on
        self._raw = self._refused = False  # refused: what the client says is thrown away
        self._ended = self._heard = self.closed = False
        self._timers = Timers()

    def cancel(self) -> None:
        """End all of it now, by reset."""
        if self.closed:
            return
        self._stream.close()
        for side in self._sides.values():
            side.gone = True
            if side.stream is not None:
                side.stream.close()
        self._finish()

    def _to_client(self, data: bytes) -> None:
        try:
            if data:
                self._client.write(data)
        except (OSError, PeerError):
            self.cancel()

    def _count(self) -> None:
        held = 0 if self.closed else self._waiting + sum(len(side.unsent) for side in self._sides.values())
        if held != self._counted:
            self._share.add(held - self._counted)
            self._counted = held

    def _side_ended(self, side: Side) -> None:
        side.ended = True
        if side is not self._active or self._is_idle(side):
            self._drop(side)
        elif self._unanswered(side):
            self._bad_gateway(side)
        else:
            if self._marks:  # half a head was held back
                self._to_client(b"".join(piece.raw for piece in side.answers.give_up("its end")))
            self._end_client()

    def _broken(self, side: Side) -> None:
        if side.gone:
            return
        if side is not self._active or self._is_idle(side):
            self._drop(side)
        elif self._unanswered(side):
            self._bad_gateway(side)
        elif side.taken and not self._is_busy(side):
            self._end_client()  # as a server that closes an idle connection
            self._drop(side)
        else:
            self.cancel()

    def _is_idle(self, side: Side) -> bool:
        """May the connection go on without it?"""
        return not self._is_busy(side) and (self._ended or len(self._sides) > 1)

    def _is_busy(self, side: Side) -> bool:
        return bool(side.answers.pending or self._inside or self._raw)

    def _unanswered(self, side: Side) -> bool:
        """Was the program asked, and did it say nothing?"""
        return side.taken and side.answers.pending > 0 and side.answers.between and not self._client.ends

    def _drop(self, side: Side) -> None:
        side.gone = True
        del self._sides[side.taken]
        if side is self._active:
            self._active = None
        if side.stream is not None:
            if side.ended:
                side.stream.end()
            else:
                side.stream.close()
        self._end_if_done()

    def _bad_gateway(self, side: Side) -> None:
        self._told("the local program's connection ended before it answered: 502")
        self._refused = True
        self._pieces.clear()
        self._waiting = 0
        self._to_client(PAGE if side.answers.asked == b"HEAD" else PAGE + GONE)
        self._end_client()
        self._drop(side)
        for other in self._sides.values():
            self._end_side(other)

    def _end_client(self) -> None:
        """No answer will come any more. What the client still says is for the active side."""
        self._raw = True
        self._timers.set(self._lingers, self._limits.linger)
        try:
            self._client.end()
        except (OSError, PeerError):
            self.cancel()
        self._end_if_done()

    def _lingers(self) -> None:
        if self._heard:
            self._heard = False
            self._timers.set(self._lingers, self._limits.linger)
        else:
            self.cancel()

    def _end_side(self, side: Side) -> None:
        try:
            side.end()
        except (OSError, PeerError):
            self._loop.call_soon(self._broken, side)

    def _end_if_done(self) -> None:
        """Once the client has ended and all it said was passed on: the sides' ends, its own, all."""
        if self.closed or not self._ended or self._pieces:
            return
        for side in self._sides.values():
            self._end_side(side)
        if not self._client.ends and not self._sides:
            self._end_client()
        elif self._stream.broken is not None and all(side.ended for side in self._sides.values()):
            self._finish()

    def _finish(self) -> None:
        """Streams whose both directions have ended close by themselves, once all was taken."""
        self._leave()
        self._loop.call_soon(self._over)

    def _leave(self) -> None:
        self.closed = True
        self._count()
        self._choice.close()
        self._pieces.clear()  # what is held is not to wait for the garbage collector
        self._requests.give_up("it is over")
        for each in (self._client, *self._sides.values()):
            each.unsent = b""
        self._timers.cancel()
