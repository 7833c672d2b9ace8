"""The HTTP/2 connection to the application, or to the local program, of one client's connection.

What comes on its streams goes to the client's. It is made by `begin`; streams that are opened before it is
there wait. How it ends is its owner's to judge.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from pymirror.core.errors import PeerError
from pymirror.features.network.carry import Bytes
from pymirror.features.network.incoming import http2_frames as h2
from pymirror.features.network.incoming.budget import Share
from pymirror.features.network.incoming.http2_flow import Flow
from pymirror.features.network.incoming.http2_frames import Wrong
from pymirror.features.network.incoming.http2_headers import Head
from pymirror.features.network.incoming.http2_settings import BACKEND, DEFAULT_WINDOW
from pymirror.features.network.incoming.http2_side import Side
from pymirror.features.network.incoming.http2_windows import Credit
from pymirror.features.network.incoming.http2_wire import Wire
from pymirror.features.network.incoming.marks import marked_head
from pymirror.features.network.incoming.outlet import Opener

WITHIN = 10.0
"""Seconds in which it must have come and said its SETTINGS: the program's is tried for 5 s by the layer."""


class Owner(Protocol):
    def turn(self) -> None:
        """Wires are to be flushed."""

    def settled(self, back: Back) -> None:
        """It is there and has said its SETTINGS."""

    def lost(self, back: Back, why: str) -> None:
        """It is over, and was not before. Its streams are the owner's to end."""

    def leaving(self, back: Back, last: int, code: int) -> None:
        """GOAWAY."""

    def unable(self, back: Back, client: Flow) -> None:
        """The client's stream cannot be passed on: an extended CONNECT, and there it is not known."""


class Back:
    """taken: is it the program's? over: it is ended, or lost. wire: None until it is there. marks: answers
    get a header that says whose they are."""

    def __init__(self, taken: bool, owner: Owner, share: Share, marks: bool = False) -> None:
        self._loop = asyncio.get_running_loop()
        self.taken, self._owner, self._marks = taken, owner, marks
        self.side = Side(self, False, BACKEND, self._loop.time, Credit(DEFAULT_WINDOW, share))
        self.wire: Wire | None = None
        self.over = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def usable(self) -> bool:
        """May a stream be opened on it?"""
        return not (self.over or self.side.leaving)

    @property
    def closed(self) -> bool:
        """Is nothing of it left?"""
        return self.over and (self.wire is None or self.wire.closed)

    def begin(self, opener: Opener) -> None:
        self._timer = self._loop.call_later(
            WITHIN, self._lost, f"it did not speak HTTP/2 within {WITHIN:g} s"
        )
        try:
            opener(self._given)
        except (OSError, PeerError) as error:
            self._lost(f"it cannot be reached: {error}")

    def open(self, client: Flow, head: Head, ends: bool) -> bool:
        """Pass the client's stream on. False: it cannot be done, as `unable` says."""
        flow = Flow(self.side)
        flow.other, client.other = client, flow
        flow.asked, flow.extended, flow.ends = head, bool(head.get(b":protocol")), ends
        flow.queue.append(head)
        if self.side.open(flow):
            return True
        client.side.received_left(client, head)
        return False

    def end(self) -> None:
        """Nothing more is wanted of it: no stream is left."""
        self._stop()
        if self.wire is not None:
            self.wire.end()

    def close(self) -> None:
        """Reset it."""
        self._stop()
        self.side.abandon()
        if self.wire is not None:
            self.wire.close()

    def _stop(self) -> None:
        self.over = True
        if self._timer is not None:
            self._timer.cancel()

    def _given(self, stream: Bytes | None) -> None:
        if self.over:
            if stream is not None:
                stream.close()
        elif stream is None:
            self._lost("it cannot be reached")
        else:
            self.side.begin()
            self.wire = Wire(stream, self.side, self)
            self.wire.begin()

    def _lost(self, why: str) -> None:
        if not self.over:
            self._stop()
            if self.wire is not None:
                self.wire.end()
            self._owner.lost(self, why)
            self._owner.turn()

    # The wire's owner ----------------------------------------------------------------------------------

    def turn(self) -> None:
        self._owner.turn()

    def gone(self, wire: Wire, why: Exception | None) -> None:
        if isinstance(why, Wrong) and not self.side.settled:
            self._lost("it does not speak HTTP/2")
        else:
            self._lost(f"its connection ended: {why}" if why else "it ended its connection")
        self._owner.turn()

    # What the side hears -------------------------------------------------------------------------------

    def came(self, flow: Flow, head: Head, ends: bool) -> None:
        raise AssertionError("a side that does not serve")

    def head(self, flow: Flow, head: Head, ends: bool) -> None:
        client = flow.other
        if client is not None and not client.closed:
            if self._marks:
                head = marked_head(head, self.taken)
            self.side.count(head.size)
            client.side.put(client, head, ends)

    def data(self, flow: Flow, data: bytes, ends: bool) -> None:
        client = flow.other
        if client is None or client.closed:
            self.side.received_left(flow, data)
        else:
            client.side.put(client, data, ends)

    def reset(self, flow: Flow, code: int) -> None:
        client = flow.other
        if client is None:
            return
        if not flow.got_end:
            client.side.reset(client, code)
        elif not client.got_end:
            client.side.reset_after(client, code)

    def unable(self, flow: Flow) -> None:
        if flow.other is not None:
            self._owner.unable(self, flow.other)

    def settled(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._owner.settled(self)

    def leaving(self, last: int, code: int) -> None:
        for flow in self.side.unopened() if last != h2.LARGEST_NUMBER else ():
            self.side.reset(flow, h2.REFUSED_STREAM)
            self.reset(flow, h2.REFUSED_STREAM)
        self._owner.leaving(self, last, code)
