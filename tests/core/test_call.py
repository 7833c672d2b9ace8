"""Calls and verdicts are values."""

from __future__ import annotations

from pymirror.core.call import CALLS, PATH_CALLS, Call, Errno, Scope, Text


def test_calls_are_values() -> None:
    assert Call("open", b"/x") == Call("open", b"/x") != Call("open", b"/x", write=True)
    assert set(PATH_CALLS) < CALLS


def test_a_verdict_is_asked_again_unless_it_says_otherwise() -> None:
    assert Errno("rule", code=2).scope is Scope.ONCE
    assert Text("rule", value=b"x") == Text("rule", value=b"x")
