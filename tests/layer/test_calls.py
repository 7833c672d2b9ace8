"""Dispatch: order, scopes, errors."""

import asyncio
import errno
import logging

import attrs
import pytest

from pymirror.core.call import Call, Errno, Scope, Untouched, Verdict
from pymirror.core.errors import ChannelLost
from pymirror.core.feature import LayerFeature, intercepts
from pymirror.core.later import Later
from pymirror.layer.calls import NOT_CLAIMED, Dispatch


def half(feature: str, answer, pure: bool = False):
    class Made(LayerFeature):
        name = feature

        @intercepts("open", pure=pure)
        def decide(self, call):
            return answer(call) if callable(answer) else answer

    return Made(None, None)


def raising(error):
    def answer(_call):
        raise error

    return answer


KEPT = Untouched("kept", scope=Scope.CALL)


def test_first_verdict_wins_in_order():
    dispatch = Dispatch([half("a", None), half("b", Untouched("b")), half("c", Untouched("c"))])
    assert dispatch(Call("open", b"/x")).reason == "b"


@pytest.mark.parametrize(("pure", "scope"), [(False, Scope.ONCE), (True, Scope.CALL)])
def test_a_scope_is_kept_only_behind_pure_halves(pure, scope):
    dispatch = Dispatch([half("a", None, pure=pure), half("b", KEPT)])
    assert dispatch(Call("open", b"/x")).scope is scope
    assert dispatch.sound("open") is pure


def test_nobody_claims_it():
    verdict = Dispatch([half("a", None, pure=True)])(Call("open", b"/x"))
    assert verdict == Untouched(NOT_CLAIMED, scope=Scope.CALL)


async def test_a_coroutine_may_decide():
    class Slow(LayerFeature):
        name = "slow"

        @intercepts("open")
        async def decide(self, call):
            return Untouched(call.path.decode())

    assert (await later(Dispatch([Slow(None, None)])(Call("open", b"/x")))).reason == "/x"


async def later(answer):
    assert not isinstance(answer, Verdict)
    return await answer


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (None, Untouched("next", scope=Scope.ONCE)),
        (Untouched("slow", scope=Scope.CALL), Untouched("slow", scope=Scope.CALL)),
        (PermissionError(errno.EACCES, "no"), Errno("slow: Permission denied", code=errno.EACCES)),
        (7, Errno("slow: not a verdict", code=errno.EIO)),
    ],
)
async def test_after_a_half_that_had_to_wait_the_next_is_asked(answer, wanted):
    class Slow(LayerFeature):
        name = "slow"

        @intercepts("open")
        async def decide(self, call):
            if isinstance(answer, Exception):
                raise answer
            return answer

    seen = []
    halves = [
        half("first", None, pure=True),
        Slow(None, None),
        half("next", attrs.evolve(KEPT, reason="next")),
    ]
    dispatch = Dispatch(halves, trace=lambda *pair: seen.append(pair))
    assert await later(dispatch(Call("open", b"/x"))) == wanted
    assert seen == [(Call("open", b"/x"), wanted)]


def test_an_oserror_is_the_programs_errno():
    verdict = Dispatch([half("a", raising(FileNotFoundError(errno.ENOENT, "gone")))])(Call("open", b"/x"))
    assert isinstance(verdict, Errno) and verdict.code == errno.ENOENT and verdict.reason.startswith("a: ")


@pytest.mark.parametrize("answer", [raising(ValueError("a bug")), "not a verdict"])
def test_a_bug_is_eio_and_logged_with_the_features_name(answer, caplog):
    with caplog.at_level(logging.ERROR):
        verdict = Dispatch([half("broken", answer)])(Call("open", b"/x"))
    assert isinstance(verdict, Errno) and verdict.code == errno.EIO
    assert "broken" in caplog.text


def test_a_lost_channel_is_eio_and_no_bug(caplog):
    with caplog.at_level(logging.INFO):
        verdict = Dispatch([half("a", raising(ChannelLost("gone")))])(Call("open", b"/x"))
    assert verdict == Errno("a: gone", code=errno.EIO, scope=Scope.ONCE)
    assert not caplog.text


def test_trace_sees_call_and_verdict():
    seen = []
    Dispatch([half("a", KEPT)], trace=lambda *pair: seen.append(pair))(Call("open", b"/x"))
    assert seen == [(Call("open", b"/x"), KEPT)]


def test_a_verdict_that_comes_later_is_told_when_it_comes_and_once():
    seen, carried, later = [], [], Later()
    dispatch = Dispatch([half("a", None), half("b", later)], trace=lambda *pair: seen.append(pair[1]))
    dispatch(Call("open", b"/x")).then(carried.append)
    assert not seen and not later.settled
    later.settle(KEPT)
    later.settle(Untouched("too late"))
    assert seen == carried == [Untouched("kept")] and later.settled


async def test_a_verdict_that_comes_later_can_be_awaited():
    for settled in (True, False):
        later = Later()
        if settled:
            later.settle(KEPT)
        else:
            asyncio.get_running_loop().call_soon(later.settle, KEPT)
        assert await later == KEPT


def test_calls_are_those_intercepted():
    assert Dispatch([half("a", None)]).calls == {"open"}
