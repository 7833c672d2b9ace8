"""What a request must hold to match: never more than the filter itself asks for."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymirror.core.errors import ConfigError
from pymirror.core.patterns import Pattern, TooSlow
from pymirror.features.network.incoming.http_filter import BodyFilter, HttpFilter, Matcher
from pymirror.features.network.incoming.needles import Kind, Needle, literal

NOTHING = lambda questions: None  # noqa: E731


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("x-user: alice", "x-user: alice"),
        ("^X-User: Alice$", "x-user: alice"),
        (r"^baggage: .*user=alice\b", "user=alice"),
        (r"^/api/v\d+/orders", "/orders"),
        (r"^x-id: a\.b", "x-id: a.b"),
        ("^x-user: (alice|bob)$", "x-user: "),
        ("^x-user: [a-c]+z", "x-user: "),
        ("abc+d", "abc"),
        ("abc*de", "ab"),
        ("abcd?", "abc"),
        ("colou?r: red", "r: red"),
        ("(a|b)*long", "long"),
        ("x-user: alice|y", ""),
        ("(?i)x-user", ""),
        ("^(?!x)abc", ""),
        ("(?=abc)abc", ""),
        ("abc{0}", ""),
        ("abc{e<=2}", ""),
        (r"\x61bc", ""),
        (r"\p{L}abc", ""),
        ("[[a]bc]abc", ""),
        ("größe", ""),
        (".*", ""),
        ("", ""),
    ],
)
def test_the_longest_text_that_must_be_there(pattern: str, text: str) -> None:
    assert literal(pattern) == text


def filtered(**key: Any) -> list[Needle] | None:
    return Matcher(HttpFilter(**key), NOTHING).needles  # type: ignore[arg-type]


HEADER, PATH = Needle(Kind.HEADER, b"x-a: 1"), Needle(Kind.PATH, b"/pay")


@pytest.mark.parametrize(
    ("key", "needles"),
    [
        ({"header_filter": "^X-A: 1$"}, [HEADER]),
        ({"path_filter": "^/pay"}, [PATH]),
        ({"method_filter": "POST"}, [Needle(Kind.METHOD, b"post")]),
        ({"header_filter": ".*"}, None),
        ({"header_filter_jq": "true"}, None),
        ({"body_filter": BodyFilter("json", "$.a", "b")}, None),
        ({"all_of": [{"path": "/pay"}, {"header": "x-a: 1"}]}, [HEADER]),
        ({"all_of": [{"path": "/pay"}, {"not": {"method": "GET"}}]}, [PATH]),
        ({"all_of": [{"path": ".*"}, {"query": "true"}]}, None),
        ({"any_of": [{"path": "/pay"}, {"header": "x-a: 1"}]}, [PATH, HEADER]),
        ({"any_of": [{"path": "/pay"}, {"not": {"method": "GET"}}]}, None),
        ({"all_of": [{"any_of": [{"path": "/pay"}, {"header": "x-a: 1"}]}, {"path": "/pay"}]}, [PATH]),
    ],
)
def test_what_a_filter_needs(key: dict[str, Any], needles: list[Needle] | None) -> None:
    assert filtered(**key) == needles


pieces = ["a", "B", "1", ".", "*", "+", "?", "(", ")", "|", "[", "]", "^", "$", "\\", "d", "{1}", ": ", "-"]
patterns = st.lists(st.sampled_from(pieces), min_size=1, max_size=10).map("".join)


@pytest.mark.filterwarnings("ignore:Possible:FutureWarning")  # of `re`, which makes the texts
@given(patterns, st.data())
def test_who_matches_has_it(pattern: str, data: st.DataObject) -> None:
    try:
        made = Pattern("key", pattern, True)
        text = data.draw(st.from_regex(re.compile(pattern, re.ASCII))).swapcase()
        found = made.search(text)
    except (ConfigError, TooSlow, re.error):
        return
    assert not found or literal(pattern) in text.lower()
