"""The engine's way from a question to its answer, without a program: each has one, whatever the others do."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from attrs import define, field

from pymirror.core.call import Address, Call, OtherAddress, Untouched, Verdict
from pymirror.core.later import Later
from pymirror.layer.engines.seccomp import native
from pymirror.layer.engines.seccomp.engine import LOST, Engine


@define
class Asked:
    """In the pump's place. replies: by the question's cookie."""

    waiting: list[native.Question]
    event: int = field(factory=lambda: os.eventfd(1, os.EFD_NONBLOCK))
    replies: dict[int, Any] = field(factory=dict)

    def questions(self) -> Iterator[native.Question]:
        while self.waiting:
            yield self.waiting.pop(0)

    def reply(self, cookie: int, answer: Any) -> None:
        self.replies[cookie] = answer


def connect(cookie: int) -> native.Question:
    address = Address("10.0.0.1", cookie)
    return native.Question(cookie, Call("connect", transport="tcp", address=address), socket.AF_INET)


def unwritable(call: Call) -> Verdict:
    return OtherAddress("a bug", relay=Address("::1", 1))  # for a socket of IPv4


def raises(call: Call) -> Verdict:
    raise RuntimeError("a bug")


def later(call: Call) -> Later:
    answer = Later()
    answer.settle(unwritable(call))
    return answer


@pytest.mark.parametrize("wrong", [unwritable, raises, later])
async def test_an_answer_that_cannot_be_given_costs_its_call_alone(wrong: Any) -> None:
    engine, pump = Engine(), Asked([connect(1), connect(2), connect(3)])
    engine._made = pump  # type: ignore[assignment]
    fine = Untouched("fine")
    engine._dispatch = lambda call: wrong(call) if call.address.port == 2 else fine  # type: ignore
    try:
        engine._drain()
    finally:
        os.close(pump.event)
    assert pump.replies == {1: native.answer_of(fine), 2: LOST, 3: native.answer_of(fine)}
    assert LOST.code == errno.EIO
