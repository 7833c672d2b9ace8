"""Entries of a filter, and where each destination is reached from, as tables."""

from __future__ import annotations

import errno
import ipaddress
import json
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from attrs import evolve, field, frozen

from pymirror.core.call import Address, Call, Errno
from pymirror.core.config import Vocabulary, resolve
from pymirror.core.errors import ConfigError
from pymirror.core.feature import NoConfig
from pymirror.core.structure import structure
from pymirror.features.network.debuggers import ports
from pymirror.features.network.filter import Entry, parse
from pymirror.features.network.outgoing.config import Config, Filter
from pymirror.features.network.outgoing.forms import FORM, advice
from pymirror.features.network.outgoing.layer import Layer
from pymirror.features.network.outgoing.rules import Decision, Place, Rules, Unknown


@frozen
class Facts:
    """listening: port → who. given: address → names. resolved: name → addresses. bound: port → others."""

    listening: Mapping[int, str] = field(factory=dict)
    given: Mapping[str, list[str]] = field(factory=dict)
    resolved: Mapping[str, list[str]] = field(factory=dict)
    bound: Mapping[int, list[int]] = field(factory=dict)

    def others(self, port: int) -> Iterable[int]:
        return self.bound.get(port, ())

    def listens(self, transport: str, port: int) -> str:
        return self.listening.get(port, "")

    def names(self, host: str) -> Iterable[str]:
        return self.given.get(host, ())

    def look_up(self, name: str) -> Iterable[str] | None:
        return self.resolved.get(name)


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text)


@pytest.mark.parametrize(
    ("text", "transport", "name", "net", "port"),
    [
        ("db", "any", "db", None, 0),
        ("DB.Shop.svc.:5432", "any", "db.shop.svc", None, 5432),
        ("TCP://db", "tcp", "db", None, 0),
        ("udp://10.0.0.1:53", "udp", None, "10.0.0.1/32", 53),
        ("10.0.0.0/8", "any", None, "10.0.0.0/8", 0),
        ("10.1.2.3/8:80", "any", None, "10.0.0.0/8", 80),
        ("[fd00::1]:443", "any", None, "fd00::1/128", 443),
        ("[fd00::/8]:443", "any", None, "fd00::/8", 443),
        ("fd00::1", "any", None, "fd00::1/128", 0),
        ("any://:7777", "any", None, None, 7777),
        (":7777", "any", None, None, 7777),
        ("tcp://", "tcp", None, None, 0),
        ("0.0.0.0:80", "any", None, None, 80),
        ("[::]:80", "any", None, None, 80),
        ("0.0.0.0/0", "any", None, None, 0),
        ("1.2.3.4:0", "any", None, "1.2.3.4/32", 0),
    ],
)
def test_an_entry_means(text: str, transport: str, name: str | None, net: str | None, port: int) -> None:
    assert parse(text) == Entry(text, transport, name, network(net) if net else None, port)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("http://db", "protocol is one of tcp, udp, any"),
        ("db:http", "'http' is no port"),
        ("db:70000", "no port"),
        ("db:", "no port"),
        ("*.shop", "no wildcards"),
        ("10.0.0.0/33", "no address or network"),
        ("1.2.3", "no address or network"),
        ("[db]:80", "brackets are for IPv6"),
        ("[fd00::1", "no address or network"),
        ("a b", "no name"),
        ("10.0.0.0-10.0.0.9", "no name"),
        ("db..shop", "no name"),
        (64 * "x", "no name"),
    ],
)
def test_a_bad_entry_is_refused_with_its_place(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        structure(Config, {"filter": {"remote": ["ok", text]}}, "feature.network.outgoing")
    assert caught.value.place == "feature.network.outgoing.filter.remote"
    assert "entry 2" in str(caught.value)


MEANT = {
    "http://db": "tcp://db:80",
    "https://user@db.shop:8443/path": "tcp://db.shop:8443",
    "postgres://db/orders": "tcp://db:5432",
    "db:http": "db:80",
    "db:": "db",
    "5432": ":5432",
    "tcp:db:80": "tcp://db:80",
    "tcp:/db": "tcp://db",
    "udp//db": "udp://db",
    "53/udp": "udp://:53",
    "db:80/tcp": "tcp://db:80",
    "[db]:80": "db:80",
    "[fd00::1": "[fd00::1]",
    "fd00::1]:80": "[fd00::1]:80",
    "[::1]x:80": "[::1]:80",
    "[fe80::1%eth0]:80": "[fe80::1]:80",
    "[fd00::/200]:80": "[fd00::/128]:80",
    "10.0.0.0/33": "10.0.0.0/32",
    "10.1.*": "10.1.0.0/16",
    "tcp://10.*.*.*:80": "tcp://10.0.0.0/8:80",
    "1.2.3": "1.2.3.0/24",
    "*:80": ":80",
    "*": "0.0.0.0/0",
    "db..shop": "db.shop",
    "bücher.example:80": "xn--bcher-kva.example:80",
}


@pytest.mark.parametrize(("text", "meant"), MEANT.items())
def test_the_nearest_right_form_is_offered(text: str, meant: str) -> None:
    with pytest.raises(ValueError):
        parse(text)
    assert advice(text) == f"did you mean {meant!r}?"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("db, cache:6379", "give each an entry of its own: 'db', 'cache:6379'"),
        ("*.shop", f"names are given whole, or as a network; {FORM}"),
        ("db:70000", FORM),
        ("what?", FORM),
        ("", FORM),
    ],
)
def test_where_nothing_is_near_it_says_what_an_entry_is(text: str, words: str) -> None:
    assert advice(text) == words


def test_all_bad_entries_of_a_section_are_told_together() -> None:
    chosen = {"remote": ["http://db", "ok"], "local": ["db:70000", "*.x"]}
    with pytest.raises(ConfigError) as caught:
        structure(Config, {"filter": chosen}, "feature.network.outgoing")
    place = "feature.network.outgoing.filter"
    assert [(each.message.partition(",")[0], each.hint) for each in caught.value.all()] == [
        (f"{place}.remote: entry 1", "did you mean 'tcp://db:80'?"),
        (f"{place}.local: entry 1", FORM),
        (f"{place}.local: entry 2", f"names are given whole, or as a network; {FORM}"),
        (f"{place}: expected exactly one of remote and local", ""),
    ]


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"remote": [], "local": None}, "is empty"),
        ({"remote": ["a"], "local": ["b"]}, "exactly one of remote and local, got both"),
        ({}, "exactly one of remote and local, got neither"),
    ],
)
def test_a_bad_filter_is_refused(chosen: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        structure(Config, {"filter": chosen}, "feature.network.outgoing")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (Config(filter=Filter(remote=["db", "cache:6379", "tcp://0.0.0.0", "10.0.0.0/8", "tcp://db"])), []),
        (
            Config(filter=Filter(remote=["10.0.0.5/8"])),
            ["filter.remote: '10.0.0.5/8' stands for all of 10.0.0.0/8"],
        ),
        (
            Config(filter=Filter(local=["[fd00::1/64]:80"])),
            ["filter.local: '[fd00::1/64]:80' stands for all of fd00::/64"],
        ),
        (
            Config(filter=Filter(remote=["10.0.0.1/0"])),
            ["filter.remote: '10.0.0.1/0' stands for all of 0.0.0.0/0"],
        ),
        (
            Config(filter=Filter(remote=["db", "any://DB."])),
            ["filter.remote: 'any://DB.' says the same as 'db' before it"],
        ),
        (Config(filter=Filter(remote=["db", "db"])), ["filter.remote: 'db' says the same as 'db' before it"]),
        (
            Config(filter=Filter(local=["tcp://", ":0"])),
            [
                "filter.local: 'tcp://' has no destination: it matches every TCP one, as 0.0.0.0 does",
                "filter.local: ':0' has no destination: it matches every one, as 0.0.0.0 does",
            ],
        ),
        (
            Config(udp=False, filter=Filter(local=["udp://db", "tcp://db"])),
            ["filter.local: 'udp://db' has no effect: feature.network.outgoing.udp is off"],
        ),
        (
            Config(tcp=False, udp=False, filter=Filter(local=["db"])),
            ["filter has no effect: tcp and udp are off"],
        ),
        (Config(tcp=False, udp=False), []),
    ],
)
def test_what_is_hardly_meant_is_warned_about(config: Config, words: list[str]) -> None:
    assert config.warnings() == [f"feature.network.outgoing.{each}" for each in words]


def tcp(host: str, port: int) -> Call:
    return Call("connect", transport="tcp", address=Address(host, port))


def udp(host: str, port: int) -> Call:
    return Call("sendto", transport="udp", address=Address(host, port))


REMOTE: dict[str, Any] = {"filter": {"remote": ["tcp://10.0.0.0/8:80", "db", "[fd00::1]:53"]}}
LOCAL: dict[str, Any] = {"filter": {"local": ["udp://:53", "cache.shop:6379"]}}
ELSEWHERE = Facts({3000: "node (7)"}, bound={80: [3000], 81: [3001]})
KNOWN = Facts(resolved={"db": ["10.9.9.9"], "cache.shop": []})

DECISIONS: list[tuple[dict[str, Any], Call, Facts, str]] = [
    ({}, tcp("10.0.0.1", 80), KNOWN, "target: outgoing: no filter"),
    ({}, tcp("127.0.0.1", 80), KNOWN, "target: outgoing: no filter"),
    ({}, tcp("10.0.0.1", 0), KNOWN, "this machine: outgoing: port 0"),
    ({}, evolve(tcp("10.0.0.1", 80), device="wg0"), KNOWN, "this machine: outgoing: the socket is bound to the device wg0"),
    ({}, udp("224.0.0.251", 5353), KNOWN, "this machine: outgoing: multicast and broadcast stay on this machine"),
    ({}, udp("255.255.255.255", 67), KNOWN, "this machine: outgoing: multicast and broadcast stay on this machine"),
    ({"tcp": False}, tcp("10.0.0.1", 80), KNOWN, "this machine: outgoing.tcp: false"),
    ({"tcp": False}, udp("10.0.0.1", 80), KNOWN, "target: outgoing: no filter"),
    ({"ignore_localhost": True}, tcp("::1", 80), KNOWN, "this machine: outgoing.ignore_localhost"),
    ({"ignore_localhost": True}, tcp("0.0.0.0", 80), KNOWN, "this machine: outgoing.ignore_localhost"),
    ({"ignore_localhost": True}, tcp("LocalHost.", 80), KNOWN, "this machine: outgoing.ignore_localhost"),
    ({"ignore_localhost": True}, tcp("10.0.0.1", 80), KNOWN, "target: outgoing: no filter"),
    ({}, tcp("127.0.0.1", 3000), Facts({3000: "node (7)"}), "this machine: outgoing: node (7) listens on port 3000"),
    ({}, tcp("10.0.0.1", 3000), Facts({3000: "node (7)"}), "target: outgoing: no filter"),
    ({}, tcp("127.0.0.1", 80), ELSEWHERE, "this machine: outgoing: node (7) listens on port 80, which is 3000 here"),
    ({}, udp("127.0.0.1", 80), ELSEWHERE, "target: outgoing: no filter"),
    ({}, tcp("127.0.0.1", 81), ELSEWHERE, "target: outgoing: no filter"),
    ({}, tcp("127.0.0.1", 5678), KNOWN, "this machine: outgoing: port 5678 is a debugger's"),
    (REMOTE, tcp("10.0.0.1", 80), KNOWN, "target: outgoing.filter remote 'tcp://10.0.0.0/8:80'"),
    (REMOTE, udp("10.0.0.1", 80), KNOWN, "this machine: outgoing.filter remote: no entry matches"),
    (REMOTE, tcp("10.9.9.9", 1), KNOWN, "target: outgoing.filter remote 'db'"),
    (REMOTE, tcp("10.9.9.8", 1), Facts(given={"10.9.9.8": ["DB."]}), "target: outgoing.filter remote 'db'"),
    (REMOTE, tcp("fd00::1", 53), KNOWN, "target: outgoing.filter remote '[fd00::1]:53'"),
    (REMOTE, tcp("10.0.0.1", 80), Facts(), "target: outgoing.filter remote 'tcp://10.0.0.0/8:80'"),
    (REMOTE, tcp("10.0.0.1", 81), Facts(), "unknown: db"),
    (REMOTE, tcp("db", 81), Facts(), "target: outgoing.filter remote 'db'"),
    (LOCAL, udp("10.0.0.10", 53), Facts(), "this machine: outgoing.filter local 'udp://:53'"),
    (LOCAL, tcp("10.0.0.10", 6379), KNOWN,
     "target: outgoing.filter local: no entry matches (cache.shop: no address is known)"),
    (LOCAL, tcp("10.0.0.10", 6380), Facts(), "target: outgoing.filter local: no entry matches"),
]  # fmt: skip


@pytest.mark.parametrize(("config", "call", "facts", "wanted"), DECISIONS)
def test_a_destination_is(config: dict[str, Any], call: Call, facts: Facts, wanted: str) -> None:
    rules = Rules(structure(Config, config, "outgoing"), frozenset({5678}))
    found = rules.decide(call, facts)
    if isinstance(found, Unknown):
        assert wanted == f"unknown: {', '.join(found.names)}"
    else:
        assert f"{found.place.value}: {found.reason}" == wanted


@pytest.mark.parametrize(
    ("name", "place"),
    [
        (b"/var/run/docker.sock", Place.TARGET),
        (b"/run/nscd/socket", Place.HERE),
        (b"\0side-car", Place.TARGET),
        (b"\0side-car" + bytes(99), Place.TARGET),
        (b"side-car", Place.HERE),
        (b"\0X11", Place.HERE),
    ],
)
def test_a_unix_socket_is(name: bytes, place: Place) -> None:
    rules = Rules(Config(unix_streams=[r"^/var/run/docker\.sock$", "^side-car$"]))
    found = rules.decide(Call("connect", name, transport="unix"), Facts())
    assert isinstance(found, Decision) and found.place is place


@pytest.mark.parametrize(
    ("line", "variables", "wanted"),
    [
        ("python -m debugpy --connect 127.0.0.1:5678 app.py", {"MIRRORD_DETECT_DEBUGGER_PORT": "debugpy"}, {5678}),
        ("python -m debugpy --connect 127.0.0.1:5678 app.py", {}, set()),
        ("python pydevd.py --port 1234 --file x", {"PYMIRROR_DETECT_DEBUGGER_PORT": "pydevd"}, {1234}),
        ("java -agentlib:jdwp=transport=dt_socket,server=n,address=127.0.0.1:54898,suspend=y App",
         {"MIRRORD_DETECT_DEBUGGER_PORT": "javaagent"}, {54898}),
        ("node --inspect=9230 app.js", {"MIRRORD_DETECT_DEBUGGER_PORT": "debugpy,nodeinspector"}, {9230}),
        ("x", {"MIRRORD_IGNORE_DEBUGGER_PORTS": "5000-5002;6000"}, {5000, 5001, 5002, 6000}),
    ],
)  # fmt: skip
def test_debuggers_ports(line: str, variables: dict[str, str], wanted: set[int]) -> None:
    assert ports(line.split(), variables) == wanted


@pytest.mark.parametrize(("short", "there"), [(False, False), (True, True)])
def test_the_short_form_of_network_is_for_all_features_in_it(short: bool, there: bool, tmp_path: Any) -> None:
    file = tmp_path / "pymirror.json"
    file.write_text(json.dumps({"feature": {"network": short}}))
    words = Vocabulary({"network.outgoing": Config}, {"none": NoConfig}, default_runtime="none")
    assert ("network.outgoing" in resolve(str(file), {}, {}, words).features) is there


def test_a_pattern_that_takes_for_ever_is_an_error_of_the_call() -> None:
    slow = Config(unix_streams=["(A|AA)+$"])
    call = Call("connect", b"/run/" + b"A" * 60 + b"b", transport="unix")
    with pytest.raises(OSError, match=r"outgoing\.unix_streams \(A\|AA\)\+\$: ") as caught:
        Rules(slow).decide(call, Facts())
    verdict = Layer.explain(slow, call)
    assert isinstance(verdict, Errno) and verdict.code == caught.value.errno == errno.EIO


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("IGNORE_DEBUGGER_PORTS", "none", "'none' is no port"),
        ("IGNORE_DEBUGGER_PORTS", "5-1", "'5-1' is no range"),
        ("IGNORE_DEBUGGER_PORTS", "5000;99999", "'99999' is no range"),
        ("DETECT_DEBUGGER_PORT", "debugpy,foo", "'foo' is no debugger known here: debugpy, "),
    ],
)
def test_a_variable_about_debuggers_that_cannot_be_used(name: str, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as raised:
        Config.environment({name: text})
    assert name in str(raised.value)


@pytest.mark.parametrize("side", ["remote", "local"])
def test_explain_of_a_name_that_is_not_in_the_filter_as_it_stands(side: str) -> None:
    """What it is looked up as may be what an entry is, or is in."""
    for entry in ("srv:80", "10.0.0.0/8"):
        config = Config(filter=Filter(**{side: [entry]}))
        call = Call("connect", transport="tcp", address=Address("srv.shop", 80))
        verdict = Layer.explain(config, call)
        assert verdict is not None and "depends on the addresses of" in verdict.reason
