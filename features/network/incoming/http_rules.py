"""The rules of a filter: each looks at a request and says if it matches, or that it needs the body. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

from attrs import field, frozen

from pymirror.core.errors import ConfigError
from pymirror.core.patterns import Pattern, TooSlow
from pymirror.features.network.incoming.needles import Kind, Needle, Needles, needles, of_all, of_any
from pymirror.features.network.incoming.questions import JQ, JSON, Question, made

DEEPEST = 8
LIMIT = 0.02
"""Seconds for one search of a regular expression, and for all those of a request before its last."""
KNOWN = 1024
"""Headers and targets whose answer is remembered; searching with a limit of time takes 2 us each."""
LONGEST = 512
"""Bytes of what is remembered."""
NAME = "network.incoming.http_filter"
Headers = list[tuple[bytes, bytes]]
K = TypeVar("K", bound="bytes | tuple[bytes, bytes]")


@frozen
class Decision:
    """Is the request the local program's, and by which rule."""

    matches: bool
    reason: str


@frozen
class Request:
    """What is looked at. body: None while it has not come. late: has this decision taken too long?"""

    method: bytes
    target: bytes
    headers: Headers
    body: bytes | None = None
    late: Callable[[], bool] = lambda: False

    def search(self, pattern: Pattern, text: str) -> bool:
        """TooSlow, also for a search that is quick enough by itself after many that were."""
        if self.late():
            raise TooSlow(pattern.key, pattern.text, LIMIT)
        return pattern.search(text) is not None


class Asking(Protocol):
    """A decision that its judge is asked for. done: `decision` is there, of the same meaning."""

    @property
    def done(self) -> bool: ...

    @property
    def decision(self) -> Decision | None: ...

    def cancel(self) -> None:
        """It is not wanted any more."""


class Deciding(Protocol):
    """What a `Matcher` does."""

    @property
    def needs_body(self) -> bool: ...

    def decide(
        self, method: bytes, target: bytes, headers: Headers, body: bytes | None = None
    ) -> Decision | None: ...

    def soon(
        self, method: bytes, target: bytes, headers: Headers, body: bytes | None, again: Callable[[], object]
    ) -> Decision | Asking | None: ...


class Rule(Protocol):
    def look(self, request: Request) -> Decision | None:
        """None: it depends on the body. TooSlow."""

    def needles(self) -> Needles:
        """See `needles.py`."""


# The rules ----------------------------------------------------------------------------------------


@frozen
class _Words:
    """The two decisions of a rule, made once."""

    yes: Decision
    no: Decision

    @classmethod
    def of(cls, text: str) -> _Words:
        return cls(Decision(True, text), Decision(False, f"{text} does not match"))


class _Known(dict[K, bool], Generic[K]):
    """What was found out; forgotten as a whole when there is too much of it."""

    def keep(self, item: K, found: bool) -> bool:
        if len(self) >= KNOWN:
            self.clear()
        if (len(item) if isinstance(item, bytes) else len(item[0]) + len(item[1])) <= LONGEST:
            self[item] = found
        return found


def _header_text(item: tuple[bytes, bytes]) -> bytes:
    return item[0].lower() + b": " + item[1]


class _Header:
    def __init__(self, place: str, text: str) -> None:
        self._words, self._pattern = _Words.of(f"{place} {text!r}"), _pattern(text, ignore_case=True)
        self._known: _Known[tuple[bytes, bytes]] = _Known()

    def look(self, request: Request) -> Decision:
        for item in request.headers:
            found = self._known.get(item)
            if found is None:
                text = _header_text(item).decode(errors="replace")
                found = self._known.keep(item, request.search(self._pattern, text))
            if found:
                return self._words.yes
        return self._words.no

    def needles(self) -> Needles:
        return needles(Kind.HEADER, self._pattern.text)


class _Path:
    def __init__(self, place: str, text: str) -> None:
        self._words, self._pattern = _Words.of(f"{place} {text!r}"), _pattern(text, ignore_case=True)
        self._known: _Known[bytes] = _Known()

    def look(self, request: Request) -> Decision:
        found = self._known.get(request.target)
        if found is None:
            whole = path_of(request.target)
            path, query, _ = whole.partition("?")
            found = request.search(self._pattern, path)
            found = found or (bool(query) and request.search(self._pattern, whole))
            self._known.keep(request.target, found)
        return self._words.yes if found else self._words.no

    def needles(self) -> Needles:
        return needles(Kind.PATH, self._pattern.text)


class _Method:
    def __init__(self, place: str, text: str) -> None:
        self._words, self._method = _Words.of(f"{place} {text!r}"), text.upper().encode()

    def look(self, request: Request) -> Decision:
        return self._words.yes if request.method.upper() == self._method else self._words.no

    def needles(self) -> Needles:
        return [Needle(Kind.METHOD, self._method.lower())]


class _Jq:
    def __init__(self, place: str, text: str, ask: Callable[[list[bytes]], list[bool]]) -> None:
        self._words, self._ask = _Words.of(f"{place} {text!r}"), ask
        self._known: _Known[tuple[bytes, bytes]] = _Known()

    def look(self, request: Request) -> Decision:
        known, new = self._known, [item for item in request.headers if item not in self._known]
        if any(known.get(item) for item in request.headers):
            return self._words.yes
        found = self._ask([_header_text(item) for item in new]) if new else []
        for item, holds in zip(new, found, strict=True):
            known.keep(item, holds)
        return self._words.yes if any(found) else self._words.no

    def needles(self) -> Needles:
        return None


class _Body:
    def __init__(self, place: str, text: str, ask: Callable[[list[bytes]], list[bool]]) -> None:
        self._words, self._ask = _Words.of(f"{place} {text!r}"), ask

    def look(self, request: Request) -> Decision | None:
        if request.body is None:
            return None
        return self._words.yes if request.body and self._ask([request.body])[0] else self._words.no

    def needles(self) -> Needles:
        return None


class _AllOf:
    def __init__(self, place: str, rules: list[Rule]) -> None:
        self._yes, self._rules = Decision(True, f"{place} matches"), rules

    def look(self, request: Request) -> Decision | None:
        found: Decision | None = self._yes
        for rule in self._rules:
            decision = rule.look(request)
            if decision is None:
                found = None
            elif not decision.matches:
                return decision
        return found

    def needles(self) -> Needles:
        return of_all(rule.needles() for rule in self._rules)


class _AnyOf:
    def __init__(self, place: str, rules: list[Rule]) -> None:
        self._no, self._rules = Decision(False, f"{place} does not match"), rules

    def look(self, request: Request) -> Decision | None:
        found: Decision | None = self._no
        for rule in self._rules:
            decision = rule.look(request)
            if decision is None:
                found = None
            elif decision.matches:
                return decision
        return found

    def needles(self) -> Needles:
        return of_any(rule.needles() for rule in self._rules)


class _Not:
    def __init__(self, rule: Rule) -> None:
        self._rule = rule

    def look(self, request: Request) -> Decision | None:
        decision = self._rule.look(request)
        return None if decision is None else Decision(not decision.matches, f"not: {decision.reason}")

    def needles(self) -> Needles:
        return None


def path_of(target: bytes) -> str:
    """The path, with its query, of a request's target, which may name a host too (RFC 9112: 3.2)."""
    if target.startswith((b"http://", b"https://")):
        slash = target.find(b"/", target.find(b"//") + 2)
        target = target[slash:] if slash >= 0 else b"/"
    return target.decode(errors="replace")


def _pattern(text: str, ignore_case: bool = False) -> Pattern:
    return Pattern(NAME, text, ignore_case, LIMIT)


# From the configuration ---------------------------------------------------------------------------


@frozen
class Maker:
    """Makes rules, and collects what they ask. ValueError names what is wrong and where."""

    ask: Callable[[int, list[bytes]], list[bool]]
    questions: list[Question] = field(factory=list)

    def rule(self, value: Mapping[str, Any], place: str, depth: int = 0) -> Rule:
        """An element of all_of or any_of."""
        if depth > DEEPEST:
            raise ValueError(f"{place}: is nested deeper than {DEEPEST}")
        names = set(value)
        if names == {"body", "query", "matches"}:
            return self.body(value, place)
        if len(names) != 1 or (name := names.pop()) not in ("header", "path", "method", "query", *NESTED):
            got = ", ".join(sorted(map(str, value))) or "nothing"
            raise ValueError(f"{place}: expected exactly one of {FORMS}, got {got}")
        below = f"{place}.{name}"
        if name == "not":
            return _Not(self.rule(_mapping(value[name], below), below, depth + 1))
        if name in NESTED:
            return self.nested(name, value[name], below, depth + 1)
        return self.plain("jq" if name == "query" else name, _text(value[name], below), below)

    def nested(self, name: str, value: Any, place: str, depth: int = 1) -> Rule:
        """all_of or any_of."""
        items = value if isinstance(value, list) else [value]
        if not items:
            raise ValueError(f"{place}: is empty")
        rules = [
            self.rule(_mapping(item, f"{place}[{at}]"), f"{place}[{at}]", depth)
            for at, item in enumerate(items)
        ]
        return _AllOf(place, rules) if name == "all_of" else _AnyOf(place, rules)

    def plain(self, kind: str, text: str, place: str) -> Rule:
        if not text:
            raise ValueError(f"{place}: is empty")
        if kind == "method":
            if not (text.isascii() and text.replace("-", "").isalpha()):
                raise ValueError(f"{place}: {text!r} is no method", "one, such as GET; any_of has several")
            return _Method(place, text)
        if kind == "jq":
            return _Jq(place, text, self._asking(Question(JQ, text), place))
        try:
            return _Header(place, text) if kind == "header" else _Path(place, text)
        except ConfigError as error:
            raise ValueError(f"{place}: {error.message.removeprefix(f'feature.{NAME}: ')}") from error

    def body(self, value: Mapping[str, Any], place: str) -> Rule:
        if value["body"] != "json":
            raise ValueError(f"{place}.body: expected json, got {value['body']!r}")
        query, matches = _text(value["query"], f"{place}.query"), _text(value["matches"], f"{place}.matches")
        question = Question(JSON, query, matches)
        return _Body(place, f"{query} ~ {matches}", self._asking(question, place))

    def _asking(self, question: Question, place: str) -> Callable[[list[bytes]], list[bool]]:
        try:
            made(question)
        except ConfigError as error:
            raise ValueError(f"{place}: {error.message.removeprefix(f'feature.{NAME}: ')}") from error
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
        number = len(self.questions)
        self.questions.append(question)
        return lambda texts: self.ask(number, texts)


NESTED = ("all_of", "any_of", "not")
FORMS = "header, path, method, query (jq), all_of, any_of, not, or body with query and matches"


def _mapping(value: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{place}: expected a mapping of {FORMS}, got {value!r}")
    return value


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{place}: expected text, got {value!r}")
    if not value:
        raise ValueError(f"{place}: is empty")
    return value
