"""What the packet filter is asked for, and what listings tell of other sessions."""

from __future__ import annotations

import errno
import socket
import struct
from typing import Any

import pytest

from pymirror.agent.nft import refusal
from pymirror.features.network.incoming import ruleset
from pymirror.features.network.incoming.catcher import client_of, place4, place6
from pymirror.features.network.incoming.ruleset import Place

ONE = Place("10.0.0.1", 5001)


@pytest.mark.parametrize(
    ("session", "name"),
    [("a1b2", "pymirror-a1b2"), ('A "x" };', "pymirror-ax"), ("z" * 90, "pymirror-" + "z" * 40)],
)
def test_a_tables_name_is_a_word(session: str, name: str) -> None:
    assert ruleset.table_of(session) == name


@pytest.mark.parametrize(
    ("words", "comment"),
    [
        ("ada@laptop: api", "ada@laptop: api"),
        ("another session (1f)", "another session (1f)"),
        ('"; flush ruleset; #', "?? flush ruleset? ?"),
        ("line\nbreak ö", "line?break ?"),
        ("x" * 200, "x" * 100),
    ],
)
def test_words_in_a_comment_end_no_command(words: str, comment: str) -> None:
    assert ruleset.comment(words) == comment


def test_marks_are_a_sessions_own_and_no_meshs() -> None:
    names = [f"pymirror-{n}" for n in range(50)]
    for name in names:
        mark = ruleset.mark_of(name)
        assert mark & ~ruleset.MASK == 0 and mark & 0xFFF not in (0x539, 0x111, 0)
        numbered = [ruleset.numbered(mark, n) for n in (*range(ruleset.AT_ONCE), ruleset.NOBODY)]
        assert len(set(numbered)) == 256 and {each & ruleset.MASK for each in numbered} == {mark}
        assert max(numbered) < 1 << 32


def test_a_name_whose_mark_another_has_is_changed() -> None:
    free = ruleset.unlike("pymirror-a", ["pymirror-b"])
    assert free == "pymirror-a"
    changed = ruleset.unlike("pymirror-a", ["pymirror-a", "pymirror-ax"])
    assert changed.startswith("pymirror-axx")
    assert ruleset.mark_of(changed) not in (ruleset.mark_of("pymirror-a"), ruleset.mark_of("pymirror-ax"))


@pytest.mark.parametrize("catchers", [{4: 1500}, {4: 1500, 6: 1600}])
def test_the_table_redirects_each_ip_version_that_is_there(catchers: dict[int, int]) -> None:
    made = ruleset.made("pymirror-a", "me", catchers)
    assert made.splitlines()[0] == 'add table inet pymirror-a { flags owner; comment "me"; }'
    assert made.count("redirect to :1500") == 2
    assert made.count("redirect to :1600") == (2 if 6 in catchers else 0)
    assert ("client6" in made) is (6 in catchers)
    assert made.splitlines()[-1].endswith("drop")


def test_ports_are_taken_for_a_time_whether_they_are_or_not() -> None:
    assert ruleset.taken("pymirror-a", "me", {9, 8}).splitlines() == [
        "add element inet pymirror-a taken { 8, 9 }",
        "delete element inet pymirror-a taken { 8, 9 }",
        'add element inet pymirror-a taken { 8 timeout 8s comment "me", 9 timeout 8s comment "me" }',
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
        ([listing("pymirror-b", 80, words="bob")], {"pymirror-b": "bob"}),
        ([listing("pymirror-b", 80)], {"pymirror-b": "pymirror-b"}),
        ([listing("pymirror-a", 80)], {}),  # our own
        ([listing("pymirror-b", 81)], {}),
        ([listing("pymirror-b", 80, name="other")], {}),
        ([listing("kube-proxy", 80)], {}),
        ([{"set": {"name": "taken", "table": "pymirror-b", "elem": [80, 81]}}], {}),  # plain, not of ours
        ([{"set": {"name": "taken", "table": "pymirror-b"}}, {"metainfo": {}}], {}),
    ],
)
def test_who_else_holds_a_port(listed: list[dict[str, Any]], found: dict[str, str]) -> None:
    assert ruleset.holders(listed, 80, "pymirror-a") == found


def test_the_tables_of_sessions_among_others() -> None:
    listed = [
        {"metainfo": {}},
        listing("pymirror-a", 80),
        listing("mesh", 80),
        listing("pymirror-b", name="x"),
    ]
    assert ruleset.sessions([*listed, listing("pymirror-c")]) == ["pymirror-a", "pymirror-c"]


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
