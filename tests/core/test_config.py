from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from config_words import Clock

from pymirror.cli.common import vocabulary_of
from pymirror.core.config import key, resolve
from pymirror.core.errors import ConfigError
from pymirror.core.root import BUILD_TOOLS
from pymirror.runtimes.kubernetes.config import Config as Kubernetes
from pymirror.runtimes.kubernetes.config import default_image
from pymirror.runtimes.process.config import Config as Process


@pytest.fixture
def refused(settle: Any, tmp_path: Path) -> Any:
    """The message without the file's name, and the hint."""

    def words(*given: Any, **environ: str) -> tuple[str, str]:
        with pytest.raises(ConfigError) as caught:
            settle(*given, **environ)
        return caught.value.message.replace(f"{tmp_path}/", ""), caught.value.hint

    return words


def test_defaults(settle: Any) -> None:
    settings = settle()
    assert list(settings.features) == ["env", "hostname", "fs", "network.incoming", "clock"]
    assert settings.features["fs"].mode == "read"
    assert (settings.target, settings.namespace, settings.runtime_name) == (None, None, "kubernetes")
    assert (settings.engine, settings.heartbeat, settings.lease, settings.startup_timeout) == (
        "seccomp",
        3,
        30,
        60,
    )
    assert settings.runtime == Kubernetes()
    assert settings.runtime.image == default_image()
    assert settings.skip == BUILD_TOOLS
    assert settings.warnings == ()
    assert len(settings.key) == 5


def test_flags_beat_variables_beat_the_file(settle: Any) -> None:
    file = {"feature": {"fs": {"mode": "local"}}, "agent": {"ttl": 5}, "target": "pod/file"}
    assert settle(file).features["fs"].mode == "local"
    assert settle(file, MIRRORD_FILE_MODE="read").features["fs"].mode == "read"
    both = {"MIRRORD_FILE_MODE": "read", "PYMIRROR_FILE_MODE": "localwithoverrides"}
    assert settle(file, **both).features["fs"].mode == "localwithoverrides"
    flagged = settle(file, {"FILE_MODE": ("read", "--fs-mode"), "AGENT_TTL": ("9", "--agent-ttl")}, **both)
    assert flagged.features["fs"].mode == "read"
    assert flagged.runtime.ttl == 9
    assert settle(file, PYMIRROR_IMPERSONATED_TARGET="pod/other").target == "pod/other"


@pytest.mark.parametrize(
    ("target", "path", "namespace"),
    [
        ("pod/api", "pod/api", None),
        ({"path": "pod/api", "namespace": "shop"}, "pod/api", "shop"),
        ({"path": {"deployment": "api", "container": "web"}}, "deployment/api/container/web", None),
        ({"pod": "api", "namespace": "shop"}, "pod/api", "shop"),
        ({"stateful_set": "db"}, "statefulset/db", None),
        (
            {"labels": {"app": "api", "tier": "web"}, "container": "c"},
            "label/app=api,tier=web/container/c",
            None,
        ),
        ({"namespace": "shop"}, None, "shop"),
        ("targetless", None, None),
        ({"path": "targetless", "namespace": "shop"}, None, "shop"),
        (None, None, None),
        ({"pod": "api", "container": None}, "pod/api", None),
    ],
)
def test_targets(settle: Any, target: Any, path: str | None, namespace: str | None) -> None:
    settings = settle({"target": target})
    assert (settings.target, settings.namespace) == (path, namespace)


def test_the_target_chooses_the_runtime(settle: Any) -> None:
    assert settle({"target": "process/1"}).runtime == Process()
    assert settle({"target": "process/1"}).runtime_name == "process"
    assert settle({"target": "pod/process"}).runtime_name == "kubernetes"


@pytest.mark.parametrize(
    ("short", "whole"),
    [
        ({"env": True}, {"env": {}}),
        ({"env": None}, {"env": {}}),
        ({"env": {"exclude": "A"}}, {"env": {"exclude": ["A"]}}),
        ({"fs": True}, {"fs": {"mode": "read"}}),
        ({"fs": False}, {"fs": {"mode": "local"}}),
        ({"fs": "localwithoverrides"}, {"fs": {"mode": "localwithoverrides"}}),
        ({"fs": {"local": "x"}}, {"fs": {"local": ["x"]}}),
        ({"clock": True}, {"clock": {}}),
    ],
)
def test_short_forms(settle: Any, short: Any, whole: Any) -> None:
    assert settle({"feature": short}).features == settle({"feature": whole}).features


@pytest.mark.parametrize("name", ["env", "hostname", "clock"])
def test_turned_off(settle: Any, name: str) -> None:
    assert name not in settle({"feature": {name: False}}).features


def test_a_short_form_obeys_its_variables(settle: Any) -> None:
    off = {"feature": {"env": False, "fs": False, "clock": False}}
    assert settle(off, PYMIRROR_FILE_MODE="read").features["fs"].mode == "read"
    env = settle(off, PYMIRROR_OVERRIDE_ENV_VARS_FILE="f").features["env"]
    assert (env.exclude, env.env_file) == (["*"], "f")
    env = settle(off, PYMIRROR_OVERRIDE_ENV_VARS_INCLUDE="DB_*;X").features["env"]
    assert (env.exclude, env.include) == ([], ["DB_*", "X"])
    assert "clock" not in settle(off).features
    assert (
        settle({"feature": {"fs": "local"}}, MIRRORD_FILE_OPS="false", MIRRORD_FILE_RO_OPS="true")
        .features["fs"]
        .mode
        == "read"
    )


def test_a_third_partys_keys_and_variables(settle: Any) -> None:
    settings = settle({"feature": {"clock": {"zone": "UTC", "speed": 2}}}, PYMIRROR_CLOCK_STYLE="short")
    assert settings.features["clock"] == Clock("UTC", 2.0, "short")


def test_the_image_has_two_halves(settle: Any) -> None:
    assert settle({"agent": {"image": {"tag": "1"}}}).runtime.image == "localhost/pymirror-agent:1"
    assert settle({"agent": {"image": {"registry": "r/i", "tag": "1"}}}).runtime.image == "r/i:1"
    assert settle(PYMIRROR_AGENT_IMAGE_REGISTRY="r/i", PYMIRROR_AGENT_IMAGE_TAG="2").runtime.image == "r/i:2"
    assert settle(PYMIRROR_AGENT_IMAGE="x:3", PYMIRROR_AGENT_IMAGE_TAG="2").runtime.image == "x:3"


def test_what_is_skipped(settle: Any) -> None:
    file = {"skip_processes": "node", "skip_extra_build_tools": ["tsc", "esbuild"]}
    assert settle(file).skip == BUILD_TOOLS | {"node", "tsc", "esbuild"}
    assert settle({**file, "skip_build_tools": False}).skip == {"node", "tsc", "esbuild"}


def test_the_sessions_key(settle: Any) -> None:
    file = {"key": "file", "feature": {"env": {"override": {"A": "{{ key }}"}}}}
    assert settle({"key": "file"}).key == "file"
    assert settle({"key": "file"}, MIRRORD_KEY="env").key == "env"
    assert settle(file).features["env"].override == {"A": "file"}
    flagged = settle(file, {"KEY": ("flag", "-k")}, MIRRORD_KEY="env")
    assert (flagged.key, flagged.features["env"].override) == ("flag", {"A": "flag"})


def test_warnings(settle: Any) -> None:
    settings = settle(
        {
            "telemetry": False,
            "internal_proxy": {"idle_timeout": 5},
            "feature": {"env": {"load_from_process": True}},
            "agent": {"ephemeral": True, "namespace": "x", "communication_timeout": 3},
        }
    )
    assert [warning.partition(" has no effect: ")[0] for warning in settings.warnings] == [
        "telemetry",
        "internal_proxy.idle_timeout",
        "agent.namespace",
        "agent.communication_timeout",
        "feature.env.load_from_process",
    ]


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ({"targett": 1}, "targett: unknown key"),
        ({"target": 3}, "target: expected text like pod/NAME, or a mapping with path and namespace"),
        ({"target": {"path": 3}}, "target.path: expected text, got the number 3"),
        ({"target": {"pod": 3}}, "target.pod: expected a name"),
        (
            {"target": {"pod": "a", "deployment": "b"}},
            "target: expected exactly one kind (pod, deployment, …), ",
        ),
        ({"target": {"labels": {}}}, "target.labels: expected at least one label"),
        ({"target": {"pod": "a", "container": 1}}, "target.container: expected a name"),
        ({"target": {"path": "pod/a", "namspace": "b"}}, "target.namspace: unknown key"),
        ({"feature": True}, "feature: expected a mapping, got True"),
        ({"feature": {"fz": {}}}, "feature.fz: unknown key"),
        ({"feature": {"fs": {"mod": "read"}}}, "feature.fs.mod: unknown key"),
        ({"feature": {"fs": "reed"}}, "feature.fs.mode: 'reed' is not one of local, "),
        ({"feature": {"fs": 3}}, "feature.fs: expected true or false, text or a mapping, got the number 3"),
        ({"feature": {"fs": {"mode": "rite"}}}, "feature.fs.mode: 'rite'"),
        ({"feature": {"fs": {"local": "(("}}}, "feature.fs.local: '((' is not a regular expression: "),
        (
            {"feature": {"fs": {"mapping": {"[": "x"}}}},
            "feature.fs.mapping: '[' is not a regular expression: ",
        ),
        ({"feature": {"fs": {"local": ["a", 1]}}}, "feature.fs.local[1]: expected text, got the number 1"),
        (
            {"feature": {"fs": {"readonly_file_buffer": 1 << 30}}},
            "feature.fs.readonly_file_buffer: at most 15 MiB",
        ),
        ({"feature": {"env": 3}}, "feature.env: expected true or false or a mapping, got the number 3"),
        (
            {"feature": {"env": {"mapping": {"*": "x"}}}},
            "feature.env.mapping: '*' is not a regular expression",
        ),
        (
            {"feature": {"env": {"override": {"A": 1}}}},
            "feature.env.override.A: expected text, got the number 1",
        ),
        (
            {"feature": {"env": {"include": "A", "exclude": "B"}}},
            "feature.env: include and exclude cannot be given",
        ),
        (
            {"feature": {"hostname": "x"}},
            "feature.hostname: expected true or false or a mapping, got the text 'x'",
        ),
        ({"feature": {"clock": 3}}, "feature.clock: expected true or false or a mapping, got the number 3"),
        ({"feature": {"clock": {"speed": 0}}}, "feature.clock.speed: must be above 0, got 0.0"),
        ({"feature": {"network": {"incomng": False}}}, "feature.network.incomng: unknown key"),
        ({"feature": {"network": 1}}, "feature.network: expected true or false or a mapping"),
        (
            {"feature": {"network": {"ipv6": False}}},
            "feature.network.ipv6: not in this version",
        ),
        (
            {"feature": {"network": {"incoming": {"on_concurrent_steal": "override"}}}},
            "feature.network.incoming.on_concurrent_steal: needs mirrord's paid operator",
        ),
        ({"feature": {"network": {"ipv6": False}}}, "feature.network.ipv6: not in this version of pymirror"),
        ({"feature": {"magic": {"aws": 1}}}, "feature.magic.aws: expected true or false, got the number 1"),
        ({"feature": {"magic": {"awz": True}}}, "feature.magic.awz: unknown key"),
        ({"feature": {"magic": "on"}}, "feature.magic: expected true or false or a mapping, got the text"),
        ({"feature": {"copy_target": True}}, "feature.copy_target: needs mirrord's paid operator"),
        (
            {"feature": {"db_branches": [{"type": "pg"}]}},
            "feature.db_branches: needs mirrord's paid operator",
        ),
        ({"operator": True}, "operator: needs mirrord's paid operator"),
        ({"profile": "x"}, "profile: not in this version of pymirror"),
        ({"agent": 3}, "agent: expected a mapping, got the number 3"),
        ({"agent": {"tttl": 1}}, "agent.tttl: unknown key"),
        ({"agent": {"ttl": "x"}}, "agent.ttl: expected a whole number, got the text 'x'"),
        ({"agent": {"ttl": -1}}, "agent.ttl: must not be negative, got -1"),
        ({"agent": {"startup_timeout": 0}}, "agent.startup_timeout: must be above 0, got 0"),
        ({"agent": {"image": {"regi": "x"}}}, "agent.image.regi: unknown key"),
        ({"agent": {"image_pull_policy": "x"}}, "agent.image_pull_policy: 'x' is not one of Always, "),
        ({"agent": {"metrics": "0.0.0.0:1"}}, "agent.metrics: not in this version of pymirror"),
        ({"agent": {"flush_connections": 1}}, "agent.flush_connections: expected true or false, got the"),
        ({"startup_retry": {"min_ms": 0}}, "startup_retry.min_ms: must be above 0, got 0"),
        (
            {"startup_retry": {"min_ms": 9, "max_ms": 8}},
            "startup_retry.min_ms: must be at most max_ms (8), got 9",
        ),
        ({"startup_retry": {"max": 1}}, "startup_retry.max: unknown key"),
        ({"session": {"heartbeat": 0}}, "session.heartbeat: must be above 0, got 0.0"),
        (
            {"session": {"in_flight_to_agent": (2 << 20) - 1}},
            "session.in_flight_to_agent: must be at least 2097152 (2 MiB), got 2097151",
        ),
        (
            {"session": {"in_flight_to_layer": 1 << 50}},
            "session.in_flight_to_layer: 1125899906842624 is more than half of the memory there is (",
        ),
        ({"session": {"lease": 1}}, "session.lease: must be at least three heartbeats"),
        ({"engine": "ptrace"}, "engine: 'ptrace' is not one of auto, seccomp"),
        ({"skip_build_tools": "no"}, "skip_build_tools: expected true or false, got the text 'no'"),
        ({"experimental": {"new": 1}}, "experimental.new: unknown key"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(refused: Any, file: Any, words: str) -> None:
    message, _ = refused(file)
    assert message.startswith(f"c.json: {words}")


@pytest.mark.parametrize(
    ("file", "hint"),
    [
        ({"targett": 1}, "did you mean 'target'?"),
        ({"agent": {"tttl": 1}}, "did you mean 'ttl'?"),
        ({"feature": {"fs": {"mod": 1}}}, "did you mean 'mode'?"),
        ({"feature": {"envv": {}}}, "did you mean 'env'?"),
        ({"feature": {"network": {"incomng": 1}}}, "did you mean 'incoming'?"),
    ],
)
def test_the_nearest_known_key(refused: Any, file: Any, hint: str) -> None:
    assert refused(file)[1].startswith(hint)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("PYMIRROR_FILE_MODE", "reed", "PYMIRROR_FILE_MODE: 'reed' is not one of local, "),
        ("MIRRORD_FILE_MODE", "rite", "MIRRORD_FILE_MODE: 'rite'"),
        ("MIRRORD_AGENT_TTL", "soon", "MIRRORD_AGENT_TTL: expected a whole number, got 'soon'"),
        ("MIRRORD_AGENT_TTL", "-1", "MIRRORD_AGENT_TTL: must not be negative, got -1"),
        (
            "MIRRORD_EPHEMERAL_CONTAINER",
            "yes",
            "MIRRORD_EPHEMERAL_CONTAINER: expected exactly true or false, got ",
        ),
        (
            "PYMIRROR_FILE_LOCAL_PATTERN",
            "a;((",
            "PYMIRROR_FILE_LOCAL_PATTERN: '((' is not a regular expression",
        ),
        (
            "MIRRORD_AGENT_TCP_STEAL_TRAFFIC",
            "yes",
            "MIRRORD_AGENT_TCP_STEAL_TRAFFIC: 'yes' is not one of mirror, steal, off",
        ),
        (
            "MIRRORD_ENABLE_IPV6",
            "false",
            "MIRRORD_ENABLE_IPV6: sets feature.network.ipv6: not in this version",
        ),
        (
            "MIRRORD_OPERATOR_ENABLE",
            "true",
            "MIRRORD_OPERATOR_ENABLE: sets operator: needs mirrord's paid operator",
        ),
    ],
)
def test_what_is_wrong_in_a_variable_is_named(refused: Any, name: str, text: str, words: str) -> None:
    message, _ = refused({}, **{name: text})
    assert message.startswith(words)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("MIRRORD_AGENT_TCP_STEAL_TRAFFIC", "off"),
        ("MIRRORD_TCP_OUTGOING", "false"),
        ("MIRRORD_ENABLE_IPV6", "true"),
        ("MIRRORD_OPERATOR_ENABLE", "false"),
        ("MIRRORD_TELEMETRY", "false"),
    ],
)
def test_variables_that_change_nothing(settle: Any, name: str, text: str) -> None:
    assert settle(**{name: text}).warnings == ()


def test_a_flag_is_named_by_its_spelling(refused: Any) -> None:
    assert refused({}, {"FILE_MODE": ("x", "--fs-mode")})[0].startswith("--fs-mode: 'x' is not one of")
    message, _ = refused({}, {"PREVIEW_IMAGE": ("x", "--preview")})
    assert message.startswith("--preview: sets feature.preview: needs mirrord's paid operator")
    assert (
        refused({}, {"MOON": ("x", "--moon")})[0] == "--moon: the feature this flag is for is not installed"
    )


def test_a_required_key_is_asked_for() -> None:
    @frozen
    class Needy:
        name: str = key()

    with pytest.raises(ConfigError, match=r"^feature\.needy\.name: this key is required"):
        resolve(None, {}, {}, vocabulary_of({"needy": Needy}, {"kubernetes": Kubernetes}))


def test_the_presets_are_of_the_features_that_carry_them_out(settle: Any) -> None:
    for magic in (True, {"auto_mount": True, "aws": True, "turbo": False}):
        settings = settle({"feature": {"magic": magic}})
        assert (settings.features["fs"].auto_mount, settings.features["fs"].aws) == (True, True)
        assert settings.features["env"].aws is True
    partly = settle({"feature": {"magic": True, "env": False}}, PYMIRROR_OVERRIDE_ENV_VARS_INCLUDE="DB_*")
    assert (partly.features["env"].include, partly.features["env"].aws) == (["DB_*"], True)
    off = settle({"feature": {"magic": False}})
    assert off.warnings == () and off.features == settle().features
    [warning] = settle({"feature": {"magic": {"turbo": True}}}).warnings
    assert warning.startswith("feature.magic.turbo has no effect: loopback ports")
