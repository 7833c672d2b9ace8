"""The keys of http_filter: what is refused, and what matches."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import msgspec
import pytest

from pymirror.core.errors import ConfigError
from pymirror.core.structure import structure
from pymirror.features.network.incoming.http_filter import Asked, HttpFilter, Matcher
from pymirror.features.network.incoming.http_rules import KNOWN
from pymirror.features.network.incoming.questions import Question, made

PLACE = "feature.network.incoming.http_filter"


class Here:
    """Answers in this process, without limits."""

    def __init__(self, questions: list[Question]) -> None:
        self._asked = [made(question) for question in questions]
        self.count = 0

    def ask(self, number: int, texts: list[bytes]) -> list[bool]:
        self.count += len(texts)
        return [self._asked[number].holds(text) for text in texts]


def config(value: dict[str, Any]) -> HttpFilter:
    return structure(HttpFilter, value, PLACE)


def matcher(value: dict[str, Any]) -> Matcher:
    return Matcher(config(value), Here)


GET = (b"GET", b"/Api/items?Id=7", [(b"Host", b"shop"), (b"X-User", b"Ann")])
JSON = {"body": "json", "query": "$.user", "matches": "^ann$"}


@pytest.mark.parametrize(
    ("value", "matches"),
    [
        ({"header_filter": "^x-user: ann$"}, True),
        ({"header_filter": "X-USER: ANN"}, True),
        ({"header_filter": "^ann$"}, False),
        ({"header_filter": r"^x-user: (?!bob)\p{L}+$"}, True),
        ({"header_filter": "shop.*ann"}, False),
        ({"path_filter": "^/api/items$"}, True),
        ({"path_filter": r"items\?id=7$"}, True),
        ({"path_filter": "^items"}, False),
        ({"method_filter": "get"}, True),
        ({"method_filter": "GE"}, False),
        ({"header_filter_jq": 'test("^x-user: Ann$")'}, True),
        ({"header_filter_jq": 'test("ann$")'}, False),
        ({"header_filter_jq": '"text", 1, (. == "host: shop"), true'}, True),
        ({"header_filter_jq": "error"}, False),
        ({"header_filter_jq": "1"}, False),
        ({"all_of": [{"header": "ann"}, {"path": "items"}]}, True),
        ({"all_of": [{"header": "ann"}, {"path": "users"}]}, False),
        ({"any_of": [{"header": "bob"}, {"path": "items"}]}, True),
        ({"any_of": [{"header": "bob"}, {"method": "post"}]}, False),
        ({"any_of": {"method": "get"}}, True),
        ({"all_of": [{"not": {"header": "bob"}}]}, True),
        ({"all_of": [{"not": {"any_of": [{"method": "post"}, {"header": "ann"}]}}]}, False),
        (
            {
                "all_of": [
                    {"query": 'test("Ann")'},
                    {"any_of": [{"path": "nope"}, {"all_of": [{"path": "api"}]}]},
                ]
            },
            True,
        ),
    ],
)
def test_what_matches(value: dict[str, Any], matches: bool) -> None:
    ready = matcher(value)
    for _ in range(2):  # what is remembered says the same
        decision = ready.decide(*GET)
        assert decision is not None and decision.matches is matches
    assert not ready.needs_body


@pytest.mark.parametrize(
    ("query", "pattern", "body", "matches"),
    [
        ("$.user", "^ann$", b'{"user": "ann"}', True),
        ("$.user", "^ann$", b'{"user": "Ann"}', False),
        ("$.user", "^7$", b'{"user": 7}', True),
        ("$.user", '^{"a":[1,null]}$', b'{"user": {"a": [1, null]}}'.replace(b"[", b"["), False),
        ("$.user", r'^\{"a":\[1,null\]\}$', b'{"user": {"a": [1, null]}}', True),
        ("$..name", "^b$", b'[{"name": "a"}, {"x": {"name": "b"}}]', True),
        ("$[?typeof(@.n) == 'number'].n", "^3$", b'[{"n": "3"}, {"n": 3}]', True),
        ("$[?typeof(@.n) == 'string'].n", "^4$", b'[{"n": "3"}, {"n": 4}]', False),
        ("$.user", ".", b"", False),
        ("$.user", ".", b"{", False),
        ("$.user", ".", b"\xff\xfe", False),
        ("$..x", ".", b"[" * 60000, False),
    ],
)
def test_a_body(query: str, pattern: str, body: bytes, matches: bool) -> None:
    ready = matcher({"body_filter": {"body": "json", "query": query, "matches": pattern}})
    assert ready.needs_body
    assert ready.decide(*GET) is None
    decision = ready.decide(*GET, body)
    assert decision is not None and decision.matches is matches


@pytest.mark.parametrize(
    ("value", "matches"),
    [
        ({"all_of": [JSON, {"header": "bob"}]}, False),
        ({"all_of": [JSON, {"header": "ann"}]}, None),
        ({"any_of": [JSON, {"header": "ann"}]}, True),
        ({"any_of": [JSON, {"header": "bob"}]}, None),
        ({"all_of": [{"not": JSON}]}, None),
        ({"any_of": [{"not": {"all_of": [JSON, {"path": "none"}]}}]}, True),
    ],
)
def test_a_body_is_waited_for_only_where_it_decides(value: dict[str, Any], matches: bool | None) -> None:
    decision = matcher(value).decide(*GET)
    assert (None if decision is None else decision.matches) is matches


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"header_filter": "ann"}, "header_filter 'ann'"),
        ({"header_filter": "bob"}, "header_filter 'bob' does not match"),
        ({"all_of": [{"header": "ann"}, {"path": "u"}]}, "all_of[1].path 'u' does not match"),
        ({"all_of": [{"header": "ann"}]}, "all_of matches"),
        ({"any_of": [{"header": "bob"}, {"method": "get"}]}, "any_of[1].method 'get'"),
        ({"any_of": [{"header": "bob"}]}, "any_of does not match"),
        ({"any_of": [{"not": {"header": "bob"}}]}, "not: any_of[0].not.header 'bob' does not match"),
    ],
)
def test_the_reason_names_the_rule(value: dict[str, Any], reason: str) -> None:
    decision = matcher(value).decide(*GET)
    assert decision is not None and decision.reason == reason


@pytest.mark.parametrize(
    ("target", "path"),
    [(b"http://shop:80/a?b", "^/a$"), (b"http://shop", "^/$"), (b"*", r"^\*$"), (b"/a?", "^/a$")],
)
def test_a_target_may_be_more_than_a_path(target: bytes, path: str) -> None:
    decision = matcher({"path_filter": path}).decide(b"GET", target, [])
    assert decision is not None and decision.matches


def test_a_pattern_that_takes_for_ever_does_not_match_and_is_told_once() -> None:
    told: list[str] = []
    value = config({"all_of": [{"not": {"header": "^x: (a+)+$"}}]})
    ready = Matcher(value, told=told.append)
    for _ in range(2):
        decision = ready.decide(b"GET", b"/", [(b"X", b"a" * 5000 + b"!" + b"a" * 5000)])
        assert decision is not None
        if "searching this pattern" not in decision.reason:
            pytest.skip("this version of regex knows a short cut")
        assert not decision.matches
    assert len(told) == 1


@pytest.mark.asyncio
async def test_a_judge_that_cannot_be_asked_decides_nothing_and_that_is_told_once() -> None:
    class Broken:
        async def answer(self, number: int, texts: list[bytes]) -> list[bool]:
            raise ValueError("out of range")

    told, tasks = list[str](), list[asyncio.Task[None]]()

    def spawn(work: Coroutine[Any, Any, None]) -> Any:
        tasks.append(asyncio.ensure_future(work))
        return tasks[-1]

    value = config({"header_filter_jq": 'test("1")'})
    ready = Matcher(value, judge=lambda _: Broken(), told=told.append, spawn=spawn)  # type: ignore[arg-type,return-value]
    for _ in range(2):
        again = asyncio.Event()
        asked = ready.soon(b"GET", b"/", [(b"A", b"1")], None, again.set)
        await again.wait()
        assert isinstance(asked, Asked) and asked.done and asked.decision is not None
        assert not asked.decision.matches and asked.decision.reason.endswith("asked: ValueError")
    assert len(told) == 1 and told[0].endswith("such requests do not match")


def test_many_searches_of_one_request_are_limited_together() -> None:
    times = iter([0.0, 0.0, 0.01, 0.021, 0.0, 0.0, 0.0, 0.0, 0.0])
    ready = Matcher(config({"header_filter": "bob"}), clock=lambda: next(times))
    headers = [(b"A", b"1"), (b"B", b"2"), (b"C", b"3")]
    late, known = ready.decide(b"GET", b"/", headers), ready.decide(b"GET", b"/", headers)
    assert late is not None and "searching this pattern took more than 0.02 s" in late.reason
    assert known is not None and known.reason == "header_filter 'bob' does not match"


def test_what_is_remembered_is_bounded() -> None:
    ready = matcher({"header_filter_jq": 'test("1$")'})
    judge: Any = ready._judge
    for number in range(KNOWN + 10):
        ready.decide(b"GET", b"/", [(b"A", b"%d" % number), (b"B", b"2")])
    assert judge.count < 2 * KNOWN + 40
    assert len(ready._rule._known) < KNOWN  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("value", "place", "words"),
    [
        ({"header_filter": "("}, "header_filter", "'(' is not a regular expression"),
        ({"header_filter": ""}, "header_filter", "is empty"),
        ({"path_filter": "*"}, "path_filter", "is not a regular expression"),
        ({"method_filter": ""}, "method_filter", "is empty"),
        ({"method_filter": "GET|POST"}, "method_filter", "is no method"),
        ({"any_of": [{"method": "GET, POST"}]}, "any_of[0].method", "is no method"),
        ({"header_filter_jq": "bad("}, "header_filter_jq", "is not a jq program"),
        ({"all_of": []}, "all_of", "is empty"),
        ({"any_of": []}, "any_of", "is empty"),
        ({"any_of": [{"all_of": []}]}, "any_of[0].all_of", "is empty"),
        ({"all_of": [{"header": "a", "path": "b"}]}, "all_of[0]", "exactly one of"),
        ({"all_of": [{"haeder": "a"}]}, "all_of[0]", "exactly one of"),
        ({"all_of": [{"body": "json", "query": "$.a"}]}, "all_of[0]", "exactly one of"),
        ({"all_of": [{"body": "xml", "query": "$.a", "matches": "b"}]}, "all_of[0].body", "expected json"),
        ({"all_of": [{"header": 1}]}, "all_of[0].header", "expected text"),
        ({"all_of": [{"not": [{"header": "a"}]}]}, "all_of[0].not", "expected a mapping"),
        (
            {"body_filter": {"body": "json", "query": "$[", "matches": "b"}},
            "body_filter",
            "is not a JSONPath",
        ),
        (
            {"body_filter": {"body": "json", "query": "user", "matches": "b"}},
            "body_filter",
            "is not a JSONPath",
        ),
        (
            {"body_filter": {"body": "json", "query": "$.a", "matches": "("}},
            "body_filter",
            "regular expression",
        ),
        ({"body_filter": {"body": "json", "query": "$.a"}}, "body_filter.matches", "required"),
        ({"header_filter": "a", "method_filter": "b"}, "", "at most one of header_filter, method_filter"),
        ({"all_of": [{"header": "a"}], "header_filter_jq": "."}, "", "at most one of"),
        ({"header_filter": "a", "ports": [0]}, "ports", "0 is no port"),
        ({"header": "a"}, "header", "unknown key"),
    ],
)
def test_what_is_refused_at_load(value: dict[str, Any], place: str, words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        config(value)
    text = str(raised.value)
    assert words in text
    assert text.startswith(f"{PLACE}.{place.partition('[')[0]}".rstrip("."))
    assert place in text
    if "at most" in words:
        assert "all_of" in raised.value.hint


def nested(depth: int) -> dict[str, Any]:
    rule: dict[str, Any] = {"header": "a"}
    for _ in range(depth):
        rule = {"all_of": [rule]}
    return rule


def test_how_deep_it_may_be() -> None:
    assert config(nested(8)).given == ["all_of"]
    with pytest.raises(ConfigError, match="deeper than 8"):
        config(nested(10))


def test_ports() -> None:
    assert config({"header_filter": "a"}).concerns(80)
    some = config({"header_filter": "a", "ports": 80})
    assert (some.concerns(80), some.concerns(81)) == (True, False)
    assert not config({}).concerns(80)
    assert config({"ports": [80]}).warnings(PLACE) == [f"{PLACE}.ports has no effect: no filter is given"]


def test_it_crosses_to_the_agent_as_it_is() -> None:
    value = config({"all_of": [JSON, {"not": {"header": "a"}}], "ports": [80]})
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=HttpFilter) == value
