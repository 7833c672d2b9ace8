"""Following a list: scripted API servers, and what is told, repeated, waited for and given up."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from itertools import islice
from typing import Any

import pytest

from pymirror.core.errors import ClusterError
from pymirror.runtimes.kubernetes.api import Api, Json, Retry, difference
from pymirror.runtimes.kubernetes.connection import Connection
from pymirror.runtimes.kubernetes.refusals import Busy, Expired, Forbidden, Unreachable
from pymirror.runtimes.kubernetes.resources import PODS, Place

HERE = Connection("http://x", "ctx", "default", None, None, None, None, None)
PLACE = PODS.at("shop")


class Paused(Retry):
    """Does not wait; remembers for which attempts it would have."""

    asked: list[int]

    def wait(self, attempt: int, jitter: float) -> float:
        self.asked.append(attempt)
        return 0.0


class Stream:
    """A WebSocket that brings these frames and ends."""

    def __init__(self, frames: Sequence[str]) -> None:
        self.frames = frames

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def __aiter__(self) -> AsyncIterator[str]:
        for frame in self.frames:
            yield frame


class Scripted(Api):
    """Answers each list and each watch with the next of the script; the last one for ever."""

    def __init__(self, lists: Sequence[Sequence[Json]], watches: Sequence[Any]) -> None:
        retry = Paused()
        object.__setattr__(retry, "asked", [])
        super().__init__(HERE, retry)
        self.lists, self.watches = list(lists), list(watches)
        self.waits: list[int] = retry.asked
        self.listed, self.versions = 0, list[str]()

    async def listing(self, place: Place, **selectors: str) -> tuple[list[Json], str]:
        found = self.lists[min(self.listed, len(self.lists) - 1)]
        self.listed += 1
        return list(found), f"list-{self.listed}"

    async def dial(self, verb: str, place: Place, query: dict[str, str], protocols: Sequence[str]) -> Any:
        self.versions.append(query["resourceVersion"])
        found = self.watches.pop(0) if len(self.watches) > 1 else self.watches[0]
        if isinstance(found, Exception):
            raise found
        return Stream(found)


def pod(name: str, version: str = "1") -> Json:
    return {"metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": version}}


def event(kind: str, item: Json) -> str:
    return json.dumps({"type": kind, "object": item})


GONE = event("ERROR", {"code": 410, "message": "too old resource version"})


async def told(api: Scripted, number: int) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    async with aclosing(api.follow(PLACE)) as changes:
        async for change, item in changes:
            found.append((change, item["metadata"]["name"]))
            if len(found) == number:
                break
    return found


async def test_what_is_there_comes_first_then_every_change() -> None:
    api = Scripted([[pod("a")]], [[event("MODIFIED", pod("a", "2")), event("ADDED", pod("b", "3"))]])
    assert await told(api, 3) == [("ADDED", "a"), ("MODIFIED", "a"), ("ADDED", "b")]


async def test_a_watch_that_ends_is_resumed_where_it_was() -> None:
    bookmark = event("BOOKMARK", {"metadata": {"resourceVersion": "7"}})
    api = Scripted([[]], [[event("ADDED", pod("a", "5")), bookmark], [event("DELETED", pod("a", "8"))]])
    assert await told(api, 2) == [("ADDED", "a"), ("DELETED", "a")]
    assert api.versions == ["list-1", "7"]
    assert api.listed == 1


async def test_a_watch_that_is_too_old_starts_with_a_new_list() -> None:
    api = Scripted([[pod("a"), pod("b")], [pod("b"), pod("c")]], [[GONE], []])
    found = await told(api, 5)
    assert found[2:] == [("DELETED", "a"), ("ADDED", "b"), ("ADDED", "c")]


async def test_a_server_that_finds_everything_too_old_is_given_up() -> None:
    api = Scripted([[]], [[GONE]])
    with pytest.raises(Expired):
        await told(api, 1)
    assert api.listed == 3  # the first and as many repetitions as a request has


async def test_watches_that_bring_nothing_are_asked_for_ever_more_slowly() -> None:
    api = Scripted([[]], [*([] for _ in range(6)), [event("ADDED", pod("a"))]])
    assert await told(api, 1) == [("ADDED", "a")]
    assert api.waits == [0, 1, 2, 3, 4, 5]


async def test_a_failure_is_repeated_and_the_second_in_a_row_not_for_ever() -> None:
    away = Unreachable("gone")
    api = Scripted([[]], [away, Busy("later"), [event("ADDED", pod("a"))], away, away, away])
    found: list[str] = []
    with pytest.raises(Unreachable):
        async for _, item in api.follow(PLACE):
            found.append(item["metadata"]["name"])
    assert found == ["a"]


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (event("ERROR", {"code": 403, "message": 'User "dev" cannot watch resource "pods"'}), Forbidden),
        ("{nonsense", ClusterError),
        ('{"type": "ADDED"}', ClusterError),
    ],
)
async def test_what_does_not_mend_is_told_at_once(frame: str, kind: type[ClusterError]) -> None:
    api = Scripted([[]], [[frame]])
    with pytest.raises(kind):
        await told(api, 1)
    assert api.waits == []


def test_the_difference_of_two_lists() -> None:
    known: dict[str, Json] = {}
    assert [change for change, _ in difference(known, [pod("a"), pod("b")])] == ["ADDED", "ADDED"]
    assert [change for change, _ in islice(difference(known, [pod("b")]), 1)] == ["DELETED"]
    assert list(known) == ["uid-b"]


def test_waiting_has_an_end_however_often_it_was_in_vain() -> None:
    assert Retry(0.5, 5.0).wait(5000, 1.0) == 5.0
