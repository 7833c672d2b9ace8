"""What an exchange writes to: a stream that may come later, with what it had no room for yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from attrs import frozen

from pymirror.features.network.carry import Bytes
from pymirror.features.network.incoming.http1 import Answers

Given: TypeAlias = "Callable[[Bytes | None], None]"
Opener: TypeAlias = "Callable[[Given], object]"
"""Asks for a stream, which is given at once or later; None: it is not to be had."""
Rests: TypeAlias = "Callable[[Bytes, Bytes], bool]"


class Outlet:
    """unsent: written and not yet taken; who writes looks at it first, so it is one piece at most.

    ends: nothing more is written. shut: and all of it was taken.
    """

    def __init__(self, stream: Bytes | None) -> None:
        self.stream = stream
        self.unsent: bytes | memoryview = b""
        self.ends = self.shut = False

    def write(self, data: bytes) -> None:
        """OSError, PeerError."""
        if self.unsent or self.stream is None:
            self.unsent = b"".join((self.unsent, data))
            return
        size = self.stream.write_now(data)
        if size < len(data):
            self.unsent = memoryview(data)[size:]

    def flush(self) -> bool:
        """Has all been taken? OSError, PeerError."""
        if self.stream is None:
            return False
        if self.unsent:
            self.unsent = self.unsent[self.stream.write_now(self.unsent) :]
        if self.ends and not self.unsent and not self.shut:
            self.shut = True
            self.stream.end()
        return not self.unsent

    def end(self) -> None:
        """After what was written. OSError, PeerError."""
        self.ends = True
        self.flush()


@frozen
class Begun:
    """Where an exchange with the application goes on: its connection, and what was read and not written.

    asked: methods of the requests that wait for answers. left: bytes that the first of these still has.
    answer: what was read of the application. It comes after `to_client`.
    """

    stream: Bytes
    asked: tuple[bytes, ...] = ()
    left: int = 0
    to_application: bytes = b""
    to_client: bytes = b""
    answer: bytes = b""


class Side(Outlet):
    """One of the two that answer: the local program (taken), or the application.

    ended: it will say no more. gone: it is no part of the exchange any more. astray: it says what is no HTTP.
    """

    def __init__(self, taken: bool) -> None:
        super().__init__(None)
        self.taken = taken
        self.answers = Answers()
        self.ended = self.gone = self.astray = False

    @classmethod
    def begun(cls, how: Begun) -> Side:
        """The application's, before it has its stream."""
        side = cls(taken=False)
        side.unsent = how.to_application
        for method in how.asked:
            side.answers.ask(method)
        if how.left:
            side.answers.begin(how.left)
        return side

    @property
    def rests(self) -> bool:
        """Has it all and answered all?"""
        over = self.ended or self.gone or self.ends
        return self.answers.between and not (over or self.answers.pending or self.unsent)


class Timers:
    """One for each function, which is called once."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._set: dict[Callable[[], None], asyncio.TimerHandle] = {}

    def __contains__(self, what: Callable[[], None]) -> bool:
        return what in self._set

    def set(self, what: Callable[[], None], seconds: float | None) -> None:
        """Call it after so many seconds, counted anew; None: not at all."""
        timer = self._set.pop(what, None)
        if timer is not None:
            timer.cancel()
        if seconds is not None:
            self._set[what] = self._loop.call_later(seconds, what)

    def cancel(self) -> None:
        for timer in self._set.values():
            timer.cancel()
        self._set.clear()
