"""The process runtime's decisions, as tables; its agent is tested in tests/sandbox."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from attrs import evolve
from kept_report import Kept

from pymirror.core.errors import UserError
from pymirror.core.session import AgentOrder
from pymirror.runtimes.process.runtime import (
    LASTING,
    Process,
    Runtime,
    agent_command,
    parse_target,
    read_process,
    refuse,
)


def test_parse_target() -> None:
    assert parse_target("process/1234") == 1234


@pytest.mark.parametrize(
    "target", ["process", "process/", "process/0", "process/-1", "process/1x", "pod/api"]
)
def test_bad_target(target: str) -> None:
    with pytest.raises(UserError, match="a process is named process/PID"):
        parse_target(target)


@pytest.mark.parametrize(
    ("process", "may_enter", "words"),
    [
        (Process(9, "x", 0, "S"), True, "is this pymirror itself"),
        (Process(5, "x", 1, "Z"), True, "has ended"),
        (
            Process(5, "x", 7, "S"),
            False,
            r"process/5 \(x, uid 7\)[^\n]*may not be read\n.*same user or as root",
        ),
        (Process(5, "x", 1, "S"), False, "not dumpable"),
    ],
)
def test_refused(process: Process, may_enter: bool, words: str) -> None:
    with pytest.raises(UserError, match=words):
        refuse(process, own_pid=9, own_uid=1, may_enter=may_enter)


def test_not_refused() -> None:
    refuse(Process(5, "x", 1, "S"), own_pid=9, own_uid=1, may_enter=True)


def test_read_process(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "status").write_text("Name:\tweb\nState:\tS (sleeping)\nUid:\t1\t2\t3\t4\n")
    assert read_process(7, str(tmp_path)) == Process(7, "web", 2, "S")
    with pytest.raises(UserError, match="process/8: there is no such process"):
        read_process(8, str(tmp_path))


async def test_check_finds_the_parent() -> None:
    found = await Runtime(None, f"process/{os.getppid()}", "shop", Kept()).check(["env"])
    assert found.detail == os.getppid()
    assert found.notes == (f"namespace shop: has no meaning for process/{os.getppid()}, ignored",)


async def test_check_without_a_target() -> None:
    assert not (await Runtime(None, None, None, Kept()).check([])).has_target


async def test_check_refuses_itself() -> None:
    with pytest.raises(UserError, match="itself"):
        await Runtime(None, f"process/{os.getpid()}", None, Kept()).check([])


def test_agent_command() -> None:
    order = AgentOrder("-KEY", ("env", "fs"), lease=2.5, rights=("SYS_PTRACE",))
    start = [sys.executable, "-m", "pymirror.agent"]
    rest = [
        "--layer-key=-KEY",
        "--features=env,fs",
        "--rights=SYS_PTRACE",
        "--lease=2.5",
        "--drain=0",
        "--parent=8",
    ]
    assert agent_command(7, order, 8) == [*start, "--pid=7", *rest]
    assert agent_command(None, order, 8) == [*start, "--none", *rest]
    assert f"--drain={LASTING:g}" in agent_command(7, evolve(order, lasting=30.0), 8)
