"""One client's HTTP/1 connection between the application and the local program: each request decided alone.

No byte of a request or an answer is changed (but for `marks`). Answers leave in the order of the requests:
what is for the other side waits until this one has answered all it was asked. So one side alone is active,
and what it says goes on as it comes; its answers are cut only to know where they end. From the first byte
that is no HTTP, after a request that is the connection's last, and after an upgrade, all bytes are the active
side's (`_raw`). Callbacks only: a connection costs no task. What is held: one read and a head each way, and a
body for the filter.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pymirror.core.errors import PeerError
from pymirror.features.network.carry import Bytes
from pymirror.features.network.incoming.budget import Share
from pymirror.features.network.incoming.choice import Choice
from pymirror.features.network.incoming.exchange_ends import Ends
from pymirror.features.network.incoming.http1 import Piece, Requests
from pymirror.features.network.incoming.http_filter import Deciding
from pymirror.features.network.incoming.limits import Limits
from pymirror.features.network.incoming.marks import marked
from pymirror.features.network.incoming.outlet import Begun, Opener, Rests, Side

READ = 64 << 10
PER_TURN = 4
"""Times one stream is read before the loop's turn is somebody else's."""


class Exchange(Ends):
    """Begins when it is made; `over` is called once, when nothing of it is left.

    application, program: ask for a new connection. first: what was read from the client before. told: gets
    words about what did not go as it should. marks: answers get a header that says whose they are.
    rest: is it the program's, what is no request? begun: where another has left off. rests(client,
    application): called between two requests of which none was the program's; True: it goes on elsewhere,
    without `over`. astray: gets the reason why all that follows is no request any more.
    """

    def __init__(
        self,
        client: Bytes,
        application: Opener,
        program: Opener,
        matcher: Deciding,
        limits: Limits,
        told: Callable[[str], object],
        over: Callable[[], object],
        first: bytes = b"",
        marks: bool = False,
        share: Share | None = None,
        rest: bool = False,
        begun: Begun | None = None,
        rests: Rests | None = None,
        astray: Callable[[str], object] = lambda why: None,
    ) -> None:
        super().__init__(client, limits, told, over, marks, share or Share(self.relieve))
        self._openers = {False: application, True: program}
        self._rest, self._rests, self._astray = rest, rests, astray
        self._requests = Requests(content=matcher.needs_body)
        self._taken: bool | None = None  # the decision about the first piece, which waits for its turn
        self._last = self._upgrading = False  # what the request being passed on is
        self._choice = Choice(matcher, limits, told, self._timers, self._to_client, self._resume)
        client.attach(self._from_client, self._client_room)
        if begun is not None:
            self._take_up(begun)
        if first:
            self._feed(first)
        self._from_client()

    def relieve(self) -> None:
        """The agent holds too much, and what this holds does not move: pass on a head as bytes, else end."""
        if self._requests.partial and not self._pieces:
            self._give_up("the agent holds too much")
        else:
            self._told("a client's connection was ended: the agent holds too much, and this did not move")
            self.cancel()

    def _take_up(self, begun: Begun) -> None:
        side = self._active = self._sides[False] = Side.begun(begun)
        self._to_client(begun.to_client)
        if begun.answer:
            self._answer(side, begun.answer)
        self._opened(side, begun.stream)
        self._count()

    def _leave_if_idle(self, side: Side) -> None:
        """To who does the same with less, if he wants it."""
        busy = self._pieces or self._inside or self._raw or self._refused or self._ended
        client = self._client.unsent or self._client.ends
        if busy or client or not self._requests.between or side.taken or not side.rests:
            return
        if len(self._sides) == 1 and side.stream is not None and self._rests is not None:
            if self._rests(self._stream, side.stream):
                side.gone = True
                self._leave()

    # From the client --------------------------------------------------------------------------

    def _from_client(self) -> None:
        try:
            for _ in range(PER_TURN):
                if self.closed or self._ended:
                    return
                if self._stream.broken is not None:
                    self.cancel()
                    return
                if not self._hungry():
                    return
                data = self._stream.read_now(READ)
                if data:
                    self._feed(data)
                else:
                    self._client_ended()
        except BlockingIOError:
            return
        except (OSError, PeerError):
            self.cancel()
            return
        self._loop.call_soon(self._from_client)

    def _hungry(self) -> bool:
        """Does all that came before lie behind us?"""
        if self._pieces:
            return self._choice.waits
        return self._active is None or not self._active.unsent

    def _feed(self, data: bytes) -> None:
        self._heard = True
        if self._refused:
            return
        self._waiting += len(data)
        if self._raw:
            self._pieces.append(Piece(data))
        else:
            pieces = self._requests.feed(data)
            self._pieces.extend(pieces)
            if pieces or self._slow not in self._timers:  # a head has its time from its first byte on
                self._timers.set(self._slow, self._limits.head if self._requests.partial else None)
        self._go_on()

    def _client_ended(self) -> None:
        self._ended = True
        self._pieces.extend(self._requests.give_up("the client's end"))
        self._go_on()
        self._end_if_done()

    def _slow(self) -> None:
        """A head takes too long; not if it is us who did not read on."""
        if self._pieces:
            self._timers.set(self._slow, self._limits.head)
            return
        self._give_up(f"it took more than {self._limits.head:g} s")

    def _give_up(self, why: str) -> None:
        self._told(f"a request's head was passed on as bytes: {why}")
        self._pieces.extend(self._requests.give_up(why))
        self._resume()

    # To a side --------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Pass on what may be."""
        pieces, out = self._pieces, list[bytes]()
        while pieces:
            piece = pieces[0]
            if not self._raw and (piece.head is not None or piece.lost) and not self._begins(piece, out):
                break
            out.append(piece.raw)
            pieces.popleft()
            if piece.ends:
                self._inside = False
                self._raw = self._raw or self._last
        self._write(out)
        self._count()

    def _write(self, out: list[bytes]) -> None:
        """To the active side; `out` is empty afterwards."""
        side, data = self._active, out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        self._waiting -= len(data)
        if data and side is not None:
            try:
                side.write(data)
            except (OSError, PeerError):
                self._broken(side)

    def _begins(self, piece: Piece, out: list[bytes]) -> bool:
        """May what follows begin? Then it is known whose it is. out: what was not written yet before it."""
        side, head = self._active, piece.head
        if side is not None and side.astray:
            self.cancel()  # nobody knows whether what comes next would be the answer to this
        if self.closed or (side is not None and (side.unsent or self._upgrading)):
            return False
        if head is None:
            if not self._inside and not self._turn(self._rest, out):
                return False
            self._raw = True  # half a message is of use only to who has its beginning
            if not self._ended:
                self._astray(self._requests.refused)
            return True
        if self._taken is None:
            waits = self._active is not None and self._active.answers.pending > 0
            self._taken = self._choice.of(head, self._pieces, waits, self._ended)
        if self._taken is None or not self._turn(self._taken, out) or self._active is None:
            return False
        self._taken, self._inside = None, not piece.ends
        self._last, self._upgrading = head.closes, head.upgrades
        self._active.answers.ask(head.method)
        return True

    def _turn(self, taken: bool, out: list[bytes]) -> bool:
        """Is it that side's, with room for one more request?"""
        side = self._active
        if side is None or side.taken is not taken:
            self._write(out)  # to the side it is for
            side = self._active
            if self.closed or not self._pieces:
                return False
            if side is not None and (side.answers.pending or side.unsent):
                return False
            side = self._active = self._side(taken)
        return side.answers.pending < self._limits.pipelined

    def _resume(self) -> None:
        self._go_on()
        self._from_client()
        self._end_if_done()

    def _side(self, taken: bool) -> Side:
        """The one there is, if it has not ended meanwhile."""
        side = self._sides.get(taken)
        if side is not None:
            self._from_side(side)
            side = self._sides.get(taken)
        if side is None:
            side = self._sides[taken] = Side(taken)
            self._openers[taken](partial(self._opened, side))
        return side

    def _opened(self, side: Side, stream: Bytes | None) -> None:
        if side.gone:
            if stream is not None:
                stream.close()
        elif stream is None:
            self._loop.call_soon(self._broken, side)
        else:
            side.stream = stream
            stream.attach(partial(self._from_side, side), partial(self._side_room, side))
            self._loop.call_soon(self._from_side, side)
            if side.unsent or side.ends:
                self._side_room(side)

    def _side_room(self, side: Side) -> None:
        if side.gone:
            return
        try:
            free = side.flush()
        except (OSError, PeerError):
            self._broken(side)
            return
        if free and side is self._active:
            self._resume()

    # From a side ------------------------------------------------------------------------------

    def _from_side(self, side: Side) -> None:
        try:
            for _ in range(PER_TURN):
                if side.gone or side.ended or side.stream is None:
                    return
                room = READ
                if side is self._active:
                    room = 0 if self._client.unsent else min(READ, self._stream.room())
                    if not room:
                        return
                data = side.stream.read_now(room)
                if not data:
                    self._side_ended(side)
                elif side is self._active:
                    self._answer(side, data)
                else:  # unasked: it would be taken for the other side's
                    self._drop(side)
        except BlockingIOError:
            return
        except (OSError, PeerError):
            self._broken(side)
            return
        self._loop.call_soon(self._from_side, side)

    def _answer(self, side: Side, data: bytes) -> None:
        answers = side.answers
        if not self._marks:
            self._to_client(data)
        pieces = None if answers.one(data) else answers.feed(data)
        if self._marks:
            self._to_client(marked(data, pieces, side.taken))
        for piece in pieces or ():
            if piece.head is not None and piece.head.upgrades:
                self._all_is_its("an upgrade")
                return
            if piece.lost and not self._raw and not side.astray:
                self._lost(side)
                return
        if not answers.pending:
            self._upgrading = False
        if self._pieces:
            self._resume()
        self._leave_if_idle(side)

    def _lost(self, side: Side) -> None:
        """Where its answers end is not known any more."""
        if side.taken:  # to whom nobody's other requests may go
            side.astray = True
            self._told("the local program's answer is no HTTP: the client's next request ends its connection")
            self._resume()
        else:
            self._told("the application's answer is no HTTP: all of that connection is its own from there on")
            self._all_is_its("its answer is no HTTP")

    def _all_is_its(self, reason: str) -> None:
        """From here on the client and the active side speak as they like."""
        self._raw, self._upgrading = True, False
        self._pieces.extend(self._requests.give_up(reason))
        self._resume()

    # To the client ----------------------------------------------------------------------------

    def _client_room(self) -> None:
        if self.closed:
            return
        self._heard = True
        try:
            free = self._client.flush()
        except (OSError, PeerError):
            self.cancel()
            return
        if free and self._active is not None:
            self._from_side(self._active)
        self._end_if_done()
