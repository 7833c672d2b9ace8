"""The keys of `network.incoming`: short forms, variables, flags, what clashes, and what is hardly meant."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pymirror.cli import mirrord_keys as mirrord
from pymirror.cli.common import check_target
from pymirror.core.config import Settings, Vocabulary, resolve
from pymirror.core.errors import ConfigError
from pymirror.core.feature import NoConfig
from pymirror.core.flags import declared
from pymirror.features.network.incoming.config import Config, summary
from pymirror.features.network.incoming.http_filter import HttpFilter

WORDS = Vocabulary(
    {"network.incoming": Config},
    {"none": NoConfig},
    default_runtime="none",
    absent=mirrord.ABSENT,
    paid=mirrord.PAID,
    ignored=mirrord.IGNORED,
    neutral=mirrord.NEUTRAL,
    absent_env=mirrord.ABSENT_ENV,
)
Settle = Callable[..., Settings]


@pytest.fixture
def settle(tmp_path: Path) -> Settle:
    def settled(incoming: Any = None, agent: Any = None, flag: str = "", **environ: str) -> Settings:
        file = tmp_path / "c.json"
        file.write_text(json.dumps({"feature": {"network": {"incoming": incoming}}, "agent": agent}))
        flags = {"AGENT_TCP_STEAL_TRAFFIC": (flag, "--steal")} if flag else {}
        return resolve(str(file), flags, environ, WORDS)

    return settled


def incoming(settings: Settings) -> Config:
    found: Config = settings.features["network.incoming"]
    return found


@pytest.mark.parametrize(
    ("short", "mode"),
    [
        (None, "off"),
        (True, "mirror"),
        (False, "off"),
        ("mirror", "mirror"),
        ("steal", "steal"),
        ("off", "off"),
        ({}, "mirror"),
        ({"mode": "steal"}, "steal"),
    ],
)
def test_the_mode_and_its_short_forms(settle: Settle, short: Any, mode: str) -> None:
    assert incoming(settle(short)).mode == mode


@pytest.mark.parametrize(
    ("text", "mode"),
    [("true", "steal"), ("false", "off"), ("steal", "steal"), ("mirror", "mirror"), ("off", "off")],
)
def test_the_variable_and_the_flag_beat_the_file(settle: Settle, text: str, mode: str) -> None:
    for short in (False, "mirror", {"mode": "steal"}):
        for prefix in ("MIRRORD", "PYMIRROR"):
            assert incoming(settle(short, **{f"{prefix}_AGENT_TCP_STEAL_TRAFFIC": text})).mode == mode
        assert incoming(settle(short, flag=text, MIRRORD_AGENT_TCP_STEAL_TRAFFIC="mirror")).mode == mode
    assert [each.flag.text for each in declared([Config])] == ["steal"]


def test_every_key_is_read(settle: Settle) -> None:
    found = incoming(
        settle(
            {
                "mode": "steal",
                "port_mapping": [[8080, 80]],
                "ports": 80,
                "listen_ports": [[80, 8080], [443, 8443]],
                "ignore_localhost": True,
                "max_connections": 9,
            },
            {
                "flush_connections": True,
                "http_detection_timeout": 1,
                "max_body_buffer_size": 10,
                "max_body_buffer_timeout": 20,
                "drain": 5,
            },
        )
    )
    assert found == Config(
        mode="steal",
        port_mapping=[[8080, 80]],
        ports=[80],
        listen_ports=[[80, 8080], [443, 8443]],
        ignore_localhost=True,
        max_connections=9,
        flush_connections=True,
        http_detection_timeout=1.0,
        max_body_buffer_size=10,
        max_body_buffer_timeout=20,
        drain=5.0,
    )


def test_the_filter_is_read_with_its_variables(settle: Settle) -> None:
    file = {"mode": "steal", "http_filter": {"header_filter": "^x-user: ann$", "ports": 80}}
    assert incoming(settle(file)).http_filter == HttpFilter(header_filter="^x-user: ann$", ports=[80])
    said = {"MIRRORD_HTTP_HEADER_FILTER": "^x-user: bob$", "PYMIRROR_HTTP_FILTER_PORTS": "81;82"}
    over = HttpFilter(header_filter="^x-user: bob$", ports=[81, 82])
    assert incoming(settle(file, **said)).http_filter == over
    for short in ("steal", {"mode": "steal", "http_filter": False}, {"mode": "steal", "http_filter": True}):
        assert incoming(settle(short, **said)).http_filter == over
        assert not incoming(settle(short)).http_filter.given
    with pytest.raises(ConfigError, match="MIRRORD_HTTP_PATH_FILTER: "):
        settle("steal", MIRRORD_HTTP_PATH_FILTER="((")
    with pytest.raises(ConfigError, match=r"http_filter: expected at most one of header_filter, path_filter"):
        settle(file, MIRRORD_HTTP_PATH_FILTER="^/api")
    ports = {"http_filter": {"ports": [80]}}
    assert list(settle(ports).warnings) == [
        "feature.network.incoming.http_filter.ports has no effect: no filter is given"
    ]


def test_keys_of_agent_have_their_variables(settle: Settle) -> None:
    said = {"MIRRORD_AGENT_STEALER_FLUSH_CONNECTIONS": "true", "PYMIRROR_AGENT_HTTP_DETECTION_TIMEOUT": "0.5"}
    found = incoming(settle("steal", **said))
    assert (found.mode, found.flush_connections, found.http_detection_timeout) == ("steal", True, 0.5)


STEAL: dict[str, Any] = {"mode": "steal"}
TCP = {"protocol": "tcp"}
MINE = {"path_filter": "^/mine"}


def tls(*ports: int, **more: str) -> dict[str, Any]:
    return {"ports": list(ports) or 443, "certificate": "/tls.crt", "key": "/tls.key", **more}


def unfiltered(port: int) -> str:
    return (
        f"agent.tls[0].ports: {port} has no effect: feature.network.incoming.http_filter does not filter "
        "that port, which is taken whole"
    )


@pytest.mark.parametrize(
    ("values", "agent", "words", "hint"),
    [
        ({"mode": "stel"}, None, "mode: 'stel' is not one of mirror, steal, off", ""),
        ("stel", None, "mode: 'stel' is not one of mirror, steal, off", ""),
        ({"ports": [80], "ignore_ports": [81]}, None, "ports: cannot be given together with ignore_ports", "keep"),
        ({"ports": [80, 0]}, None, "ports: entry 2, 0 is no port", "1 to 65535"),
        ({"ignore_ports": [65536]}, None, "ignore_ports: entry 1, 65536 is no port", "1 to 65535"),
        ({"port_mapping": [8080, 80]}, None, "port_mapping: entry 1, [8080] is no pair of ports", "[[8080, 80]]"),
        ({"listen_ports": [[80, 0]]}, None, "listen_ports: entry 1, 0 is no port", "1 to 65535"),
        ({"port_mapping": [[1, 2], [1, 3]]}, None, "port_mapping: the local port 1 is there twice", "leave one"),
        ({"port_mapping": [[1, 2], [3, 2]]}, None, "port_mapping: the target's port 2 is there twice", "leave one"),
        ({"listen_ports": [[1, 2], [1, 3]]}, None, "listen_ports: the port asked for 1 is there twice", "leave one"),
        ({"listen_ports": [[1, 2], [3, 2]]}, None, "listen_ports: the port listened on 2 is there twice", "leave"),
        ({"max_connections": 4001}, None, "max_connections: must not be above 4000", ""),
        ({"flush_connections": True}, None, "flush_connections: unknown key", ""),
        ({"on_concurrent_steal": "continue"}, None, "on_concurrent_steal: needs mirrord's paid operator", "remove"),
        ({"https_delivery": {"protocol": "ssl"}}, None, "https_delivery.protocol: expected one of tls, tcp", ""),
        ({"tls_delivery": {}}, None, "tls_delivery.protocol: this key is required", ""),
        ({"tls_delivery": TCP, "https_delivery": TCP}, None, "https_delivery: cannot be given together", "latter"),
        ({"tls_delivery": {**TCP, "trust_roots": []}}, None, "tls_delivery.trust_roots: is empty", ""),
        ({"tls_delivery": {**TCP, "server_name": ""}}, None, "tls_delivery.server_name: '' is no name", "web.ex"),
        (
            {"tls_delivery": {**TCP, "trust_roots": "/a", "server_cert": "/b"}},
            None,
            "tls_delivery.trust_roots: cannot be given together with server_cert",
            "keep one",
        ),
        (None, {"http_detection_timeout": 0}, "agent.http_detection_timeout: must be above 0, got 0", ""),
        (None, {"max_body_buffer_size": 1 << 30}, "agent.max_body_buffer_size: must not be above", ""),
        (None, {"max_body_buffer_timeout": 0}, "agent.max_body_buffer_timeout: must be above 0", ""),
        (None, {"drain": -1}, "agent.drain: must not be negative", ""),
        (None, {"tls": {"certificate": "/a", "key": "/b"}}, "agent.tls.ports: this key is required", ""),
        (None, {"tls": [tls(certificate="a")]}, "agent.tls[0].certificate: 'a' is no absolute path", "target's"),
        (None, {"tls": [tls(), tls(1, 443)]}, "agent.tls: entry 2, port 443 is there twice", "leave one"),
        (None, {"tls": [tls(0)]}, "agent.tls[0].ports: entry 1, 0 is no port", "1 to 65535"),
        (None, {"tls": [{**tls(), "ports": []}]}, "agent.tls[0].ports: is empty", ""),
        (None, {"tls": [tls(application="none")]}, "agent.tls[0].application: expected one of same, any", ""),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(settle: Settle, values: Any, agent: Any, words: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settle(values, agent)
    place = "" if words.startswith("agent.") else "feature.network.incoming."
    assert f"c.json: {place}{words}" in caught.value.message
    assert hint in caught.value.hint


def test_a_value_that_only_agrees_is_accepted(settle: Settle) -> None:
    assert settle({"mode": "steal", "on_concurrent_steal": "abort"}).warnings == ()


@pytest.mark.parametrize(
    ("values", "agent", "warnings"),
    [
        ("steal", None, []),
        ({"port_mapping": [[80, 80]]}, None, ["feature.network.incoming.port_mapping: [80, 80] has no effect"]),
        ({"listen_ports": [[80, 80]]}, None, ["feature.network.incoming.listen_ports: [80, 80] has no effect"]),
        (
            {"port_mapping": [[8080, 80], [9090, 90]], "ports": [80]},
            None,
            ["feature.network.incoming.port_mapping: [9090, 90] has no effect: ports is without 90"],
        ),
        (
            {"port_mapping": [[8080, 80]], "ignore_ports": [8080]},
            None,
            ["feature.network.incoming.port_mapping: [8080, 80] has no effect: ignore_ports has 8080"],
        ),
        (
            {**STEAL, "ports": [80], "http_filter": {**MINE, "ports": [80, 81]}},
            None,
            ["feature.network.incoming.http_filter.ports: 81 has no effect: ports is without it"],
        ),
        (
            {**STEAL, "http_filter": {"any_of": [{"method": "GTE"}, {"not": {"method": "propfind"}}]}},
            None,
            ["feature.network.incoming.http_filter: 'GTE' is no method of HTTP that is known"],
        ),
        (
            {**STEAL, "http_filter": {"method_filter": "FROB"}},
            None,
            ["feature.network.incoming.http_filter: 'FROB' is no method of HTTP that is known"],
        ),
        ({**STEAL, "http_filter": {"method_filter": "m-search"}}, None, []),
        ({"ports": []}, None, ["feature.network.incoming.ports is empty: no port of the target is taken"]),
        (
            {"mode": "off", "ports": [80], "ignore_localhost": True},
            None,
            [
                "feature.network.incoming.ports has no effect: feature.network.incoming is off",
                "feature.network.incoming.ignore_localhost has no effect: feature.network.incoming is off",
            ],
        ),
        ("mirror", {"flush_connections": True}, ["agent.flush_connections has no effect: the mode is mirror"]),
        ("mirror", {"inject_headers": True}, ["agent.inject_headers has no effect: the mode is mirror"]),
        ("steal", {"inject_headers": True}, ["agent.inject_headers has no effect: no filter is given"]),
        ({"mode": "steal", "http_filter": {"path_filter": "^/a"}}, {"inject_headers": True}, []),
        ("mirror", {"tls": tls()}, ["agent.tls has no effect: the mode is mirror"]),
        ({**STEAL, "http_filter": {**MINE, "ports": 443}}, {"tls": tls()}, []),
        ({**STEAL, "http_filter": {**MINE, "ports": 80}}, {"tls": [tls(1, 443)]}, [unfiltered(1), unfiltered(443)]),
        ("steal", {"tls": tls()}, [unfiltered(443)]),
        (
            {**STEAL, "tls_delivery": TCP},
            None,
            ["feature.network.incoming.tls_delivery has no effect: agent.tls names no port"],
        ),
        ("steal", {"nftables": True}, ["agent.nftables has no effect: the agent's rules are nftables' in any case"]),
    ],
)  # fmt: skip
def test_what_is_hardly_meant_is_said(settle: Settle, values: Any, agent: Any, warnings: list[str]) -> None:
    assert list(settle(values, agent).warnings) == warnings


@pytest.mark.parametrize(
    "name",
    "external_ip_fix nftables exclude_from_mesh clean_iptables_on_start override_cache_control "
    "jaq_time_limit".split(),
)
def test_what_has_nothing_to_steer_is_accepted_with_its_reason(settle: Settle, name: str) -> None:
    (warning,) = settle(None, {name: 1}).warnings
    assert warning.startswith(f"agent.{name} has no effect: ")


def test_steal_is_refused_without_a_target(settle: Settle) -> None:
    with pytest.raises(ConfigError) as caught:
        check_target(settle("steal"))
    assert caught.value.message.startswith("feature.network.incoming.mode: there is nothing to steal from")
    assert "name a target" in caught.value.hint
    for mode in ("mirror", "off"):
        check_target(settle(mode))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (Config(), "mirror of each port the program listens on"),
        (Config(http_filter=HttpFilter(path_filter="a")), "mirror of each port the program listens on (requests that"),
        (Config(http_filter=HttpFilter(path_filter="a", ports=[80])), "mirror of each port the program listens on (of 80:"),
        (Config(mode="steal"), "steal of each port the program listens on; connections that are open stay with"),
        (Config(mode="steal", ports=[80, 81], flush_connections=True), "steal of ports 80, 81; connections that"),
    ],
)  # fmt: skip
def test_the_plan_says_what_it_means(config: Config, words: str) -> None:
    assert summary(config).startswith(words)
