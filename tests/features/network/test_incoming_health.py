"""The target's probes on a port that is taken: which requests they are, and what is said of them."""

from __future__ import annotations

from typing import Any

import pytest
from incoming_agent import listen, listening, session
from verdicts import verdict_of

from pymirror.core.probe import Probe
from pymirror.features.network.incoming.config import Config
from pymirror.features.network.incoming.health import CHECK, WATCH, Probed, warning
from pymirror.features.network.incoming.http_filter import HttpFilter, Matcher

KUBE = "kube-probe/"
LIVE = Probe("liveness", "http", 80, "/up?deep=1", KUBE, container="web")
READY = Probe("readiness", "http", 80, "/r%C3%A9ady", KUBE, container="web")
OWN = Probe("startup", "http", 80, "/own", "checker 7", container="web")
BARE = Probe("startup", "http", 80, "/bare", "", container="web")
SECURE = Probe("liveness", "http", 80, "/tls", KUBE, True, "web")
HEALTH = Probe("liveness", "grpc", 80, "", KUBE, container="web")
PORT = Probe("liveness", "tcp", 80, container="web")
ALL = [LIVE, READY, OWN, BARE, SECURE, HEALTH, PORT]
AGENT = (b"User-Agent", b"kube-probe/1.33")
ACCEPT = (b"Accept", b"*/*")


@pytest.mark.parametrize(
    ("method", "target", "headers", "is_probe"),
    [
        (b"GET", b"/up?deep=1", [ACCEPT, AGENT], True),
        (b"GET", b"http://10.0.0.5:80/up?deep=1", [AGENT], True),
        (b"GET", "/r\u00e9ady".encode(), [AGENT], True),  # however it is spelled
        (b"GET", b"/r%c3%a9ady", [AGENT], True),
        (b"GET", b"/own", [(b"user-agent", b"checker 7")], True),
        (b"GET", b"/bare", [ACCEPT], True),
        (b"POST", CHECK, [(b"user-agent", b"kube-probe/1.33 grpc-go/1.68")], True),
        (b"POST", WATCH, [AGENT], True),
        (b"GET", b"/up?deep=1", [(b"User-Agent", b"curl/8")], False),
        (b"GET", b"/up?deep=1", [(b"X-Agent", b"kube-probe/1.33")], False),
        (b"GET", b"/up?deep=1", [], False),
        (b"GET", b"/up", [AGENT], False),
        (b"GET", b"/up?deep=1&more", [AGENT], False),
        (b"HEAD", b"/up?deep=1", [AGENT], False),
        (b"POST", b"/up?deep=1", [AGENT], False),
        (b"GET", b"/own", [AGENT], False),
        (b"GET", b"/up?deep=1", [(b"user-agent", b"checker 7")], False),
        (b"GET", b"/bare", [AGENT], False),
        (b"GET", b"/tls", [AGENT], False),
        (b"GET", CHECK, [AGENT], False),
        (b"POST", b"/shop.Cart/Check", [AGENT], False),
        (b"POST", CHECK, [(b"user-agent", b"grpc-go/1.68")], False),
    ],
)
def test_a_probe_is_known_by_path_method_and_agent(
    method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], is_probe: bool
) -> None:
    decision = Probed(ALL).decide(method, target, headers)
    assert decision is not None and decision.matches is not is_probe
    other = Probed([PORT, SECURE]).decide(method, target, headers)
    assert other is not None and other.matches


def test_what_there_is_none_of_is_not_looked_for() -> None:
    assert [
        (each.http, each.grpc) for each in (Probed([LIVE]), Probed([HEALTH]), Probed([SECURE, PORT]))
    ] == [
        (True, False),
        (False, True),
        (False, False),
    ]


def test_of_what_is_no_probe_the_filter_says() -> None:
    matcher = Matcher(HttpFilter(path_filter="^/(up|mine)"))
    probed = Probed([LIVE], matcher)
    found = [
        probed.decide(b"GET", target, [AGENT]) for target in (b"/up?deep=1", b"/up", b"/mine", b"/theirs")
    ]
    assert [each is not None and each.matches for each in found] == [False, True, True, False]
    assert not probed.needs_body


def of(probes: str, **http_filter: Any) -> Config:
    return Config(mode="steal", probes=probes, http_filter=HttpFilter(**http_filter))


def test_a_port_without_a_filter_is_spoken_of() -> None:
    words = warning(of("warn"), 80, ALL)
    for each in (
        "port 80 is stolen whole",
        "liveness (HTTP GET /up?deep=1, container web)",
        "liveness (HTTPS GET /tls, container web)",
        "liveness (gRPC health check, container web)",
        "the target is restarted",
        'feature.network.incoming.probes to "answer"',
        "cannot be told from other requests without agent.tls",
        "one over TCP succeeds in any case",
    ):
        assert each in words
    assert "gets no more clients" in warning(of("warn"), 80, [READY])
    only = warning(of("warn"), 80, [PORT])
    assert "succeeds in any case" in only and "restarted" not in only and "answer them" not in only


@pytest.mark.parametrize("probes", ["pass", "answer"])
def test_what_cannot_be_told_apart_is_said(probes: str) -> None:
    assert warning(of(probes), 80, [LIVE, HEALTH, PORT]) == ""
    words = warning(of(probes), 80, [LIVE, SECURE])
    assert "/tls" in words and "/up" not in words and "agent.tls" in words


@pytest.mark.parametrize(
    ("http_filter", "caught"),
    [
        ({"path_filter": "^/mine"}, []),
        ({"header_filter": "x-user: me"}, []),
        ({"path_filter": "^/up"}, ["/up?deep=1"]),
        ({"path_filter": "health"}, ["gRPC"]),
        ({"header_filter": "^user-agent: kube"}, ["/up?deep=1", "/r%C3%A9ady", "gRPC"]),
        ({"all_of": [{"not": {"header": "x-user"}}, {"method": "get"}]}, ["/up", "/r", "/own", "/bare"]),
        ({"header_filter_jq": "true"}, []),  # not plain
        ({"path_filter": "^/up", "ports": [81]}, ["/up", "/r", "/own", "/bare", "/tls", "gRPC", "TCP"]),
    ],
)
def test_a_filter_is_spoken_of_where_it_takes_them(http_filter: dict[str, Any], caught: list[str]) -> None:
    words = warning(of("warn", **http_filter), 80, ALL)
    shown = [
        each for each in ("/up", "/r%", "/own", "/bare", "/tls", "gRPC h", "TCP connect") if each in words
    ]
    assert len(shown) == len(caught) and all(each in words for each in caught)
    assert bool(words) is bool(caught)
    assert ('"pass"' in words) is bool(caught) and ('"answer"' in words) is ("ports" in http_filter)
    if "ports" not in http_filter:
        assert warning(of("pass", **http_filter), 80, ALL) == ""


@pytest.mark.parametrize(
    ("config", "port", "probes"),
    [
        (of("program"), 80, ALL),
        (of("warn"), 81, ALL),
        (of("warn"), 80, []),
        (Config(mode="mirror"), 80, ALL),
    ],
)
def test_else_nothing_is_said(config: Config, port: int, probes: list[Probe]) -> None:
    assert warning(config, port, probes) == ""


def test_what_the_cluster_says_gives_a_terminal_no_orders() -> None:
    odd = Probe("liveness", "http", 80, "/\x1b[2J\r\n\u202e" + "a" * 500, KUBE, container="\x9bweb")
    words = warning(of("warn"), 80, [odd])
    assert words.isprintable() and "/\\x1b[2J\\r\\n\\u202e" in words and "a" * 81 not in words


async def test_it_is_said_once_when_the_port_is_taken(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with session(tmp_path, of("warn"), probes=(LIVE,)) as it:
        assert it.agent.probes == [LIVE]
        with listening() as first, listening() as second:
            for server, port in ((first, 81), (first, 80), (second, 80)):
                await verdict_of(it.layer.listen, listen(server, port))
    assert [each.getMessage() for each in caplog.records] == [warning(of("warn"), 80, [LIVE])]
