"""What breaks on the way: the API server, the connection, the target, the start itself."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.cluster

AGENTS = [pytest.param((), id="job"), pytest.param(("-e",), id="ephemeral")]
ON_DEMAND = ("sh", "-c", "echo $$; read end; exit 7")
NEVER_READY = ("-i", "localhost/pause:1")  # it runs, and says nothing
Relayed = tuple[Any, str]


def collected(pid: int) -> None:
    """Waits until nobody has this number any more: its parent was told of its end."""
    while Path(f"/proc/{pid}").exists():
        time.sleep(0.01)


@pytest.mark.parametrize("agent", AGENTS)
def test_an_api_server_that_falls_silent_at_the_end(
    session: Callable[..., Any], relayed: Relayed, target: str, nothing_there: Callable[..., None], agent: Any
) -> None:
    """The program's exit status is what counts; impatience at the end changes nothing."""
    relay, kubeconfig = relayed
    one = session(*agent, program=ON_DEMAND, lease=6, KUBECONFIG=kubeconfig)
    program = int(one.line())
    relay.stall()
    one.process.stdin.close()
    one.process.stdin = None
    collected(program)
    for _ in range(2):
        one.process.send_signal(signal.SIGINT)
    status, said = one.rest()
    assert status == 7, said
    assert "Traceback" not in said
    if not agent:
        assert "may remain for a while: its agent ends by itself within 6 s" in said
    one.nothing_here()
    nothing_there(target)


@pytest.mark.parametrize("agent", AGENTS)
def test_a_connection_that_is_cut(
    session: Callable[..., Any], relayed: Relayed, target: str, nothing_there: Callable[..., None], agent: Any
) -> None:
    relay, kubeconfig = relayed
    one = session(*agent, lease=6, KUBECONFIG=kubeconfig)
    one.ready()
    relay.cut()
    status, said = one.rest()
    assert status == 125, said
    assert "the connection to the agent is lost" in said
    assert "the port-forward was cut" in said
    assert "Traceback" not in said
    one.nothing_here()
    nothing_there(target)


@pytest.mark.parametrize("agent", AGENTS)
def test_the_target_is_deleted_while_starting(
    cluster: Any, session: Callable[..., Any], target: str, nothing_there: Callable[..., None], agent: Any
) -> None:
    one = session(*agent, *NEVER_READY)
    one.said("the agent is starting")
    cluster.kubectl("delete", "pod", "web", "-n", target, "--now")
    status, said = one.rest()
    assert status == 125
    assert "the target pod/web was deleted while the agent was starting" in said
    assert "Traceback" not in said
    one.nothing_here()
    nothing_there(target, pods=())


@pytest.mark.parametrize("agent", AGENTS)
def test_a_start_that_takes_too_long(session: Callable[..., Any], agent: Any) -> None:
    one = session(*agent, *NEVER_READY, "--agent-startup-timeout", "4")
    status, said = one.rest()
    assert status == 125
    assert "the agent was not ready after" in said and "last seen:" in said
    assert "agent.startup_timeout" in said
    one.nothing_here()
