"""Dispatch: order, scopes, errors."""

import errno
import logging

import pytest

from pymirror.core.call import Call, Errno, Scope, Untouched
from pymirror.core.feature import LayerFeature, intercepts
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


async def test_first_verdict_wins_in_order():
    dispatch = Dispatch([half("a", None), half("b", Untouched("b")), half("c", Untouched("c"))])
    assert (await dispatch(Call("open", b"/x"))).reason == "b"


@pytest.mark.parametrize(("pure", "scope"), [(False, Scope.ONCE), (True, Scope.CALL)])
async def test_a_scope_is_kept_only_behind_pure_halves(pure, scope):
    dispatch = Dispatch([half("a", None, pure=pure), half("b", KEPT)])
    assert (await dispatch(Call("open", b"/x"))).scope is scope
    assert dispatch.sound("open") is pure


async def test_nobody_claims_it():
    verdict = await Dispatch([half("a", None, pure=True)])(Call("open", b"/x"))
    assert verdict == Untouched(NOT_CLAIMED, scope=Scope.CALL)


async def test_a_coroutine_may_decide():
    class Slow(LayerFeature):
        name = "slow"

        @intercepts("open")
        async def decide(self, call):
            return Untouched(call.path.decode())

    assert (await Dispatch([Slow(None, None)])(Call("open", b"/x"))).reason == "/x"


async def test_an_oserror_is_the_programs_errno():
    verdict = await Dispatch([half("a", raising(FileNotFoundError(errno.ENOENT, "gone")))])(
        Call("open", b"/x")
    )
    assert isinstance(verdict, Errno) and verdict.code == errno.ENOENT and verdict.reason.startswith("a: ")


@pytest.mark.parametrize("answer", [raising(ValueError("a bug")), "not a verdict"])
async def test_a_bug_is_eio_and_logged_with_the_features_name(answer, caplog):
    with caplog.at_level(logging.ERROR):
        verdict = await Dispatch([half("broken", answer)])(Call("open", b"/x"))
    assert isinstance(verdict, Errno) and verdict.code == errno.EIO
    assert "broken" in caplog.text


async def test_trace_sees_call_and_verdict():
    seen = []
    await Dispatch([half("a", KEPT)], trace=lambda *pair: seen.append(pair))(Call("open", b"/x"))
    assert seen == [(Call("open", b"/x"), KEPT)]


def test_calls_are_those_intercepted():
    assert Dispatch([half("a", None)]).calls == {"open"}
