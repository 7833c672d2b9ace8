"""What became of target and agent when the connection is lost, in words."""

from __future__ import annotations

from typing import Any

import pytest

from pymirror.core.session import Found
from pymirror.runtimes.kubernetes import loss, runtime
from pymirror.runtimes.kubernetes.config import Config
from pymirror.runtimes.kubernetes.progress import Ready
from pymirror.runtimes.kubernetes.resolve import Node
from pymirror.runtimes.kubernetes.resources import Place
from pymirror.runtimes.kubernetes.runtime import LOOKS, Detail, Runtime
from pymirror.runtimes.kubernetes.start import Started
from pymirror.runtimes.kubernetes.target import Chosen

TARGET = Chosen("api", "shop", "u", "node", "web", "c1")
RUNS = {"name": "web", "containerID": "containerd://c1", "state": {"running": {}}}
AGAIN = {**RUNS, "containerID": "containerd://c2"}


def a_pod(*containers: Any, uid: str = "u", deleted: bool = False, **status: Any) -> dict[str, Any]:
    meta = {"name": "api", "uid": uid, **({"deletionTimestamp": "now"} if deleted else {})}
    return {"metadata": meta, "spec": {}, "status": {"containerStatuses": list(containers), **status}}


def ended(name: str, code: int, reason: str) -> dict[str, Any]:
    return {**RUNS, "name": name, "state": {"terminated": {"exitCode": code, "reason": reason}}}


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        (a_pod(RUNS), ""),
        (None, "the target pod/api was deleted"),
        (a_pod(RUNS, uid="v"), "the target pod/api was deleted"),
        (a_pod(RUNS, deleted=True), "the target pod/api was deleted"),
        (a_pod(ended("web", 137, "Error"), deleted=True), "the target pod/api was deleted"),
        (
            a_pod(RUNS, phase="Failed", reason="Evicted", message="disk"),
            "the target pod/api failed (Evicted): disk",
        ),
        (a_pod(ended("web", 1, "Error")), "the target's container web ended (exit status 1)"),
        (
            a_pod(ended("web", 137, "OOMKilled")),
            "the target's container web ended (exit status 137, OOMKilled)",
        ),
        (a_pod(AGAIN), "the target's container web ended and was started again"),
        (
            a_pod({**AGAIN, "lastState": {"terminated": {"exitCode": 0, "reason": "Completed"}}}),
            "the target's container web ended (exit status 0) and was started again",
        ),
    ],
)
def test_what_became_of_the_target(pod: Any, words: str) -> None:
    assert loss.of_target(pod, TARGET) == words


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        (a_pod({"name": "agent", "state": {"running": {}}}), ""),
        (a_pod(), ""),
        (None, "the agent's pod/x was deleted"),
        (a_pod(deleted=True), "the agent's pod/x was deleted"),
        (a_pod(phase="Failed", reason="Evicted"), "the agent's pod/x failed (Evicted): "),
        (a_pod(ended("agent", 137, "OOMKilled")), "the agent ended (exit status 137, OOMKilled)"),
    ],
)
def test_what_became_of_the_agent(pod: Any, words: str) -> None:
    assert loss.of_agent(pod, "x", "agent") == words


class Server:
    """Pods by name, each a row of answers: the next with each look, the last for ever."""

    def __init__(self, **pods: list[Any]) -> None:
        self.pods, self.looks = pods, 0

    async def items(self, place: Place, **selectors: str) -> list[Any]:
        name = selectors["fieldSelector"].removeprefix("metadata.name=")
        self.looks += name == "agent"
        rows = self.pods[name]
        found = rows.pop(0) if len(rows) > 1 else rows[0]
        return [found] if found else []


async def told(server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(runtime, "LOOK_PAUSE", 0)
    report: Any = None
    made: Any = Runtime(Config(), "pod/api", None, report)
    made._api, made._started = server, Started("shop", "agent", "agent", Ready("k", 1))
    return str(await made.lost(Found("", detail=Detail("shop", TARGET, None, Node()))))


async def test_the_targets_end_is_the_reason_although_the_agents_is_known_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    agent = a_pod(ended("agent", 0, "Completed"))
    server = Server(api=[a_pod(RUNS), a_pod(RUNS), a_pod(ended("web", 0, "Completed"))], agent=[agent])
    assert await told(server, monkeypatch) == "the target's container web ended (exit status 0)"


async def test_a_target_that_was_deleted_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = [a_pod(ended("agent", 0, "Completed")), a_pod(deleted=True), None]
    assert await told(Server(api=[None], agent=list(agent)), monkeypatch) == "the target pod/api was deleted"
    late: list[Any] = [a_pod(RUNS), a_pod(RUNS), a_pod(RUNS, deleted=True)]
    assert await told(Server(api=late, agent=agent), monkeypatch) == "the target pod/api was deleted"


async def test_the_agents_end_is_the_reason_where_the_target_lives_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Server(api=[a_pod(RUNS)], agent=[a_pod(), None])
    assert await told(server, monkeypatch) == "the agent's pod/agent was deleted"
    assert server.looks == LOOKS


async def test_where_both_live_on_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await told(Server(api=[a_pod(RUNS)], agent=[a_pod()]), monkeypatch) == ""
