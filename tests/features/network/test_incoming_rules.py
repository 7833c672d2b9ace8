"""Which listeners are the target's, and where they listen here, as tables."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from attrs import field, frozen

from pymirror.core.call import Address, Bind, Call, Errno, Untouched, Verdict
from pymirror.features.network.incoming.config import Config
from pymirror.features.network.incoming.layer import Layer
from pymirror.features.network.incoming.rules import Rules, tries
from pymirror.features.network.ports import Listener, Ports


@frozen
class Facts:
    """listening: port → who. there: what the program has."""

    listening: Mapping[int, str] = field(factory=dict)
    there: Sequence[Listener] = ()

    def listens(self, port: int) -> str:
        return self.listening.get(port, "")

    def asked(self, port: int) -> Sequence[Listener]:
        return [each for each in self.there if each.asked.port == port]


def at(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return Address(host.strip("[]"), int(port))


def call(text: str, **more: Any) -> Call:
    return Call("bind", transport="tcp", address=at(text), socket=1, **more)


def rules(**keys: Any) -> Rules:
    return Rules(Config(**keys), frozenset({5678}))


@pytest.mark.parametrize(
    ("keys", "address", "port", "reason"),
    [
        ({}, "0.0.0.0:80", 80, "incoming: mirror of port 80"),
        ({"mode": "steal"}, "[::]:80", 80, "incoming: steal of port 80"),
        ({}, "127.0.0.1:80", 80, "incoming: mirror of port 80"),
        ({"mode": "off"}, "0.0.0.0:80", 0, "incoming.mode: off"),
        ({}, "0.0.0.0:0", 0, "incoming: port 0"),
        ({"ignore_localhost": True}, "127.0.0.1:80", 0, "incoming.ignore_localhost"),
        ({"ignore_localhost": True}, "[::1]:80", 0, "incoming.ignore_localhost"),
        ({"ignore_localhost": True}, "0.0.0.0:80", 80, "incoming: mirror of port 80"),
        ({}, "0.0.0.0:5678", 0, "incoming: port 5678 is a debugger's"),
        ({"ignore_ports": [80]}, "0.0.0.0:80", 0, "incoming.ignore_ports 80"),
        ({"ignore_ports": [80]}, "0.0.0.0:81", 81, "incoming: mirror of port 81"),
        ({"ports": [80]}, "0.0.0.0:80", 80, "incoming: mirror of port 80"),
        ({"ports": [80]}, "0.0.0.0:81", 0, "incoming.ports: 81 is not one of them"),
        ({"ports": []}, "0.0.0.0:80", 0, "incoming.ports: 80 is not one of them"),
        ({"port_mapping": [[8080, 80]]}, "0.0.0.0:8080", 80,
         "incoming: mirror of port 80, by incoming.port_mapping 8080"),
        ({"port_mapping": [[8080, 80]], "ports": [80]}, "0.0.0.0:8080", 80,
         "incoming: mirror of port 80, by incoming.port_mapping 8080"),
        ({"port_mapping": [[8080, 80]], "ports": [8080]}, "0.0.0.0:8080", 0,
         "incoming.ports: 80 is not one of them"),
        ({"port_mapping": [[8080, 80]], "ignore_ports": [80]}, "0.0.0.0:8080", 80,
         "incoming: mirror of port 80, by incoming.port_mapping 8080"),
        ({"port_mapping": [[8080, 80]], "ignore_ports": [8080]}, "0.0.0.0:8080", 0, "incoming.ignore_ports 8080"),
        ({"ignore_localhost": True, "ignore_ports": [5678]}, "127.0.0.1:5678", 0, "incoming.ignore_localhost"),
        ({"ignore_ports": [5678]}, "0.0.0.0:5678", 0, "incoming: port 5678 is a debugger's"),
    ],
)  # fmt: skip
def test_the_first_rule_that_holds_decides(
    keys: Mapping[str, Any], address: str, port: int, reason: str
) -> None:
    decision = rules(**keys).decide(call(address))
    assert (decision.port, decision.reason) == (port, reason)
    verdict = rules(**keys).bind(call(address), Facts())
    assert (type(verdict), verdict.reason) == (Bind if port else Untouched, reason)


def test_nothing_is_taken_without_a_target_or_without_tcp() -> None:
    without = Rules(Config(listen_ports=[[80, 8080]]), has_target=False)
    assert without.bind(call("0.0.0.0:80"), Facts()) == Untouched("incoming: there is no target")
    udp = Call("bind", transport="udp", address=at("0.0.0.0:80"))
    assert rules().bind(udp, Facts()) == Untouched("incoming: not TCP")


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("0.0.0.0:80", ["0.0.0.0:80", "0.0.0.0:0", "127.0.0.1:80", "127.0.0.1:0"]),
        ("[::]:80", ["[::]:80", "[::]:0", "[::1]:80", "[::1]:0"]),
        ("10.1.2.3:80", ["10.1.2.3:80", "10.1.2.3:0", "127.0.0.1:80", "127.0.0.1:0"]),
        ("127.0.0.1:80", ["127.0.0.1:80", "127.0.0.1:0"]),
        ("[::1]:80", ["[::1]:80", "[::1]:0"]),
    ],
)
def test_where_a_listener_may_be_here(address: str, wanted: list[str]) -> None:
    assert [str(each) for each in tries(at(address))] == wanted
    verdict = rules().bind(call(address), Facts())
    assert isinstance(verdict, Bind) and verdict.tries == tries(at(address))


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({}, "incoming: mirror of port 80; incoming.listen_ports: 8080 here"),
        ({"ignore_ports": [80]}, "incoming.ignore_ports 80; incoming.listen_ports: 8080 here"),
    ],
)
def test_a_port_to_listen_on_is_had_or_nothing(keys: Mapping[str, Any], reason: str) -> None:
    chosen = rules(listen_ports=[[80, 8080]], **keys)
    for facts in (Facts(), Facts({80: "other (3)"})):
        assert chosen.bind(call("0.0.0.0:80"), facts) == Bind(reason, tries=(at("0.0.0.0:8080"),))
    assert isinstance(chosen.bind(call("0.0.0.0:8080"), Facts()), Bind)


def listener(asked: str, real: str, shares: bool = False, socket: int = 7) -> Listener:
    return Listener(at(asked), at(real), shares, at(asked).port, socket)


ASKED = ["0.0.0.0:80"]
ALL = ["0.0.0.0:80", "0.0.0.0:0", "127.0.0.1:80", "127.0.0.1:0"]


@pytest.mark.parametrize(
    ("facts", "shares", "wanted"),
    [
        (Facts({80: "python (3)"}), False, ASKED),  # the kernel refuses it, or not
        (Facts({80: "python (3)"}), True, ASKED),
        (Facts({}, [listener("0.0.0.0:80", "0.0.0.0:80")]), False, ASKED),
        (Facts({}, [listener("0.0.0.0:80", "127.0.0.1:80")]), False, ASKED),
        (Facts({}, [listener("0.0.0.0:80", "0.0.0.0:41234")]), False, errno.EADDRINUSE),
        (Facts({}, [listener("127.0.0.1:80", "127.0.0.1:41234")]), False, errno.EADDRINUSE),
        (Facts({}, [listener("0.0.0.0:80", "0.0.0.0:41234", shares=True)]), False, errno.EADDRINUSE),
        (Facts({}, [listener("0.0.0.0:80", "0.0.0.0:41234")]), True, errno.EADDRINUSE),
        (Facts({}, [listener("0.0.0.0:80", "0.0.0.0:41234", shares=True)]), True, ["0.0.0.0:41234"]),
        (Facts({}, [listener("[::]:80", "[::]:41234")]), False, ALL),  # of the other IP version
        (Facts({}, [listener("0.0.0.0:81", "0.0.0.0:41234")]), False, ALL),
    ],
)
def test_a_port_that_the_program_has_is_in_use_as_everywhere(facts: Facts, shares: bool, wanted: Any) -> None:
    verdict = rules().bind(call("0.0.0.0:80", shares_port=shares), facts)
    if isinstance(wanted, int):
        assert verdict == Errno(f"incoming: the program listens on {facts.there[0].asked}", code=wanted)
    else:
        assert isinstance(verdict, Bind)
        assert [str(each) for each in verdict.tries] == wanted


def test_two_addresses_of_one_port_do_not_meet() -> None:
    facts = Facts({}, [listener("127.0.0.1:80", "127.0.0.1:41234")])
    verdict = rules().bind(call("127.0.0.2:80"), facts)
    assert isinstance(verdict, Bind) and verdict.tries[0] == at("127.0.0.2:80")


def test_ports_are_found_by_what_was_asked_for_and_by_the_target() -> None:
    ports = Ports()
    first, second = (
        listener("0.0.0.0:80", "0.0.0.0:80", socket=1),
        listener("[::]:80", "[::]:41234", socket=2),
    )
    for each in (first, second):
        ports.add(each)
    assert ports.asked(80) == [first, second] and ports.of(80) == [second, first]
    assert ports.others(80) == [41234] and ports.others(81) == []
    again = listener("[::]:81", "[::]:81", socket=1)
    ports.add(again)
    ports.remove(first)  # its socket is another's by now
    assert ports.all() == [second, again]
    ports.remove(second)
    assert ports.others(80) == []


@pytest.mark.parametrize(
    ("keys", "asked", "kind", "reason"),
    [
        ({}, call("0.0.0.0:80"), Bind, "incoming: mirror of port 80"),
        ({"ignore_ports": [80]}, call("0.0.0.0:80"), Untouched, "incoming.ignore_ports 80"),
        ({"ignore_ports": [80], "listen_ports": [[80, 81]]}, call("0.0.0.0:80"), Untouched,
         "incoming.ignore_ports 80"),
        ({}, Call("connect", transport="tcp", address=at("1.1.1.1:80")), None, ""),
    ],
)  # fmt: skip
def test_explain(keys: Mapping[str, Any], asked: Call, kind: type[Verdict] | None, reason: str) -> None:
    verdict = Layer.explain(Config(**keys), asked)
    assert (type(verdict) if verdict else None, verdict.reason if verdict else "") == (kind, reason)
