"""What a filter asks by a small program of the user's: jq about a header, JSONPath about a body. Pure.

The one importer of `jq` and `jsonpath`, both imported late. Neither can be stopped from within (jq holds
the interpreter's lock, `def f: f; f` for ever), so a session asks through `judge.py`.
"""

from __future__ import annotations

import json
from typing import Any, Protocol

from attrs import frozen

from pymirror.core.patterns import Pattern, TooSlow

JQ, JSON = "jq", "json"


@frozen
class Question:
    """kind: JQ (query: a program) or JSON (query: a path; matches: a pattern for what it finds)."""

    kind: str
    query: str
    matches: str = ""


class Asked(Protocol):
    def holds(self, text: bytes) -> bool: ...


class Judging(Protocol):
    """Answers questions within a limit of time."""

    def ask(self, number: int, texts: list[bytes]) -> list[bool]:
        """Of the question with that number, about each of the texts. TooSlow. Everybody waits for it."""

    async def answer(self, number: int, texts: list[bytes]) -> list[bool]:
        """The same, and nobody waits but who asks. TooSlow."""


def made(question: Question) -> Asked:
    """ValueError says what is wrong with it."""
    return Jq(question.query) if question.kind == JQ else Json(question.query, question.matches)


class Jq:
    """A program with a header as its input, `name: value`; its first output that is a boolean decides."""

    def __init__(self, program: str) -> None:
        import jq  # type: ignore[import-not-found]

        try:
            self._program: Any = jq.compile(program)
        except ValueError as error:
            words = str(error).partition("\n")[0].removeprefix("jq: error: ")
            raise ValueError(f"{program!r} is not a jq program: {words}") from error

    def holds(self, text: bytes) -> bool:
        try:
            for value in self._program.input_value(text.decode(errors="replace")):
                if isinstance(value, bool):
                    return value
        except ValueError:  # what jq raises of this input
            return False
        return False


class Json:
    """A JSONPath (RFC 9535, and `typeof()`): one of the values it finds in a JSON text matches; text as it
    is, others as JSON."""

    def __init__(self, query: str, matches: str) -> None:
        from jsonpath import JSONPathEnvironment, JSONPathError
        from jsonpath.function_extensions import TypeOf

        environment = JSONPathEnvironment(strict=True)
        environment.function_extensions["typeof"] = TypeOf()
        try:
            self._path = environment.compile(query)
        except JSONPathError as error:
            words = str(error).partition("\n")[0]
            raise ValueError(f"{query!r} is not a JSONPath: {words}") from error
        self._failed = JSONPathError
        self._pattern = Pattern("network.incoming.http_filter", matches)

    def holds(self, text: bytes) -> bool:
        try:
            return any(self._matches(found.obj) for found in self._path.finditer(json.loads(text)))
        except (ValueError, RecursionError, self._failed, TooSlow):
            return False

    def _matches(self, value: object) -> bool:
        if not isinstance(value, str):
            value = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        return self._pattern.search(value) is not None
