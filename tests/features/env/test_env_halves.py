"""Both halves of `env`, over the message codec without a network."""

from __future__ import annotations

import errno
import logging
import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pymirror.core.call import Call, Text, Untouched
from pymirror.core.errors import ConfigError, PeerError
from pymirror.core.feature import Launch
from pymirror.features.env.agent import Agent
from pymirror.features.env.config import Config
from pymirror.features.env.layer import ENTRY_LIMIT, Layer, too_long
from pymirror.features.env.messages import AskVariables, Variables

TARGET = {b"PATH": b"/pod", b"HOME": b"/root", b"DB": b"pod-db", b"RAW": b"\xff\xfe", b"TOKEN": b"secret"}


class Target:
    """A target of which only the environment is asked."""

    pid, root, uid, gid = 1, -1, 0, 0

    def __init__(self, variables: dict[bytes, bytes] | None = None) -> None:
        self.variables = variables

    def environ(self) -> dict[bytes, bytes]:
        if self.variables is None:
            raise PermissionError(errno.EACCES, "lacks DAC_OVERRIDE")
        return self.variables

    def hostname(self) -> bytes:
        return b"pod"


class Wire:
    """The layer half's peer: the agent half, through the codec; keeps what crossed."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.crossed = b""

    async def request(self, message: AskVariables) -> Variables:
        asked = msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=AskVariables)
        self.crossed = msgspec.msgpack.encode(await self.agent.variables(asked))
        return msgspec.msgpack.decode(self.crossed, type=Variables)

    def send(self, message: Any) -> None:
        raise NotImplementedError

    async def stream(self, message: Any) -> Any:
        raise NotImplementedError


async def prepared(config: Config, target: Target | None = None) -> tuple[Launch, Wire]:
    wire = Wire(Agent(config, None, logging.getLogger()))  # type: ignore[arg-type]
    await wire.agent.start(target or Target(TARGET))
    launch = Launch(["x"], {"PATH": "/here", "HERE": "h", "AWS_PROFILE": "mine"}, "/nowhere")
    await Layer(config, wire).prepare(launch)
    return launch, wire


async def test_defaults() -> None:
    launch, _ = await prepared(Config())
    assert launch.environ == {
        "PATH": "/here",
        "HERE": "h",
        "AWS_PROFILE": "mine",
        "DB": "pod-db",
        "RAW": "\udcff\udcfe",
        "TOKEN": "secret",
    }
    assert launch.notes == ["environment: 3 variables of the target, 2 kept from here (HOME, PATH)"]


async def test_without_a_target_the_summary_says_whose_variables_they_are() -> None:
    wire = Wire(Agent(Config(), None, logging.getLogger()))  # type: ignore[arg-type]
    await wire.agent.start(Target(TARGET))
    launch = Launch(["x"], {}, "/nowhere", has_target=False)
    await Layer(Config(), wire).prepare(launch)
    assert launch.notes[0].startswith("environment: 3 variables of the agent itself (there is no target)")


async def test_what_is_not_selected_never_crosses() -> None:
    for config in (Config(exclude=["TOK*"]), Config(include=["DB"])):
        launch, wire = await prepared(config)
        assert b"secret" not in wire.crossed and "TOKEN" not in launch.environ


async def test_all_keys_together(tmp_path: Path) -> None:
    (tmp_path / "e.env").write_text("DB=file\nNEW=file\n")
    config = Config(
        include=["DB", "PATH"],
        env_file=str(tmp_path / "e.env"),
        mapping={"^NEW$": "mapped"},
        override={"HERE": "set"},
        unset=["aws_profile"],
    )
    launch, _ = await prepared(config)
    assert launch.environ == {"PATH": "/pod", "HERE": "set", "DB": "file", "NEW": "mapped"}
    assert launch.notes == ["environment: 1 variables of the target, 3 set by the configuration, 1 removed"]


async def test_aws_hides_who_one_is_here() -> None:
    launch, _ = await prepared(Config(aws=True))
    assert "AWS_PROFILE" not in launch.environ and launch.environ["HERE"] == "h"
    assert launch.notes == [
        "environment: 3 variables of the target, 1 removed, 2 kept from here (HOME, PATH)"
    ]
    launch, _ = await prepared(Config(aws=True), Target({b"AWS_PROFILE": b"pod"}))
    assert launch.environ["AWS_PROFILE"] == "pod"


async def test_missing_right_is_said_with_the_way_out() -> None:
    with pytest.raises(PeerError, match=r"lacks DAC_OVERRIDE\n.*agent\.ephemeral"):
        await prepared(Config(), Target(None))


async def test_what_no_program_can_start_with_is_named() -> None:
    launch, _ = await prepared(Config(), Target({b"HUGE": b"x" * ENTRY_LIMIT}))
    assert "cannot be started with HUGE: more than 128 KiB" in launch.notes[1]


@pytest.mark.parametrize(
    ("count", "stack", "words"),
    [
        (10, 8 << 20, None),
        (30, 8 << 20, "2930 KiB of arguments and variables, a program may have 2048 KiB here"),
        (30, sys.maxsize, None),
        (70, sys.maxsize, "a program may have 6144 KiB here"),
        (2, 0, "195 KiB of arguments and variables, a program may have 128 KiB here"),
    ],
)
def test_too_long(count: int, stack: int, words: str | None) -> None:
    warning = too_long(["x"], {f"V{number}": "v" * 100_000 for number in range(count)}, stack)
    assert warning is None if words is None else words in str(warning)


@pytest.mark.parametrize(
    ("content", "words"), [(None, "No such file"), ("A=1\nnonsense", "line 2: not of the form NAME=value")]
)
def test_bad_env_file(tmp_path: Path, content: str | None, words: str) -> None:
    path = tmp_path / "e.env"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=rf"feature\.env\.env_file: .*e\.env: {words}"):
        Layer.check(Config(env_file=str(path)))


@pytest.mark.parametrize(
    ("config", "name", "reason"),
    [
        (
            Config(),
            "DB",
            "env default: all variables: the target's value where it has one, else the one from here",
        ),
        (Config(), "PATH", "env default exclude PATH"),
        (Config(override={"DB": "o"}), "DB", "env.override"),
        (Config(mapping={"D": "m"}), "DB", "env.mapping D"),
        (Config(mapping={"PATH": "m"}), "PATH", "env default exclude PATH"),
        (Config(unset=["db"], override={"DB": "o"}), "DB", "env.unset: the program does not have it"),
        (
            Config(aws=True),
            "AWS_PROFILE",
            "env default: all variables: the target's value where it has one, else none (env.magic aws)",
        ),
        (
            Config(aws=True, exclude=["AWS_*"]),
            "AWS_PROFILE",
            "env.magic aws: the program does not have it",
        ),
        (Config(aws=True, override={"AWS_PROFILE": "o"}), "AWS_PROFILE", "env.override"),
        (Config(aws=True, exclude=["AWS_*"]), "AWS_REGION", "env.exclude AWS_*"),
    ],
)
def test_explain(config: Config, name: str, reason: str) -> None:
    verdict = Layer.explain(config, Call("env", name.encode()))
    assert verdict is not None and verdict.reason == reason
    assert isinstance(verdict, Text) == (reason.startswith(("env.override", "env.mapping")))
    assert isinstance(verdict, Untouched) == reason.startswith(("env default exclude", "env.exclude"))


def test_explain_leaves_other_calls() -> None:
    assert Layer.explain(Config(), Call("open", b"/x")) is None


def test_config() -> None:
    assert Config.from_short(True) == Config() and Config.from_short(False) is None
    with pytest.raises(ValueError, match="include and exclude cannot be given together"):
        Config(include=["A"], exclude=["B"])
    with pytest.raises(ValueError, match=r"mapping: '\(' is not a regular expression"):
        Config(mapping={"(": "x"})
    for name in ("", "A=B", "A\0"):
        with pytest.raises(ValueError, match="cannot be the name"):
            Config(override={name: "x"})


def test_an_env_file_that_is_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError, match="not a regular file"):
        Layer.check(Config(env_file=str(tmp_path / "fifo")))
