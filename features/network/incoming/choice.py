"""Whose a request is, which its body may have to tell; one at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pymirror.features.network.incoming.body import Body
from pymirror.features.network.incoming.http1 import Head, Piece
from pymirror.features.network.incoming.http_rules import Asking, Deciding, Decision, Headers
from pymirror.features.network.incoming.limits import CONTINUE, Limits
from pymirror.features.network.incoming.outlet import Timers


class Choice:
    """say: writes to the client. again: called when a body, or the judge, is not waited for any longer."""

    def __init__(
        self,
        matcher: Deciding,
        limits: Limits,
        told: Callable[[str], object],
        timers: Timers,
        say: Callable[[bytes], object],
        again: Callable[[], object],
    ) -> None:
        self._matcher, self._limits, self._told = matcher, limits, told
        self._timers, self._say, self._again = timers, say, again
        self._body: Body | None = None
        self._asking: Asking | None = None

    @property
    def waits(self) -> bool:
        """For more of a body?"""
        return self._body is not None and self._asking is None

    def close(self) -> None:
        """It is not wanted any more."""
        if self._asking is not None:
            self._asking.cancel()

    def of(self, head: Head, pieces: Sequence[Piece], answering: bool, ended: bool) -> bool | None:
        """Is it the program's? None: its body must come first, or the judge is asked.

        pieces: what came from its head on. answering: answers before its own are still to come. ended: its
        client says no more.
        """
        decision: Decision | Asking | None = None
        if self._asking is not None:
            if not self._asking.done:
                return None
            decision, self._asking = self._asking.decision, None
        elif self._body is None:
            decision = self._matcher.soon(head.method, head.target, head.headers, None, self._again)
        if decision is None:
            decision = self._by_body(head, pieces, answering, ended)
        if decision is None:
            return None
        if self._body is not None:
            self._timers.set(self._late, None)
        if not isinstance(decision, Decision):
            self._asking = decision
            return None
        self._body = None
        return decision.matches

    def _by_body(
        self, head: Head, pieces: Sequence[Piece], answering: bool, ended: bool
    ) -> Decision | Asking | None:
        """The same once its body is there, or will not be waited for any longer."""
        if self._body is None:
            if head.continues and answering:
                return None  # what is said to the client now would be for the request before
            self._body = Body(self._limits.body)
            self._timers.set(self._late, self._limits.body_within)
            if head.continues and len(pieces) == 1:
                self._say(CONTINUE)
        body = self._body
        if body.whole(pieces):
            return self._matcher.soon(
                head.method, head.target, head.headers, bytes(body.content), self._again
            )
        if ended:
            body.given_up = body.given_up or "its body did not come to its end"
        if body.given_up:
            self._told(f"no match: {body.given_up}")
            return Decision(False, body.given_up)
        return None

    def _late(self) -> None:
        if self._body is not None:
            self._body.given_up = f"its body took more than {self._limits.body_within:g} s"
            self._again()


class While:
    """A matcher's decisions as long as `taken()`: then all is the application's."""

    def __init__(self, matcher: Deciding, taken: Callable[[], bool]) -> None:
        self._matcher, self._taken = matcher, taken

    @property
    def needs_body(self) -> bool:
        return self._matcher.needs_body

    def decide(
        self, method: bytes, target: bytes, headers: Headers, body: bytes | None = None
    ) -> Decision | None:
        if not self._taken():
            return Decision(False, "the port is not taken any more")
        return self._matcher.decide(method, target, headers, body)

    def soon(
        self, method: bytes, target: bytes, headers: Headers, body: bytes | None, again: Callable[[], object]
    ) -> Decision | Asking | None:
        if not self._taken():
            return Decision(False, "the port is not taken any more")
        return self._matcher.soon(method, target, headers, body, again)
