"""Which HTTP requests are the local program's: the keys of `http_filter`, and the decision. Pure.

Rules (mirrord: 6.3): a header is searched as `name: value` with a lower-case name, a path without and then
with its query, neither regarding case; a method is equal; of a JSON body a value that the path finds is
searched, and case counts. What cannot be decided in time does not match, also within `not`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Literal, Protocol

from attrs import evolve, frozen

from pymirror.core.config import every, key
from pymirror.core.patterns import TooSlow
from pymirror.features.network.incoming.http1 import is_method
from pymirror.features.network.incoming.http_rules import (
    FORMS,
    LIMIT,
    NESTED,
    Deciding,
    Decision,
    Headers,
    Maker,
    Request,
)
from pymirror.features.network.incoming.needles import Needles
from pymirror.features.network.incoming.questions import JSON, Judging, Question

__all__ = ["BodyFilter", "Deciding", "Decision", "HttpFilter", "Matcher"]

ADVICE = (
    "put them into all_of, or any_of, as {header: …}, {path: …}, {method: …}, {body: json, …}, {query: …}"
)
KINDS = "header_filter path_filter method_filter header_filter_jq body_filter all_of any_of".split()


def _nothing(_number: int, _texts: list[bytes]) -> list[bool]:
    raise AssertionError("a rule that is only checked")


def _nobody(_: Coroutine[Any, Any, None]) -> Task:
    raise AssertionError("a matcher that decides at once")


def _checked(kind: str) -> Any:
    def validator(_instance: object, attribute: Any, value: Any) -> None:
        maker = Maker(_nothing)
        if value is None:
            return
        if kind in NESTED:
            try:
                maker.nested(kind, value, kind)
            except ValueError as error:
                words = str(error).removeprefix(f"{kind}: ")
                raise ValueError(f"{kind}: {words}") from error
        elif kind == "body":
            maker.body({"body": value.body, "query": value.query, "matches": value.matches}, attribute.name)
        else:
            maker.plain(kind, value, attribute.name)

    return validator


def _port(port: int) -> None:
    if not 0 < port < 65536:
        raise ValueError(f"{port} is no port; a port is a number from 1 to 65535")


@frozen
class BodyFilter:
    """Some value that `query` finds in a JSON body matches."""

    body: Literal["json"] = key(help="The only kind there is: json.")
    query: str = key(help="JSONPath (RFC 9535, with typeof()).")
    matches: str = key(help="Regular expression; case counts.")


@frozen
class HttpFilter:
    """At most one of the seven; with `all_of` and `any_of`, several."""

    header_filter: str | None = key(
        None,
        env="HTTP_HEADER_FILTER",
        validator=_checked("header"),
        help="Regular expression for a header, `name: value`, whatever its case.",
    )
    path_filter: str | None = key(
        None,
        env="HTTP_PATH_FILTER",
        validator=_checked("path"),
        help="Regular expression for the path, without and then with its query, whatever its case.",
    )
    method_filter: str | None = key(
        None, env="HTTP_METHOD_FILTER", validator=_checked("method"), help="The method, whatever its case."
    )
    header_filter_jq: str | None = key(
        None,
        env="HTTP_HEADER_FILTER_JQ",
        validator=_checked("jq"),
        help="jq program; its input is each header as text, its first boolean output decides.",
    )
    body_filter: BodyFilter | None = key(
        None, validator=_checked("body"), help="{body: json, query: JSONPath, matches: regular expression}."
    )
    all_of: list[dict[str, Any]] | None = key(
        None, validator=_checked("all_of"), help=f"All of these match; each one of {FORMS}."
    )
    any_of: list[dict[str, Any]] | None = key(
        None, validator=_checked("any_of"), help="One of these matches; each as in all_of."
    )
    ports: list[int] | None = key(
        None,
        env="HTTP_FILTER_PORTS",
        validator=every(_port),
        help="Ports that are filtered, all others taken whole; empty: all are filtered.",
    )

    def __attrs_post_init__(self) -> None:
        if len(self.given) > 1:
            raise ValueError(f"expected at most one of {', '.join(self.given)}", ADVICE)

    @classmethod
    def from_short(cls, value: bool) -> HttpFilter:
        """Either is no filter (mirrord: 2.2)."""
        return cls()

    @property
    def given(self) -> list[str]:
        """Which of the seven there are."""
        return [name for name in KINDS if getattr(self, name) is not None]

    def concerns(self, port: int) -> bool:
        """Is that port of the target filtered?"""
        return bool(self.given) and (not self.ports or port in self.ports)

    def warnings(self, place: str) -> list[str]:
        """Allowed, but hardly meant."""
        if self.ports and not self.given:
            return [f"{place}.ports has no effect: no filter is given"]
        given = [getattr(self, name) for name in self.given]
        named = [self.method_filter] if self.method_filter is not None else list(_methods(given))
        return [
            f"{place}: {each!r} is no method of HTTP that is known" for each in named if not is_method(each)
        ]


def _methods(rule: Any) -> Iterator[str]:
    """Those that a nested filter names."""
    if isinstance(rule, list):
        for each in rule:
            yield from _methods(each)
    elif isinstance(rule, dict):
        for kind, inner in rule.items():
            if kind == "method" and isinstance(inner, str):
                yield inner
            else:
                yield from _methods(inner)


class Matcher:
    """The filter, ready. judge: called with the questions if there are any. told: gets words, once for each
    rule that could not be decided in time. clock: seconds; without one a request of many headers may take
    the time of one search for each. spawn: has what waits for the judge go on, for `soon`."""

    def __init__(
        self,
        config: HttpFilter,
        judge: Callable[[list[Question]], Judging] | None = None,
        told: Callable[[str], object] = lambda words: None,
        clock: Callable[[], float] = lambda: 0.0,
        spawn: Callable[[Coroutine[Any, Any, None]], Task] = _nobody,
    ) -> None:
        """ValueError: there is no filter."""
        if not config.given:
            raise ValueError("no filter is given")
        (name,) = config.given
        maker, value = Maker(self._ask), getattr(config, name)
        if isinstance(value, BodyFilter):
            value = {"body": value.body, "query": value.query, "matches": value.matches}
            self._rule = maker.body(value, name)
        elif name in NESTED:
            self._rule = maker.nested(name, value, name)
        else:
            self._rule = maker.plain(_KIND[name], value, name)
        self._needs_body = any(question.kind == JSON for question in maker.questions)
        self._judge = judge(maker.questions) if judge is not None and maker.questions else None
        self._told, self._said, self._clock = told, set[str](), clock
        self.spawn = spawn
        self._answers: Answers | None = None  # while nobody may wait: those that are there

    def decide(
        self, method: bytes, target: bytes, headers: Headers, body: bytes | None = None
    ) -> Decision | None:
        """body: its content, whole; b"" for none. None: it depends on the body. All wait for the judge."""
        return self._look(Request(method, target, headers, body))

    def soon(
        self, method: bytes, target: bytes, headers: Headers, body: bytes | None, again: Callable[[], object]
    ) -> Decision | Asked | None:
        """The same where nobody may wait: again() is called when what the judge was asked is decided."""
        asked = Asked(self, Request(method, target, headers, body), again)
        return asked.decision if asked.done else asked

    def look_with(self, request: Request, answers: Answers) -> Decision | None:
        """By these answers of the judge. Wanted: it must be asked."""
        self._answers = answers
        try:
            return self._look(request)
        finally:
            self._answers = None

    async def answer(self, wanted: Wanted) -> list[bool]:
        """The judge's. TooSlow."""
        assert self._judge is not None
        return await self._judge.answer(wanted.number, wanted.texts)

    def undecided(self, why: str) -> Decision:
        """What becomes of a request then, told once."""
        if why not in self._said:
            self._said.add(why)
            self._told(f"{why}: such requests do not match")
        return Decision(False, why)

    def _look(self, request: Request) -> Decision | None:
        until = self._clock() + LIMIT
        try:
            return self._rule.look(evolve(request, late=lambda: self._clock() > until))
        except TooSlow as error:
            return self.undecided(error.strerror)

    @property
    def needs_body(self) -> bool:
        """Must some requests come whole before it is known whose they are?"""
        return self._needs_body

    @property
    def needles(self) -> Needles:
        """Of which each request has one that matches."""
        return self._rule.needles()

    def _ask(self, number: int, texts: list[bytes]) -> list[bool]:
        assert self._judge is not None
        if self._answers is None:
            return self._judge.ask(number, texts)
        found = self._answers.get((number, tuple(texts)))
        if found is None:
            raise Wanted(number, texts)
        return found


Answers = dict[tuple[int, tuple[bytes, ...]], "list[bool]"]


class Wanted(Exception):
    """What the judge is to be asked: of the question with that number, about these texts."""

    def __init__(self, number: int, texts: list[bytes]) -> None:
        self.number, self.texts = number, texts


class Task(Protocol):
    def cancel(self) -> object: ...


class Asked:
    """A decision for which the judge may have to be asked, several times at worst."""

    def __init__(self, matcher: Matcher, request: Request, again: Callable[[], object]) -> None:
        self.done = False
        self.decision: Decision | None = None
        self._matcher, self._request, self._again = matcher, request, again
        self._answers: Answers = {}
        self._task: Task | None = None
        wanted = self._look()
        if wanted is not None:
            self._task = matcher.spawn(self._ask(wanted))

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _look(self) -> Wanted | None:
        try:
            self.decision = self._matcher.look_with(self._request, self._answers)
        except Wanted as wanted:
            return wanted
        self.done = True
        return None

    async def _ask(self, first: Wanted) -> None:
        wanted: Wanted | None = first
        try:
            while wanted is not None:
                found = await self._matcher.answer(wanted)
                self._answers[wanted.number, tuple(wanted.texts)] = found
                wanted = self._look()
        except TooSlow as error:
            self.decision, self.done = self._matcher.undecided(error.strerror), True
        except Exception as error:  # a request that nobody decides would wait for ever
            words = f"the judge cannot be asked: {type(error).__name__}"
            self.decision, self.done = self._matcher.undecided(words), True
        self._again()


_KIND = {
    "header_filter": "header",
    "path_filter": "path",
    "method_filter": "method",
    "header_filter_jq": "jq",
}
