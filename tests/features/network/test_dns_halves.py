"""Both halves of `network.dns`: queries and their answers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest

from pymirror.cli.report import kind_of
from pymirror.core.call import Address
from pymirror.features.network.dns.config import Config, Filter
from pymirror.features.network.names import Names
from tests.features.network.dns_there import (
    ORIGIN,
    halves,
    over_tcp,
    udp,
)


async def test_an_answer_and_what_is_learned_of_it(tmp_path: Path) -> None:
    async with halves(tmp_path) as there:
        reply = await there.ask("alias")
        assert [rrset.to_text() for rrset in reply.answer] == [
            f"alias.{ORIGIN}. 30 IN CNAME api.{ORIGIN}.",
            f"api.{ORIGIN}. 30 IN A 10.77.0.1",
        ]
        await there.ask("web", "HTTPS")
        names = there.launch.shared(Names)
        assert names.of("10.77.0.1") == (f"alias.{ORIGIN}", "alias", "alias.demo")
        assert names.of("fd77::7") == (f"web.{ORIGIN}", "web", "web.demo")
        assert names.of("10.244.0.7") == ("demo-pod",)


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("mail", "MX", f"10 api.{ORIGIN}."),
        (f"_http._tcp.api.{ORIGIN}.", "SRV", f"0 5 7080 api.{ORIGIN}."),
        ("odd", "TYPE65400", r"\# 3 010203"),
        ("under_score", "A", "10.77.0.3"),
        ("1.0.77.10.in-addr.arpa.", "PTR", f"api.{ORIGIN}."),
    ],
)
async def test_any_record(tmp_path: Path, name: str, kind: str, words: str) -> None:
    async with halves(tmp_path) as there:
        reply = await there.ask(name, kind)
        assert [item.to_text() for rrset in reply.answer for item in rrset] == [words]


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("nothing", "A", dns.rcode.NXDOMAIN),
        ("v4only", "AAAA", dns.rcode.NOERROR),
        ("broken", "A", dns.rcode.SERVFAIL),
    ],
)
async def test_what_is_not_there(tmp_path: Path, name: str, kind: str, code: int) -> None:
    async with halves(tmp_path) as there:
        reply = await there.ask(name, kind)
        assert reply.rcode() == code and not reply.answer


async def test_answers_are_kept_as_long_as_they_say(tmp_path: Path) -> None:
    async with halves(tmp_path) as there:
        now = [100.0]
        there.both.layer._answers.clock = lambda: now[0]
        for name, kind in (("api", "A"), ("nothing", "A"), ("short-lived", "A")):
            await there.ask(name, kind)
            await there.ask(name, kind)
        asked = there.server.asked
        assert (asked[f"api.{ORIGIN}"], asked[f"nothing.{ORIGIN}"], asked[f"short-lived.{ORIGIN}"]) == (
            1,
            1,
            2,
        )
        now[0] += 4
        assert (await there.ask("API")).answer[0].to_text() == f"API.{ORIGIN}. 26 IN A 10.77.0.1"
        now[0] += 1  # the time of what is not there: SOA minimum, 5 s
        await there.ask("nothing")
        assert (asked[f"api.{ORIGIN}"], asked[f"nothing.{ORIGIN}"]) == (1, 2)
        await there.ask("api", payload=1232)  # with EDNS it is another question
        assert asked[f"api.{ORIGIN}"] == 2


async def test_options_of_edns_pass_through(tmp_path: Path) -> None:
    async with halves(tmp_path) as there:
        option = dns.edns.GenericOption(dns.edns.NSID, b"")
        for count in (1, 2):
            reply = await there.ask("api", payload=1232, options=[option])
            assert [o.to_wire() for o in reply.options] == [b"server"]
            assert there.server.asked[f"api.{ORIGIN}"] == count


async def test_what_does_not_fit_a_datagram_comes_over_tcp(tmp_path: Path) -> None:
    async with halves(tmp_path) as there:
        short = await there.ask("big", "TXT")
        assert short.flags & dns.flags.TC and not short.answer
        whole = await there.ask("big", "TXT", payload=16384)
        assert len(whole.answer[0][0].strings) == 30 and not whole.flags & dns.flags.TC
        query = dns.message.make_query(f"big.{ORIGIN}.", "TXT")
        [reply] = await over_tcp(await there.claim("tcp"), [query.to_wire()])
        assert len(dns.message.from_wire(reply).answer[0][0].strings) == 30


async def test_a_slow_name_delays_nobody(tmp_path: Path) -> None:
    """Over one TCP connection and one UDP socket."""
    queries = [dns.message.make_query(f"{name}.{ORIGIN}.", "A").to_wire() for name in ("slow", "quick")]
    async with halves(tmp_path) as there:
        verdict = await there.claim("tcp")
        assert isinstance(verdict.relay, Address)
        reader, writer = await asyncio.open_connection(verdict.relay.host, verdict.relay.port)
        writer.write(verdict.introduction)
        for query in queries:
            writer.write(len(query).to_bytes(2, "big") + query)
        for query in reversed(queries):
            size = int.from_bytes(await reader.readexactly(2), "big")
            assert (await reader.readexactly(size))[:2] == query[:2]
            there.server.released.set()
        writer.close()
        there.server.released.clear()
        there.both.layer._answers.cache.clear()
        async with udp(await there.claim()) as sock:
            loop = asyncio.get_running_loop()
            for query in queries:
                sock.send(query)
            assert (await loop.sock_recv(sock, 512))[:2] == queries[1][:2]
            there.server.released.set()
            assert (await loop.sock_recv(sock, 512))[:2] == queries[0][:2]


async def test_equal_queries_under_way_are_one(tmp_path: Path) -> None:
    async with halves(tmp_path) as there:
        tasks = [asyncio.ensure_future(there.ask("slow")) for _ in range(20)]
        await there.server.waiting.wait()
        there.server.released.set()
        replies = await asyncio.gather(*tasks)
        assert there.server.asked[f"slow.{ORIGIN}"] == 1
        assert {reply.answer[0][0].to_text() for reply in replies} == {"10.77.0.5"}


async def test_more_than_may_wait_fail_at_once_and_that_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with halves(tmp_path) as there:
        answers = there.both.layer._answers
        answers.most_waiting = 1
        first = asyncio.ensure_future(there.ask("slow"))
        await there.server.waiting.wait()
        for name in ("api", "v4only", "slow"):  # also what is on its way already
            assert (await there.ask(name)).rcode() == dns.rcode.SERVFAIL
        assert caplog.text.count("names wait for an answer") == 1
        there.server.released.set()
        assert (await first).answer
        assert (await there.ask("api")).answer


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        (Filter(local=["api"]), {"api": "192.168.0.1", "v4only": "10.77.0.2"}),
        (Filter(remote=["v4only", "quick"]), {"api": "192.168.0.1", "v4only": "10.77.0.2"}),
    ],
    ids=str,
)
async def test_the_filter(tmp_path: Path, filter: Filter, expected: dict[str, str]) -> None:
    async with halves(tmp_path, Config(filter=filter)) as there:
        traced: list[Any] = []
        there.launch.trace = lambda call, verdict: traced.append((call.path, kind_of(verdict)))
        for name, address in expected.items():
            assert (await there.ask(name)).answer[0][0].to_text() == address
        assert {side for path, side in traced if path.startswith(b"api")} == {"this machine"}
        assert {side for path, side in traced if path.startswith(b"v4only")} == {"target"}
        assert list(there.here.asked) == [f"api.{ORIGIN}"]
