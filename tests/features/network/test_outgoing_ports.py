"""A program that connects to a port it listens on reaches itself, whatever port that is on this machine."""

from __future__ import annotations

import os
import socket
from typing import Any

from verdicts import verdict_of

from pymirror.core.call import Address, Call, OtherAddress, Untouched
from pymirror.core.feature import Launch, Process
from pymirror.core.testing import FakeTarget, pair
from pymirror.features.network.outgoing.agent import Agent
from pymirror.features.network.outgoing.config import Config
from pymirror.features.network.outgoing.layer import Layer
from pymirror.features.network.ports import Listener, Ports


async def test_a_listener_is_found_under_the_port_it_asked_for(tmp_path: Any) -> None:
    launch = Launch(["program"], {}, "/nowhere")
    with FakeTarget(tmp_path) as target, socket.create_server(("127.0.0.1", 0)) as server:
        real = Address(*server.getsockname())
        launch.shared(Ports).add(Listener(Address("127.0.0.1", 80), real, False, 80, 7))
        async with pair(Layer, Agent, Config(), target) as both:
            await both.layer.prepare(launch)
            await both.layer.started(Process(os.getpid()))
            own = await verdict_of(
                both.layer.connect, Call("connect", transport="tcp", address=Address("127.0.0.1", 80))
            )
            assert isinstance(own, OtherAddress)
            assert (own.relay, own.here, own.introduction) == (real, True, b"")
            assert own.reason.endswith(f"listens on port 80, which is {real.port} here")
            there = await verdict_of(both.layer.connect, Call("connect", transport="tcp", address=real))
            assert isinstance(there, Untouched)
