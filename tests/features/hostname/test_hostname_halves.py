"""Both halves of `hostname`, without a network."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from pymirror.core.call import Call, Scope, Text, Untouched, Verdict
from pymirror.core.feature import Launch
from pymirror.features.hostname.agent import Agent
from pymirror.features.hostname.config import Config
from pymirror.features.hostname.layer import Layer, decide


class Target:
    """A target of which only the host name is asked."""

    pid, root, uid, gid = 1, -1, 0, 0

    def __init__(self, name: bytes) -> None:
        self.name = name

    def environ(self) -> dict[bytes, bytes]:
        return {}

    def hostname(self) -> bytes:
        return self.name


class Wire:
    """The layer half's peer: the agent half itself; counts the requests."""

    def __init__(self, agent: Agent) -> None:
        self.agent, self.requests = agent, 0

    async def request(self, message: Any) -> Any:
        self.requests += 1
        return await self.agent.hostname(message)

    def send(self, message: Any) -> None:
        raise NotImplementedError

    async def stream(self, message: Any) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("name", "has_target", "verdict"),
    [
        (b"pod-1", True, Text("hostname: the target's", value=b"pod-1", scope=Scope.CALL)),
        (b"n" * 70, True, Text("hostname: the target's", value=b"n" * 64, scope=Scope.CALL)),
        (b"", True, Untouched("hostname: nothing in the target tells it", scope=Scope.CALL)),
        (b"agent", False, Untouched("hostname: no target", scope=Scope.CALL)),
    ],
)
def test_decide(name: bytes, has_target: bool, verdict: Verdict) -> None:
    assert decide(name, has_target) == verdict


@pytest.mark.parametrize(
    ("has_target", "requests", "note"),
    [(True, 1, "host name: pod-1"), (False, 0, "host name: this machine's (no target)")],
)
async def test_prepare(has_target: bool, requests: int, note: str) -> None:
    wire = Wire(Agent(Config(), None, logging.getLogger()))  # type: ignore[arg-type]
    await wire.agent.start(Target(b"pod-1"))
    launch = Launch(["x"], {}, "/nowhere", has_target=has_target)
    layer = Layer(Config(), wire)
    await layer.prepare(launch)
    assert (wire.requests, launch.notes) == (requests, [note])
    assert launch.known == [(Call("hostname"), layer.hostname(Call("hostname")))]


def test_config() -> None:
    assert Config.from_short(True) == Config() and Config.from_short(False) is None
    assert Layer.wanted(Config()) and not Layer.wanted(Config(enabled=False))


def test_explain() -> None:
    verdict = Layer.explain(Config(), Call("hostname"))
    assert verdict is not None and "target's host name" in verdict.reason
    assert Layer.explain(Config(), Call("open", b"/x")) is None
