"""Which sessions may have a port together, and what each is told."""

from __future__ import annotations

from typing import Any

import pytest

from pymirror.features.network.incoming import ruleset, sharing
from pymirror.features.network.incoming.http_filter import KINDS, BodyFilter, HttpFilter
from pymirror.features.network.incoming.sharing import MOST, Claim, Holder

A, B = Claim("header_filter", "a" * 16), Claim("path_filter", "b" * 16)
ANN, BOB = Holder("ann@box", A), Holder("bob@pc", B)
H = {"header": "a: 1"}
BODY = {"body": "json", "query": "$.a", "matches": "x"}


def claim(**chosen: Any) -> Claim:
    return Claim.of(HttpFilter(**chosen), 80)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"header_filter": "a: 1"}, {"header_filter": "a: 1"}, True),
        ({"header_filter": "a: 1"}, {"header_filter": "a: 2"}, False),
        ({"header_filter": "a"}, {"path_filter": "a"}, False),
        ({"path_filter": r"/\d"}, {"path_filter": r"/\D"}, False),
        ({"method_filter": "get"}, {"method_filter": "GET"}, True),
        ({"header_filter": "a"}, {"header_filter": "a", "ports": [80]}, True),
        ({"all_of": [H, {"path": "b"}]}, {"all_of": [{"path": "b"}, H, H]}, True),
        ({"all_of": [H, {"path": "b"}]}, {"any_of": [H, {"path": "b"}]}, False),
        ({"all_of": [{"not": H}]}, {"any_of": [{"not": {"all_of": H}}]}, True),
        ({"all_of": [{"not": H}]}, {"all_of": [H]}, False),
        ({"all_of": [BODY]}, {"body_filter": BodyFilter("json", "$.a", "x")}, True),
        ({"all_of": [BODY]}, {"body_filter": BodyFilter("json", "$.a", "y")}, False),
        ({"header_filter_jq": "true"}, {"any_of": [{"query": "true"}]}, True),
    ],
)
def test_filters_that_are_equal_are_known_as_such(one: Any, other: Any, same: bool) -> None:
    assert (claim(**one).digest == claim(**other).digest) is same
    assert claim(**one).kind == next(iter(one))


def test_without_a_filter_it_is_whole() -> None:
    assert claim(ports=[80]) == claim(path_filter="a", ports=[81]) == Claim() and Claim().kind == "whole"


@pytest.mark.parametrize("kind", KINDS)
def test_others_read_what_was_written_also_where_the_longest_name_is(kind: str) -> None:
    for held in (Claim(kind, "0" * 16), Claim()):
        for whose in ("w" * 64, "a: whole", "ann: path_filter 0123456789abcdef"):
            words = held.words(whose)
            assert ruleset.comment(words) == words
            assert Holder.read(words) == Holder(whose, held)


@pytest.mark.parametrize(
    ("words", "whose"),
    [("ann@box", "ann@box"), ("", "another session"), ("ann: path_filter 12", "ann: path_filter 12")],
)
def test_what_is_no_filters_is_whole(words: str, whose: str) -> None:
    assert Holder.read(words) == Holder(whose, Claim())


@pytest.mark.parametrize(
    ("wanted", "holders", "why"),
    [
        (Claim(), [], ""),
        (A, [], ""),
        (A, [BOB], ""),
        (Claim(), [Holder("eve")], "eve has it whole"),
        (A, [BOB, Holder("eve")], "eve has it whole"),
        (
            Claim(),
            [ANN],
            "ann@box (header_filter) has it by a filter: it is shared with further filters, and not whole",
        ),
        (
            Claim(),
            [ANN, BOB],
            "ann@box (header_filter), bob@pc (path_filter) have it by a filter: "
            "it is shared with further filters, and not whole",
        ),
        (A, [BOB, ANN], "ann@box has it by the same filter (header_filter)"),
        (Claim("all_of", A.digest), [ANN], "ann@box has it by the same filter (header_filter)"),
        (A, [BOB] * (MOST - 1), ""),
        (
            A,
            [BOB] * MOST,
            "8 sessions share it, and more may not: " + ", ".join(["bob@pc (path_filter)"] * MOST),
        ),
    ],
)
def test_who_may_have_it_beside_whom(wanted: Claim, holders: list[Holder], why: str) -> None:
    assert sharing.refusal(wanted, holders) == why


@pytest.mark.parametrize(
    ("rank", "words"),
    [
        (1, ""),
        (3, ""),
        (5, "it is shared with ann@box (header_filter), whose filter is asked first"),
        (
            9,
            "it is shared with ann@box (header_filter), bob@pc (path_filter), whose filters are asked first",
        ),
    ],
)
def test_who_is_asked_first(rank: int, words: str) -> None:
    assert sharing.earlier(rank, {7: BOB, 3: ANN}) == words
