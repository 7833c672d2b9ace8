"""jq and JSONPath in a process of their own: what they say, and what ends those that do not end."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from pymirror.core.patterns import TooSlow
from pymirror.features.network.incoming.http_filter import HttpFilter, Matcher
from pymirror.features.network.incoming.http_rules import Decision
from pymirror.features.network.incoming.judge import Judge
from pymirror.features.network.incoming.questions import JQ, JSON, Question

pytestmark = pytest.mark.asyncio
ANN = Question(JQ, 'test("ann")')
Made = Callable[..., Judge]


@pytest_asyncio.fixture
async def judged() -> AsyncIterator[Made]:
    made: list[Judge] = []

    def make(*questions: Question, wall: float = 60.0) -> Judge:
        made.append(Judge(questions, wall))
        return made[-1]

    yield make
    for judge in made:
        judge.close()


async def test_answers(judged: Made) -> None:
    judge = judged(ANN, Question(JSON, "$.a", "^1$"))
    await judge.ready()
    assert judge.ask(0, [b"x: ann", b"x: bob"]) == [True, False]
    assert judge.ask(1, [b'{"a": 1}', b'{"a": 12}', b"{"]) == [True, False, False]
    await judge.ready()


@pytest.mark.parametrize(
    ("question", "text"),
    [
        (Question(JQ, "def f: f; f"), b""),
        (Question(JQ, "[range(1e9)] | length == 0"), b""),
        (Question(JQ, "[limit(1e7; repeat(.))] | length == 0"), b"x" * 1000),
        (Question(JSON, "$..[?@..[?@..[?@..[?@.x==2]]]]", "a"), b"[" * 60 + b"1]" + b",1,1,1,1,1,1]" * 59),
    ],
)
async def test_what_does_not_end_is_ended_and_the_next_is_answered(
    judged: Made, question: Question, text: bytes
) -> None:
    judge = judged(question, ANN)
    await judge.ready()
    with pytest.raises(TooSlow, match="takes more than"):
        judge.ask(0, [text])
    await judge.ready()
    assert judge.ask(1, [b"x: ann"]) == [True]


async def test_until_it_is_ready_nothing_matches(judged: Made) -> None:
    judge = judged(ANN)
    with pytest.raises(TooSlow, match="not ready"):
        judge.ask(0, [b"x: ann"])
    await judge.ready()
    assert judge.ask(0, [b"x: ann"]) == [True]


async def test_a_worker_has_so_much_memory_and_no_more(judged: Made) -> None:
    judge = judged(ANN)
    await judge.ready()
    limit, _ = resource.prlimit(judge._worker.pid, resource.RLIMIT_AS)
    assert limit == 512 << 20


async def test_a_worker_that_is_stopped_or_killed_is_another_one(judged: Made) -> None:
    judge = judged(ANN, wall=0.2)
    for end in (signal.SIGSTOP, signal.SIGKILL):
        await judge.ready()
        os.kill(judge._worker.pid, end)
        with pytest.raises(TooSlow):
            judge.ask(0, [b"x: ann"])


async def test_a_worker_that_cannot_be_started_again_is_tried_later(
    judged: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = judged(ANN)
    await judge.ready()
    os.kill(judge._worker.pid, signal.SIGKILL)
    with monkeypatch.context() as patched:
        patched.setattr("sys.executable", "/nonexistent")
        for _ in range(2):
            with pytest.raises(TooSlow):
                judge.ask(0, [b"x: ann"])
    with pytest.raises(TooSlow, match="not ready"):
        judge.ask(0, [b"x: ann"])
    await judge.ready()
    assert judge.ask(0, [b"x: ann"]) == [True]


async def test_a_matcher_with_a_judge(judged: Made) -> None:
    judges: list[Judge] = []

    def judge(questions: list[Question]) -> Judge:
        judges.append(judged(*questions))
        return judges[-1]

    told: list[str] = []
    config = HttpFilter(any_of=[{"query": "def f: f; f"}, {"method": "get"}])
    matcher = Matcher(config, judge, told.append)
    await judges[0].ready()
    for _ in range(2):
        decision = matcher.decide(b"GET", b"/", [(b"A", b"b")])
        assert decision is not None and not decision.matches
        await judges[0].ready()
    assert len(told) == 1 and "def f: f; f" in told[0]


async def test_nobody_waits_for_who_asks(judged: Made) -> None:
    """One that takes all its time is ended; what others ask meanwhile is answered after it, and matches."""
    judge = judged(Question(JQ, "def f: f; f"), ANN)
    turns, asked = 0, asyncio.ensure_future(judge.answer(0, [b""]))
    after = asyncio.ensure_future(judge.answer(1, [b"x: ann", b"x: bob"]))
    while not asked.done():
        turns += 1
        await asyncio.sleep(0)
    with pytest.raises(TooSlow, match="takes more than"):
        await asked
    assert turns > 10
    assert await after == [True, False]
    assert await judge.answer(1, [b"x: ann"] * 1000) == [True] * 1000


async def test_who_waits_too_long_behind_others_is_not_answered(judged: Made) -> None:
    judge = judged(ANN, wall=0.2)
    await judge.ready()
    os.kill(judge._worker.pid, signal.SIGSTOP)
    found = await asyncio.gather(*(judge.answer(0, [b"x: ann"]) for _ in range(3)), return_exceptions=True)
    assert [type(each) for each in found] == [TooSlow] * 3


async def test_who_does_not_want_its_answer_any_more_gives_nobody_a_wrong_one(judged: Made) -> None:
    judge = judged(ANN)
    await judge.ready()
    asked = asyncio.ensure_future(judge.answer(0, [b"x: ann"]))
    await asyncio.sleep(0)
    asked.cancel()
    assert await judge.answer(0, [b"x: bob", b"x: ann"]) == [False, True]


@pytest.mark.parametrize(
    ("config", "request_", "matches"),
    [
        (HttpFilter(header_filter_jq='test("ann")'), (b"GET", b"/", [(b"x", b"ann")], None), True),
        (
            HttpFilter(all_of=[{"query": 'test("a")'}, {"query": 'test("b")'}, {"not": {"method": "GET"}}]),
            (b"PUT", b"/", [(b"x", b"a"), (b"y", b"b")], None),
            True,
        ),
        (
            HttpFilter(any_of=[{"query": 'test("z")'}, {"body": "json", "query": "$.a", "matches": "1"}]),
            (b"GET", b"/", [(b"x", b"a")], b'{"a": 1}'),
            True,
        ),
        (HttpFilter(any_of=[{"query": "def f: f; f"}]), (b"GET", b"/", [(b"x", b"a")], None), False),
    ],
)
async def test_a_decision_comes_soon(judged: Made, config: HttpFilter, request_: Any, matches: bool) -> None:
    """Each thing that the judge must be asked, one after the other."""
    told, again = list[str](), asyncio.Event()
    matcher = Matcher(config, lambda asked: judged(*asked), told.append, spawn=asyncio.ensure_future)
    asking = matcher.soon(*request_, again.set)
    assert asking is not None and not isinstance(asking, Decision) and not asking.done
    await again.wait()
    assert asking.done and asking.decision is not None and asking.decision.matches is matches
    assert len(told) == (not matches)


async def test_what_is_known_is_decided_at_once(judged: Made) -> None:
    config = HttpFilter(any_of=[{"method": "GET"}, {"query": 'test("ann")'}])
    matcher = Matcher(config, lambda asked: judged(*asked), spawn=asyncio.ensure_future)
    decision = matcher.soon(b"GET", b"/", [(b"x", b"ann")], None, lambda: None)
    assert isinstance(decision, Decision) and decision.matches
