"""What a mirrored client's HTTP/2 connection has for the local program: its streams that match, on a
connection of their own. The program's answers are read and dropped.

There are the client's bytes alone, from the connection's beginning. What the application asked of the client
is not known, nor when it answers: a stream is over when the client resets it, or the program has answered.
Nothing can hold the client up: a program that takes less than is sent ends the copy.
"""

from __future__ import annotations

from collections.abc import Callable

from pymirror.features.network.incoming import http2_frames as h2
from pymirror.features.network.incoming.budget import Share
from pymirror.features.network.incoming.http2_back import Back
from pymirror.features.network.incoming.http2_flow import Flow
from pymirror.features.network.incoming.http2_frames import Wrong
from pymirror.features.network.incoming.http2_front import Front
from pymirror.features.network.incoming.http2_headers import Head
from pymirror.features.network.incoming.http2_side import relieved
from pymirror.features.network.incoming.http2_windows import MOST
from pymirror.features.network.incoming.http_rules import Deciding
from pymirror.features.network.incoming.limits import Limits
from pymirror.features.network.incoming.outlet import Opener

BROKEN = "its client broke HTTP/2"


class Copy:
    """program: asks for a connection. told: gets words about what did not go as it should. over: called once;
    why the copy ended before the client's connection did, or "" if it did not. heard: pieces of answers."""

    def __init__(
        self,
        program: Opener,
        matcher: Deciding,
        limits: Limits,
        told: Callable[[str], object],
        over: Callable[[str], object],
    ) -> None:
        self._opener, self._told, self._over = program, told, over
        self._share = Share(self._relieve)
        self._front = Front(self, matcher, limits, told, self._share, copy=True)
        self._backs: list[_Deaf] = []
        self._ended = self._said = self._turning = False
        self._why = ""
        self.heard = 0

    def feed(self, data: bytes) -> None:
        """What the client sent, in order."""
        if self._ended:
            return
        try:
            self._front.side.receive(data)
        except Wrong as error:
            self._told(f"a client broke HTTP/2: {error}")
            self.close(BROKEN)
        if self._front.side.held > MOST or self._front.side.crowded:
            self.close("the local program takes less than the client sends")
        self._front.side.out.clear()
        self.turn()

    def end(self) -> None:
        """The client has ended: what came whole goes on until it is answered."""
        self._ended = True
        for flow in [each for each in self._front.side.flows.values() if not each.got_end]:
            self._front.side.reset(flow, h2.CANCEL)
            self._front.reset(flow, h2.CANCEL)
        self.turn()

    def close(self, why: str) -> None:
        """End it now; why: a gap, say."""
        if not (self._ended and self._said):
            self._ended, self._why = True, self._why or why
            self._front.close()
            for back in self._backs:
                back.close()
            self.turn()

    def _relieve(self) -> None:
        if not relieved([self._front.side, *(back.side for back in self._backs)], self._share):
            self.close("the agent holds too much")

    def turn(self) -> None:
        if self._turning:
            return
        self._turning = True
        for back in self._backs:
            if back.wire is not None:
                back.wire.flush()
            if (self._ended or back.side.leaving) and not (back.side.active or back.over):
                back.end()
        self._turning = False
        self._backs = [back for back in self._backs if not back.closed]
        if self._ended and not self._backs and not self._said:
            self._said = True
            self._front.close()
            self._over(self._why)

    def take(self, flow: Flow, head: Head, ends: bool, matches: bool) -> None:
        if not matches:
            self._front.side.received_left(flow, head)
            self._front.side.reset(flow, h2.NO_ERROR)
            return
        fresh = not (self._backs and self._backs[-1].usable)
        if fresh:
            self._backs.append(_Deaf(self, self._share))
        back = self._backs[-1]
        if not back.open(flow, head, ends):
            self.unable(back, flow)
        if fresh:
            back.begin(self._opener)

    def stuck(self, flow: Flow) -> None:
        raise AssertionError("the windows of a copy bound nothing")

    def left(self, code: int) -> None:
        """The application's affair."""

    def settled(self, back: Back) -> None:
        """Nothing waits for it but streams."""

    def leaving(self, back: Back, last: int, code: int) -> None:
        """Later streams go to a new connection."""

    def unable(self, back: Back, client: Flow) -> None:
        self._told("the local program knows no extended CONNECT: not copied")
        self._front.side.reset(client, h2.CANCEL)

    def lost(self, back: Back, why: str) -> None:
        flows = [*back.side.flows.values(), *back.side.unopened()]
        if flows:
            self._told(f"the local program and HTTP/2: {why}")
        for flow in flows:
            back.side.reset(flow, h2.CANCEL)
            back.reset(flow, h2.CANCEL)


class _Deaf(Back):
    def __init__(self, copy: Copy, share: Share) -> None:
        super().__init__(True, copy, share)
        self._copy = copy

    def head(self, flow: Flow, head: Head, ends: bool) -> None:
        self._copy.heard += 1
        if ends:
            self.reset(flow, h2.NO_ERROR)

    def data(self, flow: Flow, data: bytes, ends: bool) -> None:
        self._copy.heard += 1
        self.side.received_left(flow, data)
        if ends:
            self.reset(flow, h2.NO_ERROR)

    def reset(self, flow: Flow, code: int) -> None:
        """It is over, for the client too; what was still to be sent is not."""
        if not flow.sent_end:
            self.side.reset(flow, h2.NO_ERROR)
        if flow.other is not None:
            flow.other.side.reset(flow.other, h2.NO_ERROR)
