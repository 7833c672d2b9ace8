"""What the packet filter is asked for, and what listings tell of other sessions."""

from __future__ import annotations

import errno
import re
import socket
import struct
from ipaddress import ip_address
from typing import Any

import pytest

from pymirror.agent.nft import refusal
from pymirror.features.network.incoming import ruleset
from pymirror.features.network.incoming.catcher import client_of, place4, place6
from pymirror.features.network.incoming.ruleset import Place

ONE = Place("10.0.0.1", 5001)


@pytest.mark.parametrize(
    ("table", "rank"),
    [
        ("pymirror-1", 1),
        ("pymirror-4095", 4095),
        ("pymirror-0", 0),
        ("pymirror-01", 0),
        ("pymirror-12345", 0),
        ("pymirror-a1", 0),
        ("kube-proxy", 0),
        ("12", 0),
    ],
)
def test_a_tables_name_is_its_rank(table: str, rank: int) -> None:
    assert ruleset.rank_of(table) == rank
    assert not rank or ruleset.table_of(rank) == table


@pytest.mark.parametrize(
    ("words", "comment"),
    [
        ("ada@laptop: api", "ada@laptop: api"),
        ("another session (1f)", "another session ?1f?"),
        ('"; flush ruleset; #', "?? flush ruleset? ?"),
        ("line\nbreak ö", "line?break ?"),
        ("x" * 200, "x" * 100),
    ],
)
def test_words_in_a_comment_end_no_command(words: str, comment: str) -> None:
    assert ruleset.comment(words) == comment


def test_marks_are_a_ranks_own_grow_with_it_and_are_no_meshs() -> None:
    marks = [ruleset.mark_of(rank) for rank in (1, 2, 50, ruleset.LAST_RANK)]
    assert marks == sorted(set(marks))
    for mark in marks:
        assert mark & ~ruleset.MASK == 0 and mark & ruleset.SIGN_MASK == ruleset.SIGN
        assert mark & 0xFFF not in (0x539, 0x111, 0)
        numbered = [ruleset.numbered(mark, n) for n in range(256)]
        assert len(set(numbered)) == 256 and {each & ruleset.MASK for each in numbered} == {mark}
        assert max(numbered) < 1 << 32


@pytest.mark.parametrize("rank", [1, 2, 127, 128, 300, ruleset.LAST_RANK])
@pytest.mark.parametrize(
    ("host", "number"),
    [
        ("10.1.2.3", 10),
        ("127.0.0.1", 127),
        ("223.255.0.9", 223),
        ("0.0.0.1", None),
        ("240.0.0.1", None),
        ("fd00::1", None),
    ],
)
def test_a_networks_rule_tells_its_clients_by_their_source(rank: int, host: str, number: int | None) -> None:
    assert ruleset.network_of(Place(host, 5)) == number
    if number is None:
        return
    words = ruleset.network(rank, number)
    found = re.search(r"meta mark == (\S+) .* snat ip to ip saddr & (\S+) \^ (\S+) : tcp sport$", words)
    assert found is not None and int(found[1], 16) == ruleset.numbered(ruleset.mark_of(rank), number)
    source, mask, flips = (
        int(ip_address(each)) for each in (ruleset.source_of(Place(host, 5), rank).host, found[2], found[3])
    )
    assert source & mask ^ flips == int(ip_address(host))


CLIENTS = ["10.0.0.1", "10.255.7.9", "127.0.0.1", "127.128.0.1", "fd00::1", "::1"]


@pytest.mark.parametrize("host", CLIENTS)
def test_of_each_agent_a_client_comes_by_another_address_the_same_each_time(host: str) -> None:
    client, ranks = Place(host, 40000), range(1, ruleset.LAST_RANK + 1)
    sources = [ruleset.source_of(client, rank) for rank in ranks]
    assert len(set(sources)) == len(ranks) and client not in sources
    assert sources == [ruleset.source_of(client, rank) for rank in ranks]
    assert all(each.host == "::1" or each.host.startswith("127.") for each in sources)


def test_clients_of_one_network_do_not_meet_in_the_next_agent() -> None:
    clients = [Place(f"10.244.{third}.{last}", 40000) for third in range(0, 256, 5) for last in (1, 2, 200)]
    sources = {ruleset.source_of(client, rank) for client in clients for rank in range(1, 9)}
    assert len(sources) == 8 * len(clients)
    six = [Place("fd00::1", 40000 + n) for n in range(4000)]
    assert len({ruleset.source_of(client, rank) for client in six for rank in range(1, 9)}) == 32000


@pytest.mark.parametrize("port", [80, 1024, 8080, 32767])
def test_a_port_that_a_server_may_have_is_not_made_of_another(port: int) -> None:
    assert ruleset.source_of(Place("fd00::1", port), 7).port == port
    assert ruleset.source_of(Place("10.0.0.1", port), 7).port == port


@pytest.mark.parametrize("catchers", [{4: 1500}, {4: 1500, 6: 1600}])
def test_the_table_redirects_each_ip_version_that_is_there(catchers: dict[int, int]) -> None:
    made = ruleset.made(3, "me", catchers)
    assert made.splitlines()[0] == 'create table inet pymirror-3 { flags owner; comment "me"; }'
    assert made.count("redirect to :1500") == 2 and made.count("< 0x3a7c meta nfproto ipv4") == 1
    assert made.count("redirect to :1600") == (2 if 6 in catchers else 0)
    assert "hook prerouting priority dstnat + 3;" in made and "hook output priority -97;" in made
    assert ("client6" in made) is (6 in catchers)
    assert made.splitlines()[-1].endswith("drop")


def test_ports_are_taken_for_a_time_whether_they_are_or_not() -> None:
    assert ruleset.taken("pymirror-3", {9: "me: nine", 8: "me"}).splitlines() == [
        "add element inet pymirror-3 taken { 8, 9 }",
        "delete element inet pymirror-3 taken { 8, 9 }",
        'add element inet pymirror-3 taken { 8 timeout 8s comment "me", 9 timeout 8s comment "me: nine" }',
    ]
    assert ruleset.RENEW * 3 < ruleset.LEASE


@pytest.mark.parametrize(
    ("seen", "lines"),
    [
        ({4: [], 6: []}, ["flush map inet t client4", "flush map inet t client6"]),
        (
            {4: [(0x1A7C, ONE), (0x1001A7C, Place("10.0.0.2", 80))]},
            [
                "flush map inet t client4",
                "add element inet t client4 "
                "{ 0x1a7c timeout 30s : 10.0.0.1 . 5001, 0x1001a7c timeout 30s : 10.0.0.2 . 80 }",
            ],
        ),
    ],
)
def test_clients_of_before_are_forgotten(seen: Any, lines: list[str]) -> None:
    assert ruleset.clients("t", seen).splitlines() == lines


def listing(table: str, *ports: int, name: str = "taken", words: str | None = None) -> dict[str, Any]:
    told = {} if words is None else {"comment": words}
    elements = [{"elem": {"val": port, "timeout": 8, "expires": 7, **told}} for port in ports]
    return {"set": {"family": "inet", "name": name, "table": table, "elem": elements}}


@pytest.mark.parametrize(
    ("listed", "found"),
    [
        ([], {}),
        ([listing("pymirror-2", 80, words="bob")], {80: {2: "bob"}}),
        ([listing("pymirror-2", 80)], {80: {2: ""}}),
        ([listing("pymirror-1", 80)], {}),  # our own
        ([listing("pymirror-2", 80, 81), listing("pymirror-3", 81)], {80: {2: ""}, 81: {2: "", 3: ""}}),
        ([listing("pymirror-2", 80, name="other")], {}),
        ([listing("kube-proxy", 80)], {}),
        ([{"set": {"name": "taken", "table": "pymirror-2", "elem": [80, 81]}}], {}),  # plain, not of ours
        ([{"set": {"name": "taken", "table": "pymirror-2"}}, {"metainfo": {}}], {}),
    ],
)
def test_who_else_holds_which_port(listed: list[dict[str, Any]], found: Any) -> None:
    assert ruleset.holders(listed, 1) == found


def test_the_latest_agent_among_other_tables() -> None:
    listed = [
        {"metainfo": {}},
        listing("pymirror-2", 80),
        listing("mesh", 80),
        listing("pymirror-9", name="x"),
    ]
    assert ruleset.latest([*listed, listing("pymirror-7")]) == 7
    assert ruleset.latest(listed[2:]) == 0


@pytest.mark.parametrize(
    ("place", "version", "local", "address"),
    [
        (ONE, 4, False, ("10.0.0.1", 5001)),
        (Place("fd00::1", 5), 6, False, ("fd00::1", 5, 0, 0)),
        (Place("fe80::1", 5, 3), 6, True, ("fe80::1", 5, 0, 3)),
        (Place("FEBF::1", 5, 3), 6, True, ("FEBF::1", 5, 0, 3)),
        (Place("fec0::1", 5), 6, False, ("fec0::1", 5, 0, 0)),
    ],
)
def test_places(place: Place, version: int, local: bool, address: tuple[Any, ...]) -> None:
    assert (place.version, place.local_link, place.address()) == (version, local, address)


def test_what_the_kernel_tells_of_addresses() -> None:
    four = struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", 8080, bytes([10, 1, 2, 3]))
    assert place4(four) == Place("10.1.2.3", 8080)
    wide = socket.inet_pton(socket.AF_INET6, "fe80::2")
    six = struct.pack("=H", socket.AF_INET6) + struct.pack("!HI16s", 8080, 0, wide) + struct.pack("=I", 7)
    assert place6(six) == Place("fe80::2", 8080, 7)
    assert client_of(("10.1.2.3", 9)) == Place("10.1.2.3", 9)
    assert client_of(("fe80::2%eth0", 9, 0, 7)) == Place("fe80::2", 9, 7)


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (
            "Error: Could not process rule: Operation not permitted\nadd table inet x\n^^^\n",
            errno.EPERM,
            "Could not process rule: Operation not permitted",
        ),
        ("Error: syntax error, unexpected newline\n", errno.EIO, "syntax error, unexpected newline"),
        ("Error: No such file or directory\nlist\n", errno.ENOENT, "No such file or directory"),
        ("", errno.EIO, "no reason given"),
    ],
)
def test_a_refusal_has_the_kernels_words(words: str, code: int, reason: str) -> None:
    error = refusal(words)
    assert (error.errno, error.strerror) == (code, reason)
