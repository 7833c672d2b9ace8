"""One client's HTTP/2 connection between the application and the local program: each stream decided alone.

Three sides are joined: the client's (http2_front), the application's and the program's (http2_back), the last
made when it is first needed, and anew after it has ended. The application's SETTINGS are waited for, as what
it asks is what the client is asked. Names, values, order of headers, the data and the codes stay as they are;
frames, windows and tables are each connection's own. Callbacks only: a connection costs no task.

- The application goes away: the client is told so, and what it has under way ends. Its connection ends: so
  does the client's, as soon as no stream is the program's.
- The program goes away: its streams end, later ones go to a new connection. It does not answer: 502, or
  gRPC's 14, in words that name pymirror.
- The client breaks a rule: GOAWAY to it, and its connections to the others end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pymirror.features.network.carry import Bytes
from pymirror.features.network.incoming import http2_frames as h2
from pymirror.features.network.incoming.budget import Share
from pymirror.features.network.incoming.http2_answers import unanswered
from pymirror.features.network.incoming.http2_back import Back
from pymirror.features.network.incoming.http2_flow import Flow
from pymirror.features.network.incoming.http2_frames import Wrong
from pymirror.features.network.incoming.http2_front import Front
from pymirror.features.network.incoming.http2_headers import Head
from pymirror.features.network.incoming.http2_settings import announced
from pymirror.features.network.incoming.http2_side import relieved
from pymirror.features.network.incoming.http2_windows import MOST
from pymirror.features.network.incoming.http2_wire import Wire
from pymirror.features.network.incoming.http_rules import Deciding
from pymirror.features.network.incoming.limits import Limits
from pymirror.features.network.incoming.outlet import Opener


class Exchange:
    """Begins when it is made; `over` is called once, when nothing of it is left.

    application, program: ask for a new connection. first: what was read from the client before. told: gets
    words about what did not go as it should. marks: answers get a header that says whose they are. share:
    what is held counts to it.
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
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._program_opener, self._told, self._over, self._first = program, told, over, first
        self._limits, self._marks = limits, marks
        self._share = share = share or Share(self.relieve)
        self._front = Front(self, matcher, limits, told, share)
        self._wire = Wire(client, self._front.side, self)
        self._application = Back(False, self, share, marks)
        self._program: Back | None = None
        self._backs: list[Back] = [self._application]
        self._begun = self._draining = self._ended = self._turning = self._said = False
        self._slow: asyncio.TimerHandle | None = None
        self._whole = 0
        share.add(len(first))
        self._application.begin(application)

    def relieve(self) -> None:
        """The agent holds too much, and what this holds does not move: know less, or end it."""
        if relieved([self._front.side, *(back.side for back in self._backs)], self._share):
            return
        self._refuse(Wrong(h2.ENHANCE_YOUR_CALM, "the agent holds too much that does not move"))

    def cancel(self) -> None:
        """Reset all of it."""
        self._wire.close()
        self._end(abruptly=True)
        for back in self._backs:
            back.close()
        self._tidy()

    # The wires' owner ----------------------------------------------------------------------------------

    def turn(self) -> None:
        if self._turning:
            return  # whoever is in it looks again
        self._turning = True
        wires = [self._wire, *(back.wire for back in self._backs if back.wire is not None)]
        while any([wire.flush() for wire in wires]):
            pass  # what left one side lets another send
        for wire in wires:
            wire.resume()
        self._turning = False
        self._tidy()

    def gone(self, wire: Wire, why: Exception | None) -> None:
        """The client's connection is over, or to be ended."""
        if isinstance(why, Wrong):
            self._told(f"a client's HTTP/2 connection was ended: {why}")
        self._end(abruptly=why is not None or self._front.side.active)
        self._wire.end()
        self.turn()

    def _tidy(self) -> None:
        """Look what is over now."""
        for back in self._backs:
            if back.side.leaving and not back.over and not back.side.active:
                back.end()
        self._backs = [back for back in self._backs if not back.closed]
        if self._ended:
            if self._wire.closed and not self._backs and not self._said:
                self._said = True
                self._over()
        elif self._draining and not self._front.side.active:
            self._wire.end()
        elif self._front.side.slow is not (self._slow is not None):
            self._watch()

    def _watch(self) -> None:
        """A head, any frame but data, and the client's SETTINGS must come whole within a time."""
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None
        elif self._begun:
            self._whole = self._front.side.whole
            self._slow = self._loop.call_later(self._limits.head, self._too_slow)

    def _too_slow(self) -> None:
        self._slow = None
        if self._front.side.whole != self._whole:  # it is another one
            self._watch()
            return
        self._refuse(Wrong(h2.ENHANCE_YOUR_CALM, f"a head took more than {self._limits.head:g} s"))

    def _refuse(self, why: Wrong) -> None:
        self._front.side.goaway(self._front.side.last, why.code, str(why))
        self.gone(self._wire, why)

    def _end(self, abruptly: bool) -> None:
        if self._ended:
            return
        self._ended = True
        self._drop_first()
        if self._slow is not None:
            self._slow.cancel()
        self._front.close()
        for back in self._backs:
            if abruptly or back.side.active:  # what is queued of an upload would stay counted
                back.close()
            else:
                back.end()

    # What the client's side says -----------------------------------------------------------------------

    def take(self, flow: Flow, head: Head, ends: bool, matches: bool) -> None:
        fresh, back = False, self._application
        if matches:
            fresh = self._program is None or not self._program.usable
            if self._program is None or fresh:
                self._program = Back(True, self, self._share, self._marks)
                self._program.side.most = MOST // 2
                self._backs.append(self._program)
            back = self._program
        if not back.usable:
            self._front.side.received_left(flow, head)
            self._front.side.reset(flow, h2.REFUSED_STREAM)
            return
        if not back.open(flow, head, ends):
            self.unable(back, flow)
        if fresh:
            back.begin(self._program_opener)

    def stuck(self, flow: Flow) -> None:
        there, why = flow.other, "it does not take what is sent"
        assert there is not None
        self._told(f"the local program and HTTP/2: {why}")
        there.side.reset(there, h2.CANCEL)
        if there.answered:
            self._front.side.reset(flow, h2.CANCEL)
        else:
            self._unanswered(flow, f"the local program took this request, and {why}")

    def left(self, code: int) -> None:
        for back in self._backs:
            if back.wire is not None:
                back.side.out += h2.goaway(0, code)

    # What the other sides say --------------------------------------------------------------------------

    def settled(self, back: Back) -> None:
        if not back.taken and not self._begun:
            self._begin()

    def unable(self, back: Back, client: Flow) -> None:
        if back.taken:
            self._unanswered(client, "the local program knows no extended CONNECT")
        else:
            self._front.side.reset(client, h2.PROTOCOL_ERROR)

    def leaving(self, back: Back, last: int, code: int) -> None:
        if not back.taken:
            side = self._front.side
            side.goaway(last if last == h2.LARGEST_NUMBER else side.last, code)
            self._draining = side.leaving

    def lost(self, back: Back, why: str) -> None:
        flows = [*back.side.flows.values(), *back.side.unopened()]
        whose = "the local program" if back.taken else "the target's application"
        if flows or not (back.taken or self._begun):
            self._told(f"{whose} and HTTP/2: {why}")
        parted = not back.taken and self._parted(back)
        for flow in flows:
            back.side.reset(flow, h2.CANCEL)  # what is queued of it is counted no longer
            client = flow.other
            if parted or client is None or client.closed:
                continue
            if not flow.got_end and not flow.answered and back.taken:
                self._unanswered(client, f"{whose} took this request, and {why}")
            elif not flow.got_end:
                self._front.side.reset(client, h2.INTERNAL_ERROR)
            elif not client.got_end:
                self._front.side.reset_after(client, h2.NO_ERROR)

    def _begin(self) -> None:
        self._begun = True
        first = self._drop_first()
        self._front.side.begin(announced(self._application.side.peer))
        self._wire.begin(first)

    def _drop_first(self) -> bytes:
        first, self._first = self._first, b""
        self._share.add(-len(first))
        return first

    def _parted(self, back: Back) -> bool:
        """The application's connection is over. Is the client's too?"""
        if not self._begun:
            self._begin()
            return False
        side = self._front.side
        side.goaway(side.last, h2.NO_ERROR)
        self._draining = True
        others = (flow.other for flow in side.flows.values() if flow.other is not None)
        if any(other.side is not back.side or other.got_end for other in others):
            return False
        self._wire.end()
        return True

    def _unanswered(self, client: Flow, why: str) -> None:
        assert client.other is not None and client.other.asked is not None
        head, body = unanswered(client.other.asked, why)
        side = self._front.side
        side.drop(client)
        client.other = None  # what is sent now came from no side
        side.put(client, head, not body)
        if body:
            side.put(client, body, True)
        if not client.got_end:
            side.reset_after(client, h2.NO_ERROR)
