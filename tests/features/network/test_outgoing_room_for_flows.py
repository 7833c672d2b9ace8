"""Flows of datagrams make room for others: those whose socket is gone, then those that are silent."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest
from attrs import evolve
from hand_clock import settle
from verdicts import verdict_of

from pymirror.core.call import Address, Call, Errno, OtherAddress
from pymirror.core.feature import Launch
from pymirror.core.testing import FakeTarget, pair
from pymirror.features.network.outgoing import flows
from pymirror.features.network.outgoing.agent import Agent
from pymirror.features.network.outgoing.borrow import cookie_of
from pymirror.features.network.outgoing.config import Config
from pymirror.features.network.outgoing.layer import Layer


async def sent(layer: Any, program: socket.socket, port: int, name: str = "sendto") -> Any:
    """The verdict on the first datagram to that port, introduced as the pump does it."""
    call = Call(name, transport="udp", address=Address("127.0.0.1", port), socket=cookie_of(program))
    verdict = await verdict_of(layer.connect, call)
    if isinstance(verdict, OtherAddress):
        assert isinstance(verdict.relay, Address)
        program.sendto(verdict.introduction, (verdict.relay.host, verdict.relay.port))
        while not any(flow.program == call.socket for flow in layer._flows._flows):
            await settle()
        await settle()
    return evolve(call), verdict


@pytest.mark.parametrize("busy", [False, True])
async def test_the_one_that_was_silent_longest_goes_and_its_verdict_with_it(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, busy: bool
) -> None:
    monkeypatch.setattr(flows, "QUIET", 1000.0 if busy else 0.0)
    forgotten: list[Call] = []
    with FakeTarget(tmp_path) as target:
        async with pair(Layer, Agent, Config(max_connections=2, ignore_localhost=False), target) as both:
            await both.layer.prepare(Launch(["program"], {}, "/nowhere", forget=forgotten.append))
            with socket.socket(type=socket.SOCK_DGRAM) as one, socket.socket(type=socket.SOCK_DGRAM) as two:
                await sent(both.layer, one, 9, "connect")  # which could not be begun anew
                first, _ = await sent(both.layer, two, 9)
                _, verdict = await sent(both.layer, two, 10)
            if busy:
                assert isinstance(verdict, Errno) and verdict.code == errno.EADDRNOTAVAIL
            else:
                assert isinstance(verdict, OtherAddress)
            assert forgotten == ([] if busy else [first])
            assert both.layer._open == 2


async def test_a_closed_socket_makes_room_at_once(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows, "QUIET", 1000.0)
    with FakeTarget(tmp_path) as target:
        async with pair(Layer, Agent, Config(max_connections=1), target) as both:
            await both.layer.prepare(Launch(["program"], {}, "/nowhere"))
            for port in range(9, 12):
                with socket.socket(type=socket.SOCK_DGRAM) as program:
                    both.layer._flows._looked = 0.0
                    _, verdict = await sent(both.layer, program, port)
                assert isinstance(verdict, OtherAddress)
