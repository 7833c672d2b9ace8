"""The client's side: each request is decided, and passed on; held, while the filter must see its body."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol

from pymirror.features.network.incoming.budget import Share
from pymirror.features.network.incoming.http2_flow import Flow, append
from pymirror.features.network.incoming.http2_frames import WINDOW_UPDATE
from pymirror.features.network.incoming.http2_headers import Head, Reader, plain
from pymirror.features.network.incoming.http2_settings import COPIED, DEFAULT_WINDOW, LARGEST_TABLE, Settings
from pymirror.features.network.incoming.http2_side import Side
from pymirror.features.network.incoming.http2_windows import UNLIMITED, Credit
from pymirror.features.network.incoming.http_rules import Asking, Deciding, Decision
from pymirror.features.network.incoming.limits import Limits

WINDOWS = frozenset({WINDOW_UPDATE})
"""What a client allows the application; nothing is sent to it here, so they would only grow."""


class Owner(Protocol):
    def take(self, flow: Flow, head: Head, ends: bool, matches: bool) -> None:
        """Pass it on to whose it is; what follows goes to `flow.other`."""

    def stuck(self, flow: Flow) -> None:
        """Whose it is takes less than is sent; what there is for others on that connection has to go on."""

    def left(self, code: int) -> None:
        """The client opens no more streams."""

    def turn(self) -> None:
        """Something may leave."""


class _Held:
    """A request that is not decided: its body is looked at, or the judge is asked. ends: it has no body."""

    def __init__(self, head: Head, ends: bool, asking: Asking | None) -> None:
        self.head, self.ends, self.asking = head, ends, asking
        self.timer: asyncio.TimerHandle | None = None
        self.parts: list[Head | bytes] = []
        self.size = 0

    def cancel(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if self.asking is not None:
            self.asking.cancel()


class Front:
    """What the client's side hears. copy: there are the client's bytes alone, sent within windows that are
    the application's affair."""

    def __init__(
        self,
        owner: Owner,
        matcher: Deciding,
        limits: Limits,
        told: Callable[[str], object],
        share: Share,
        copy: bool = False,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._owner, self._matcher, self._limits, self._told = owner, matcher, limits, told
        self._copy = copy
        if copy:
            reader, credit = Reader(LARGEST_TABLE), Credit(UNLIMITED, share)
            self.side = Side(self, True, COPIED, self._loop.time, credit, reader, WINDOWS)
        else:
            self.side = Side(self, True, Settings(), self._loop.time, Credit(DEFAULT_WINDOW, share))
        self._held: dict[Flow, _Held] = {}

    def close(self) -> None:
        """The client's connection is over."""
        for flow in list(self._held):
            self._forget(flow)
        self.side.abandon()

    def came(self, flow: Flow, head: Head, ends: bool) -> None:
        self.side.count(head.size)
        empty = ends or bool(head.get(b":protocol"))
        decision = self._asked(flow, head, b"" if empty else None)
        if isinstance(decision, Decision):
            self._owner.take(flow, head, ends, decision.matches)
            return
        self._held[flow] = _Held(head, ends, decision)
        if decision is None:
            self._await_body(flow)

    def head(self, flow: Flow, head: Head, ends: bool) -> None:
        self.side.count(head.size)
        self._more(flow, head, ends)

    def data(self, flow: Flow, data: bytes, ends: bool) -> None:
        held = self._held.get(flow)
        if held is not None:
            held.size += len(data)
            if held.asking is None:
                self.side.prepay(flow, len(data))
        self._more(flow, data, ends)

    def reset(self, flow: Flow, code: int) -> None:
        self._forget(flow)
        if flow.other is not None:
            flow.other.side.reset(flow.other, code)

    def unable(self, flow: Flow) -> None:
        raise AssertionError("nothing is opened on a side that serves")

    def settled(self) -> None:
        """What it asked is in `side.peer`."""

    def leaving(self, last: int, code: int) -> None:
        self._owner.left(code)

    def _more(self, flow: Flow, item: Head | bytes, ends: bool) -> None:
        held, other = self._held.get(flow), flow.other
        if held is not None:
            append(held.parts, item)
            if held.asking is None:
                self._by_body(flow, held, ends)
        elif other is None or other.closed:
            self.side.received_left(flow, item)
        elif 0 < other.side.most < other.side.queued + len(item if isinstance(item, bytes) else b""):
            self.side.received_left(flow, item)
            self._owner.stuck(flow)
        else:
            other.side.put(other, item, ends)

    def _asked(self, flow: Flow, head: Head, body: bytes | None) -> Decision | Asking | None:
        if self._copy:
            return self._matcher.decide(*request(head), body)
        return self._matcher.soon(*request(head), body, partial(self._answered, flow))

    def _answered(self, flow: Flow) -> None:
        held = self._held.get(flow)
        if held is None or held.asking is None:
            return
        decision, held.asking = held.asking.decision, None
        if decision is None:
            self._await_body(flow)
        else:
            self._release(flow, decision.matches)
        self._owner.turn()

    def _await_body(self, flow: Flow) -> None:
        """What there is of it may have come already."""
        held = self._held[flow]
        held.timer = self._loop.call_later(self._limits.body_within, self._late, flow)
        if held.head.get(b"expect").lower() == b"100-continue" and not self._copy:
            self.side.put(flow, plain([(b":status", b"100")]), False)
        self.side.prepay(flow, held.size)
        self._by_body(flow, held, flow.got_end)

    def _by_body(self, flow: Flow, held: _Held, ends: bool) -> None:
        if held.size > self._limits.body:
            self._give_up(flow, f"its body is longer than {self._limits.body} bytes")
        elif ends:
            body = b"".join(each for each in held.parts if isinstance(each, bytes))
            decision = self._asked(flow, held.head, body)
            if held.timer is not None:
                held.timer.cancel()
            if decision is None or isinstance(decision, Decision):
                self._release(flow, decision is not None and decision.matches)
            else:
                held.asking = decision

    def _late(self, flow: Flow) -> None:
        self._give_up(flow, f"its body took more than {self._limits.body_within:g} s")
        self._owner.turn()

    def _give_up(self, flow: Flow, why: str) -> None:
        self._told(f"no match: {why}")
        self._release(flow, False)

    def _release(self, flow: Flow, matches: bool) -> None:
        """It is decided; what was held follows its head."""
        held = self._held.pop(flow)
        held.cancel()
        self._owner.take(flow, held.head, held.ends, matches)
        last = len(held.parts) - 1
        for index, item in enumerate(held.parts):
            self._more(flow, item, flow.got_end and index == last)

    def _forget(self, flow: Flow) -> None:
        held = self._held.pop(flow, None)
        if held is not None:
            held.cancel()
            for item in (held.head, *held.parts):
                self.side.received_left(flow, item)


Request = tuple[bytes, bytes, "list[tuple[bytes, bytes]]"]


def request(head: Head) -> Request:
    """(method, target, headers) as HTTP/1 would say it: the authority is its host, and cookies are one."""
    if head.request is None:
        fields = [(bytes(name), bytes(value)) for name, value in head.fields if not name.startswith(b":")]
        names = {name for name, _ in fields}
        authority, target = head.get(b":authority"), head.get(b":path")
        if authority and b"host" not in names:
            fields.insert(0, (b"host", authority))
        cookies = [value for name, value in fields if name == b"cookie"]
        if len(cookies) > 1:
            fields = [each for each in fields if each[0] != b"cookie"] + [(b"cookie", b"; ".join(cookies))]
        head.request = head.get(b":method"), target or authority, fields
    return head.request
