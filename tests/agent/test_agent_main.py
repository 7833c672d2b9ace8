"""The agent's command line, its lines on stdout and stderr, and which halves it loads."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from pymirror.agent.logs import Lines, Objects, level_of
from pymirror.agent.main import Ended, ending, loader, main, names_in, parse, ready_line
from pymirror.agent.rights import numbers
from pymirror.core.errors import PluginError, UserError

KEY = ["--layer-key", "K"]


@pytest.mark.parametrize(
    ("where", "pid", "container_id", "none"),
    [
        (["--pid=7"], 7, None, False),
        (["--self"], 1, None, False),
        (["--container-id", "containerd://a"], None, "containerd://a", False),
        (["--none"], None, None, True),
    ],
)
def test_where(where: list[str], pid: int | None, container_id: str | None, none: bool) -> None:
    order = parse([*KEY, *where])
    assert (order.pid, order.container_id, order.none) == (pid, container_id, none)
    assert (order.lease, order.features, order.parent) == (30.0, "", None)


@pytest.mark.parametrize("argv", [KEY, ["--none"], [*KEY, "--none", "--pid", "1"], [*KEY, "--pid", "x"]])
def test_wrong_command_line(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(argv)
    assert "usage: pymirror-agent" in capsys.readouterr().err


def test_what_cannot_start_is_125(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    assert main([*KEY, "--pid", "4194305"]) == 125


@pytest.mark.parametrize(
    ("words", "kept"),
    [("", set()), ("SYS_PTRACE", {19}), ("DAC_OVERRIDE,SYS_ADMIN,NET_ADMIN,NET_RAW", {1, 21, 12, 13})],
)
def test_rights_are_those_of_the_order_and_no_others(words: str, kept: set[int]) -> None:
    assert numbers(names_in(parse([*KEY, "--none", f"--rights={words}"]).rights)) == kept


def test_a_right_that_is_none() -> None:
    with pytest.raises(UserError, match="'ROOT' is no Linux capability"):
        numbers(["ROOT"])


def test_ready_line_is_one_line() -> None:
    line = ready_line("k" * 40, 4711)
    assert "\n" not in line
    assert json.loads(line) == {"pymirror_agent": "0.1.0", "key": "k" * 40, "port": 4711}


def test_loader_knows_its_order() -> None:
    load = loader(["env"])
    assert list(load(["env"])) == ["env"]
    with pytest.raises(PluginError, match="feature fs: this agent was started for env only"):
        load(["env", "fs"])


async def test_the_first_reason_stays() -> None:
    ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
    end = ending(ended)
    end(Ended("first"))
    end(Ended("second", 1))
    assert (await ended).reason == "first"


@pytest.mark.parametrize(
    ("words", "level"),
    [("debug", 10), ("TRACE", 10), ("warn", 30), ("error", 40), ("", 20), ("mirrord=trace", 20)],
)
def test_log_level(words: str, level: int) -> None:
    assert level_of(words) == level


def test_log_lines() -> None:
    record = logging.LogRecord("pymirror.x", logging.INFO, "", 0, "words %d", (1,), None)
    record.created = 0.25
    assert Lines().format(record) == "1970-01-01T00:00:00.250Z INFO pymirror.x: words 1"
    assert json.loads(Objects().format(record)) == {
        "time": "1970-01-01T00:00:00.250Z",
        "level": "INFO",
        "logger": "pymirror.x",
        "message": "words 1",
    }
