"""One copied connection, or those requests of it that match: its first bytes tell which HTTP it is.

With HTTP/1 what matches goes on as it is. HTTP/2 is spoken anew, without a filter too: the program has
windows and a table of its own, and what a client sent by those of the application may not fit them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from attrs import evolve, frozen

from pymirror.core.feature import Stream
from pymirror.features.network.incoming import copies, copy_http1, http2_mirror
from pymirror.features.network.incoming.budget import Share
from pymirror.features.network.incoming.copies import LINGER
from pymirror.features.network.incoming.front import Filtered
from pymirror.features.network.incoming.http_rules import Decision, Headers
from pymirror.features.network.incoming.outlet import Given
from pymirror.features.network.incoming.sniff import PREFACE


class Copied(Protocol):
    """What the mirror does with a copy, as `copies.Copy` says it."""

    @property
    def unsent(self) -> int: ...

    def open(self) -> None: ...

    def take(self, data: bytes) -> None: ...

    def end(self) -> None: ...

    def reset(self) -> None: ...


HOLDS = "the agent holds too much"


@frozen
class Ways:
    """begin(answers), over, answered: as those of `copies.Copy`; answers: the program's are wanted. lost: in
    place of `over`, with the reason, if the copy ended before the client's connection."""

    begin: Callable[[bool], Stream | None]
    waiting: copies.Waiting
    over: Callable[[Copied], object]
    answered: Callable[[Copied], object]
    lost: Callable[[Copied, str], object]


def passed(chosen: copies.Filter | None, ways: Ways) -> Copied:
    """A copy of all, or of what a filter leaves of it."""
    return copies.Copy(partial(ways.begin, False), chosen, ways.waiting, ways.over, ways.answered)


class Everything:
    """What matches without a filter."""

    needs_body = False

    def decide(self, method: bytes, target: bytes, headers: Headers, body: bytes | None = None) -> Decision:
        return Decision(True, "no filter")

    def soon(self, *request: Any) -> Decision:
        return Decision(True, "no filter")


class Http:
    """The copy of what matches. whole: what is no HTTP/2 goes on as it comes."""

    def __init__(self, filtered: Filtered, ways: Ways, whole: bool = False) -> None:
        self._filtered, self._whole = filtered, whole
        self._ways = evolve(
            ways,
            over=lambda _: ways.over(self),
            answered=lambda _: ways.answered(self),
            lost=lambda _, why: ways.lost(self, why),
        )
        self._first = b""
        self._speaks: Copied | None = None

    @property
    def unsent(self) -> int:
        return self._speaks.unsent if self._speaks is not None else 0

    def open(self) -> None:
        """Nothing goes on before the first bytes have come."""

    def take(self, data: bytes) -> None:
        if self._speaks is None:
            data = self._first = self._first + data
            if len(data) < len(PREFACE) and PREFACE.startswith(data):
                return
        self._known().take(data)

    def end(self) -> None:
        held = self._first if self._speaks is None else b""
        known = self._known()
        if held:
            known.take(held)
        known.end()

    def reset(self) -> None:
        if self._speaks is not None:
            self._speaks.reset()

    def _known(self) -> Copied:
        if self._speaks is None:
            if self._first.startswith(PREFACE):
                self._speaks = _Http2(self._filtered, self._ways)
            elif self._whole:
                self._speaks = passed(None, self._ways)
            else:
                self._speaks = _Http1(self._filtered, self._ways)
            self._speaks.open()
        return self._speaks


class _Http1:
    """What its filter holds counts for the agent's bound of all connections that it looks into."""

    def __init__(self, filtered: Filtered, ways: Ways) -> None:
        self._share, self._lost = Share(self._give_back), ways.lost
        self._requests = copy_http1.Copy(filtered.matcher, filtered.limits.body)
        self._copy = passed(self._feed, evolve(ways, over=lambda _: self._is_over(ways)))

    @property
    def unsent(self) -> int:
        return self._copy.unsent

    def open(self) -> None:
        """It begins with the first request that matches."""

    def take(self, data: bytes) -> None:
        self._copy.take(data)

    def end(self) -> None:
        """What is not whole is nothing for the program."""
        self._hold(0)
        self._copy.end()

    def reset(self) -> None:
        self._hold(0)
        self._copy.reset()

    def _feed(self, data: bytes) -> bytes:
        out = self._requests.feed(data)
        self._hold(self._requests.held)
        return out

    def _hold(self, size: int) -> None:
        self._share.add(size - self._share.size)

    def _is_over(self, ways: Ways) -> None:
        self._hold(0)
        ways.over(self)

    def _give_back(self) -> None:
        self.reset()
        self._lost(self, HOLDS)


class _Http2:
    """Its bytes count for the bounds of HTTP/2 (http2_windows), not for the mirror's own."""

    unsent = 0

    def __init__(self, filtered: Filtered, ways: Ways) -> None:
        self._loop = asyncio.get_running_loop()
        self._ways, self._is_told = ways, True
        self._copy = http2_mirror.Copy(
            self._opened, filtered.matcher, filtered.limits, filtered.told, self._over
        )
        self._leaving: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """It begins with the first request that matches."""

    def take(self, data: bytes) -> None:
        self._copy.feed(data)

    def end(self) -> None:
        """The program may still answer; once it says nothing any more, it has been heard."""
        self._linger(-1)
        self._copy.end()

    def reset(self) -> None:
        self._is_told = False
        self._copy.close("")

    def _opened(self, given: Given) -> None:
        given(self._ways.begin(True))

    def _linger(self, heard: int) -> None:
        if self._copy.heard == heard:
            self._copy.close("")
        else:
            self._leaving = self._loop.call_later(LINGER, self._linger, self._copy.heard)

    def _over(self, why: str) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
        if self._is_told and why:
            self._ways.lost(self, why)
        elif self._is_told:
            self._ways.over(self)
