"""Names in a configuration: engines, variables nobody reads, and all that is wrong told at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from config_words import VOCABULARY

from pymirror.core.config import resolve
from pymirror.core.errors import ConfigError
from pymirror.core.schema import schema_of


def test_the_engines_are_those_installed(tmp_path: Path) -> None:
    known = attrs.evolve(VOCABULARY, engines=("ptrace", "seccomp"), default_engine="ptrace")
    assert resolve(None, {}, {}, known).engine == "ptrace"
    assert resolve(None, {}, {"PYMIRROR_ENGINE": "seccomp"}, known).engine == "seccomp"
    with pytest.raises(ConfigError, match="PYMIRROR_ENGINE: 'x' is not one of auto, ptrace, seccomp"):
        resolve(None, {}, {"PYMIRROR_ENGINE": "x"}, known)
    assert schema_of(known)["properties"]["engine"]["enum"] == ["auto", "ptrace", "seccomp"]


@pytest.mark.parametrize(
    ("name", "warnings"),
    [
        (
            "PYMIRROR_FIEL_MODE",
            ["the variable PYMIRROR_FIEL_MODE is not known and has no effect; did you mean 'FILE_MODE'?"],
        ),
        ("PYMIRROR_ZZZZZZZZ", ["the variable PYMIRROR_ZZZZZZZZ is not known and has no effect"]),
        ("MIRRORD_FIEL_MODE", []),  # it may be one of mirrord's that is not known here
        *(
            (f"PYMIRROR_{name}", [])
            for name in ("LOG", "CONFIG_FILE", "CLOCK_ZONE", "AGENT_IMAGE_TAG", "AGENT_TCP_STEAL_TRAFFIC")
        ),
    ],
)
def test_a_variable_nobody_reads_is_reported(settle: Any, name: str, warnings: list[str]) -> None:
    assert list(settle(**{name: "false"}).warnings) == warnings


def test_all_that_is_wrong_is_told_at_once(settle: Any, tmp_path: Path) -> None:
    file = {
        "agnt": {},
        "engine": "x",
        "agent": {"ttl": "long", "labels": 3},
        "feature": {
            "clock": {"speed": "x", "tick": 1, "style": "loud"},
            "fs": {"mod": 1},
            "copy_target": True,
        },
    }
    with pytest.raises(ConfigError) as caught:
        settle(file, PYMIRROR_CLOCK_STYLE="loud", PYMIRROR_AGENT_STARTUP_TIMEOUT="x")
    told = [each.message.replace(f"{tmp_path}/c.json: ", "") for each in caught.value.all()]
    assert [words.partition(":")[0] for words in told] == [
        "feature.copy_target",
        "feature.fs.mod",
        "feature.clock.tick",
        "feature.clock.speed",
        "PYMIRROR_CLOCK_STYLE",
        "agent.ttl",
        "PYMIRROR_AGENT_STARTUP_TIMEOUT",
        "agent.labels",
        "agnt",
        "engine",
    ]
    assert caught.value.message.startswith(str(tmp_path))
