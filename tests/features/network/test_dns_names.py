"""Whose name it is, and what the program's resolvers read: tables."""

from __future__ import annotations

from typing import Any

import dns.flags
import dns.message
import dns.rrset
import pytest

from pymirror.core.call import Address, Call, Errno, OtherAddress, OtherPath, Untouched, Verdict
from pymirror.features.network.dns.config import Config, Filter
from pymirror.features.network.dns.layer import Layer
from pymirror.features.network.dns.lookup import addresses, candidates
from pymirror.features.network.dns.lookupfiles import (
    Resolv,
    host_lines,
    host_sources,
    merge_hosts,
    merge_nsswitch,
    parse_resolv,
    servers_in_turn,
)
from pymirror.features.network.dns.names import Decision, Rules, reversed_address, spoken
from pymirror.features.network.outgoing.config import Config as OutgoingConfig
from pymirror.features.network.outgoing.config import Filter as OutgoingFilter

SEARCH = ("shop.svc.cluster.local", "svc.cluster.local", "cluster.local")
LOCAL, REMOTE = "network.dns.filter.local", "network.dns.filter.remote"


@pytest.mark.parametrize(
    ("filter", "name", "decision"),
    [
        (None, "api", Decision(False, "network.dns: no filter")),
        (Filter(local=["db"]), "db", Decision(True, f"{LOCAL} db")),
        (Filter(local=["db"]), "DB.", Decision(True, f"{LOCAL} db")),
        (Filter(local=["Db"]), "db.shop.svc.cluster.local", Decision(True, f"{LOCAL} Db")),
        (Filter(local=["db"]), "db.example.com", Decision(False, f"{LOCAL}: no entry is db.example.com")),
        (Filter(local=["example.com"]), "www.example.com", Decision(False, f"{LOCAL}: no entry is www.example.com")),
        (Filter(remote=["api", "db"]), "db.svc.cluster.local", Decision(False, f"{REMOTE} db")),
        (Filter(remote=["api"]), "example.com", Decision(True, f"{REMOTE}: no entry is example.com")),
        (Filter(remote=["api.shop"]), "api.shop.svc.cluster.local", Decision(False, f"{REMOTE} api.shop")),
        (Filter(remote=["a_b:5432"]), "a_b", Decision(False, f"{REMOTE} a_b:5432")),
        (Filter(local=["10.0.0.0/8"]), "7.0.0.10.in-addr.arpa", Decision(True, f"{LOCAL} 10.0.0.0/8")),
        (Filter(local=["10.0.0.0/8"]), "7.0.0.11.in-addr.arpa", Decision(False, f"{LOCAL}: no entry is 7.0.0.11.in-addr.arpa")),
        (Filter(local=[]), "x", Decision(False, f"{LOCAL}: no entry is x")),
        (Filter(remote=[]), "x", Decision(True, f"{REMOTE}: no entry is x")),
    ],
    ids=str,
)  # fmt: skip
def test_decide(filter: Filter | None, name: str, decision: Decision) -> None:
    assert Rules.of(filter, SEARCH).decide(name) == decision


@pytest.mark.parametrize(
    ("filter", "entries", "here", "names", "expected"),
    [
        (None, ["db", "10.0.0.0/8", ":80"], True, ["db", "api"], [True, False]),
        (None, ["db"], False, ["db", "api"], [False, False]),
        (Filter(local=["api"]), ["tcp://db:5432"], True, ["db", "api", "x"], [True, True, False]),
        (Filter(remote=["api"]), ["db"], False, ["db", "api", "x"], [False, False, True]),
        (Filter(remote=["api"]), ["db"], True, ["db", "api"], [True, False]),
        (Filter(local=["api"]), ["api"], False, ["db", "api"], [False, True]),
        (None, ["10.0.0.0/8"], True, ["db"], [False]),
    ],
    ids=str,
)
def test_names_of_the_outgoing_filter(
    filter: Filter | None, entries: list[str], here: bool, names: list[str], expected: list[bool]
) -> None:
    rules = Rules.of(filter, SEARCH).with_outgoing(entries, here)
    assert [rules.decide(name).here for name in names] == expected


@pytest.mark.parametrize(
    ("name", "forms"),
    [
        ("api", ("api",)),
        ("API.shop.svc.cluster.local.", ("api.shop.svc.cluster.local", "api", "api.shop", "api.shop.svc")),
        ("shop.svc.cluster.local", ("shop.svc.cluster.local", "shop", "shop.svc")),
        ("", ("",)),
    ],
)
def test_what_a_program_may_have_asked_for(name: str, forms: tuple[str, ...]) -> None:
    assert spoken(name, SEARCH) == forms


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("7.0.0.10.in-addr.arpa.", "10.0.0.7"),
        ("x.0.0.10.in-addr.arpa", None),
        ("0.0.10.in-addr.arpa", None),
        (".".join("7" + "0" * 27 + "77df") + ".ip6.arpa", "fd77::7"),
        ("g." * 32 + "ip6.arpa", None),
        ("api", None),
    ],
)
def test_reversed(name: str, address: str | None) -> None:
    found = reversed_address(name)
    assert (None if found is None else str(found)) == address


@pytest.mark.parametrize(
    ("text", "resolv"),
    [
        ("", Resolv()),
        (
            "nameserver 10.96.0.10\nsearch a.b c.d\noptions ndots:5\n",
            Resolv(("10.96.0.10",), ("a.b", "c.d"), ndots=5),
        ),
        (
            "# nameserver 1.1.1.1\n;x\nnameserver 1.2.3.4 # one\nnameserver fe80::1%eth0\nnameserver x\n"
            "nameserver 5.6.7.8\nnameserver 9.9.9.9\ndomain d.e f\noptions timeout:1 attempts:9 rotate\noptions use-vc",
            Resolv(("1.2.3.4", "fe80::1%eth0", "5.6.7.8"), ("d.e",), 1.0, 5, True, True),
        ),
        ("options timeout:99 timeout:0 attempts:x ndots:0\nnameserver\noptions", Resolv(timeout=1.0, ndots=0)),
        ("domain x\nsearch y z", Resolv(search=("y", "z"))),
    ],
)  # fmt: skip
def test_resolv_conf(text: str, resolv: Resolv) -> None:
    assert parse_resolv(text) == resolv


def test_servers_in_turn() -> None:
    three = ("a", "b", "c")
    assert servers_in_turn(Resolv(), 5) == ("127.0.0.1",)
    assert servers_in_turn(Resolv(three), 1) == three
    assert servers_in_turn(Resolv(three, rotate=True), 4) == ("b", "c", "a")


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        (None, "files dns"),
        ("passwd: files\n", "files dns"),
        ("hosts: files dns", "files dns"),
        ("hosts:\tdns  files\n", "dns files"),
        ("hosts: files mdns4_minimal [NOTFOUND=return] dns", "files dns"),
        ("hosts: files [!UNAVAIL=return] dns # x", "files [!UNAVAIL=return] dns"),
        ("hosts: files myhostname resolve [!UNAVAIL=return] dns", "files dns"),
        ("hosts: mymachines resolve [!UNAVAIL=return] files", "dns files"),
        ("#hosts: dns\nhosts: files", "files"),
        ("hosts: wins\n", "files dns"),
        ("hosts: [", "files dns"),
    ],
)
def test_sources_of_names(text: str | None, sources: str) -> None:
    assert host_sources(text) == sources


def test_nsswitch_keeps_the_databases_of_this_machine() -> None:
    here = "passwd: files sss\nhosts: files resolve\n"
    assert merge_nsswitch("passwd: db\nhosts: dns files", here) == "passwd: files sss\nhosts: dns files\n"
    assert merge_nsswitch(None, None) == "hosts: files dns\n"


def test_hosts_of_both_sides() -> None:
    target = "# pod\n127.0.0.1 localhost\n10.1.1.1\tdb db.local api # two\n10.1.1.2 db\n"
    here = "127.0.0.1 localhost\n::1 ip6\n192.168.0.9 db other\nbad line\n"
    merged = merge_hosts(target, here, lambda name: name in ("db", "db.local"))
    assert merged == "# pod\n127.0.0.1 localhost\n10.1.1.1\tapi\n192.168.0.9\tdb\n"
    assert [(a, n) for a, n, _ in host_lines(merged)] == [
        ("127.0.0.1", ("localhost",)),
        ("10.1.1.1", ("api",)),
        ("192.168.0.9", ("db",)),
    ]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"remote": ["a"], "local": ["b"]}, "expected exactly one of remote and local, got both"),
        ({}, "expected exactly one of remote and local, got neither"),
        ({"local": ["a", "*.b"]}, "local: entry 2, '*.b'"),
        ({"local": ["tcp://a"]}, "a name has no protocol here"),
        ({"remote": [":53"]}, "a name or an address is needed"),
        ({"remote": ["10.0.0.0/33"]}, "remote: entry 1, "),
    ],
)
def test_a_filter_that_cannot_be_used(values: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("*", r"\*")):
        Filter(**values)


@pytest.mark.parametrize(
    ("config", "warnings", "wanted"),
    [
        (Config(), [], True),
        (Config.from_short(False), [], False),
        (Config(filter=Filter(local=["a"])), [], True),
        (Config(enabled=False, filter=Filter(local=["a"])), ["filter has no effect"], False),
        (Config(filter=Filter(local=[])), ["local is empty: every name is resolved on the target's side"], True),
        (Config(filter=Filter(remote=[])), ["remote is empty: every name is resolved on this machine"], False),
        (Config(filter=Filter(remote=["a", "b:80"])), ["'b:80' counts for every port"], True),
        (Config(filter=Filter(local=["a", "A."])), ["filter.local: 'A.' says the same as 'a' before it"], True),
        (Config(filter=Filter(local=["10.0.0.5/8"])), ["'10.0.0.5/8' stands for all of 10.0.0.0/8"], True),
    ],
)  # fmt: skip
def test_warnings(config: Config, warnings: list[str], wanted: bool) -> None:
    found = config.warnings()
    assert len(found) == len(warnings) and all(w in f for w, f in zip(warnings, found, strict=True))
    assert config.is_on is wanted


@pytest.mark.parametrize("config", [Config(enabled=False), Config(filter=Filter(remote=[]))], ids=str)
def test_turned_off(config: Config) -> None:
    named = Layer.explain(config, Call("name", b"db"))
    file = Layer.explain(config, Call("open", b"/etc/hosts"))
    assert isinstance(named, Untouched) and named.reason == "network.dns is off"
    assert isinstance(file, Untouched) and file.reason.startswith("network.dns is off: ")
    assert Layer.explain(config, Call("connect", b"/run/nscd/socket", transport="unix")) is None


@pytest.mark.parametrize(
    ("call", "kind", "reason"),
    [
        (Call("name", b"db"), Untouched, f"{LOCAL} db"),
        (Call("name", b"api"), Verdict, f"{LOCAL}: no entry is api"),
        (Call("open", b"/etc/hosts"), OtherPath, "network.dns: resolvers read the target's"),
        (Call("open", b"/etc/hosts", write=True), None, ""),
        (Call("stat", b"/etc/passwd"), None, ""),
        (Call("connect", b"/run/nscd/socket", transport="unix"), Errno, "network.dns: this machine's resolver is not the target's"),
        (Call("connect", b"/run/other", transport="unix"), None, ""),
        (Call("connect", transport="tcp", address=Address("8.8.8.8", 53)), OtherAddress, "network.dns: port 53"),
        (Call("sendto", transport="udp", address=Address("fd00::1", 53)), OtherAddress, "network.dns: port 53"),
        (Call("connect", transport="tcp", address=Address("8.8.8.8", 54)), None, ""),
    ],
)  # fmt: skip
def test_explain(call: Call, kind: type | None, reason: str) -> None:
    verdict = Layer.explain(Config(filter=Filter(local=["db"])), call)
    assert (None if verdict is None else type(verdict)) is kind
    assert verdict is None or verdict.reason == reason


@pytest.mark.parametrize(
    ("name", "outgoing", "kind", "reason"),
    [
        ("db", OutgoingFilter(local=["db:5432"]), Untouched, "network.outgoing.filter.local db:5432"),
        ("db", OutgoingFilter(remote=["db"]), Verdict, "network.dns: no filter"),
        ("api", None, Verdict, "network.dns: no filter"),
        (
            "db.shop.svc", OutgoingFilter(local=["db"]), Verdict,
            "network.outgoing.filter.local: no entry is db.shop.svc; "
            "this machine if shop.svc is in the target's search list: db",
        ),
        (
            "db", OutgoingFilter(local=["db.shop.svc"]), Verdict,
            "network.outgoing.filter.local: no entry is db; "
            "this machine if shop.svc is in the target's search list: db.shop.svc",
        ),
    ],
)  # fmt: skip
def test_explain_knows_the_outgoing_filter_and_of_search_lists(
    name: str, outgoing: OutgoingFilter | None, kind: type, reason: str
) -> None:
    others = {"network.outgoing": OutgoingConfig(filter=outgoing)}
    verdict = Layer.explain_among(Config(), Call("name", name.encode()), others)
    assert verdict is not None and (type(verdict), verdict.reason) == (kind, reason)


SEARCHED = Resolv(search=("demo.svc", "svc."), ndots=2)


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("db", ["db.demo.svc", "db.svc", "db"]),
        ("db.other", ["db.other.demo.svc", "db.other.svc", "db.other"]),
        ("www.example.com", ["www.example.com", "www.example.com.demo.svc", "www.example.com.svc"]),
        ("db.", ["db"]),
    ],
)
def test_a_name_is_asked_for_as_the_search_list_says(name: str, asked: list[str]) -> None:
    assert candidates(name, SEARCHED) == asked


@pytest.mark.parametrize(
    ("name", "sources", "found"),
    [
        ("web", "files dns", {"10.1.1.1", "fd00::1"}),
        ("web", "dns files", {"10.2.2.2"}),
        ("WEB.", "files", {"10.1.1.1", "fd00::1"}),
        ("web.other", "files dns", set()),
        ("x" * 64, "files dns", set()),
    ],
)
async def test_a_name_is_looked_up_where_the_target_does(name: str, sources: str, found: set[str]) -> None:
    async def ask(wire: bytes, tcp: bool) -> bytes:
        asked = dns.message.from_wire(wire)
        reply = dns.message.make_response(asked)
        if str(asked.question[0]) == "web.svc. IN A" and not tcp:
            reply.flags |= dns.flags.TC
        elif str(asked.question[0]) == "web.svc. IN A":
            reply.answer.append(dns.rrset.from_text("web.svc.", 30, "IN", "A", "10.2.2.2"))
        return reply.to_wire()

    hosts = "10.1.1.1 a Web\nfd00:0::1 web\n"
    assert await addresses(name, sources, hosts, SEARCHED, ask) == found
