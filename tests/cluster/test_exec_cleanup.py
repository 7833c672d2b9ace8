"""Whatever ends `pymirror exec`, nothing remains: no Job, pod, process, mount or file."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.cluster

AGENTS = [pytest.param((), id="job"), pytest.param(("-e",), id="ephemeral")]


@pytest.mark.parametrize("agent", AGENTS)
def test_after_the_programs_end(
    nothing_there: Callable[..., None], target: str, session: Callable[..., Any], agent: tuple[str]
) -> None:
    one = session(*agent, program=("sh", "-c", "echo ready; exit 3"))
    one.ready()
    assert one.end() == 3
    one.nothing_here()
    nothing_there(target)


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_after_a_signal(
    nothing_there: Callable[..., None],
    target: str,
    session: Callable[..., Any],
    agent: tuple[str],
    number: int,
    status: int,
) -> None:
    one = session(*agent)
    one.ready()
    if number == signal.SIGINT:
        os.killpg(one.process.pid, number)  # as the terminal does: to the whole group
    else:
        one.process.send_signal(number)
    assert one.end() == status
    one.nothing_here()
    nothing_there(target)


@pytest.mark.parametrize("agent", AGENTS)
def test_after_kill_9(
    nothing_there: Callable[..., None], target: str, session: Callable[..., Any], agent: tuple[str]
) -> None:
    one = session(*agent, lease=6)
    one.ready()
    one.process.kill()
    assert one.end() == -signal.SIGKILL
    one.nothing_here()
    nothing_there(target)


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_while_starting(
    nothing_there: Callable[..., None],
    target: str,
    session: Callable[..., Any],
    agent: tuple[str],
    number: int,
) -> None:
    one = session(*agent, lease=6)
    one.said("starting an agent")
    one.process.send_signal(number)
    assert one.end() == (-number if number == signal.SIGKILL else 128 + number)
    one.nothing_here()
    nothing_there(target)


def test_children_of_the_program_that_outlive_it_are_let_be_and_can_still_work(
    nothing_there: Callable[..., None], target: str, session: Callable[..., Any], tmp_path: Path
) -> None:
    """A daemon that the program leaves behind is the user's; the session ends with the program."""
    one = session(program=("sh", "-c", "echo ready; sleep 5 >/dev/null 2>&1 & exit 0"))
    one.ready()
    assert one.end() == 0
    nothing_there(target)


def test_the_target_is_deleted_while_the_program_runs(
    cluster: Any, target: str, session: Callable[..., Any]
) -> None:
    one = session(lease=6)
    one.ready()
    cluster.kubectl("delete", "pod", "web", "-n", target, "--now")
    said = one.said("lost")
    assert "ending the program" in said
    assert one.end() == 125
    one.nothing_here()


def test_a_stopped_layer_is_outlived_by_its_lease_only(
    nothing_there: Callable[..., None], target: str, session: Callable[..., Any]
) -> None:
    one = session(lease=6)
    one.ready()
    one.process.send_signal(signal.SIGSTOP)
    nothing_there(target)
    one.process.send_signal(signal.SIGCONT)
    assert one.end() == 125
    one.nothing_here()
