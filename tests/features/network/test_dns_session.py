"""Both halves of `network.dns`: files, servers, who may ask, what is refused, and how it ends."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest
from verdicts import verdict_of

from pymirror.core.call import Address, Call, Errno, Untouched
from pymirror.core.feature import Launch
from pymirror.core.testing import FakeTarget, conformance, pair
from pymirror.features.network.dns import agent as agent_module
from pymirror.features.network.dns import header, relay
from pymirror.features.network.dns import layer as layer_module
from pymirror.features.network.dns import messages as m
from pymirror.features.network.dns.agent import Agent
from pymirror.features.network.dns.config import Config, Filter
from pymirror.features.network.dns.layer import Layer
from pymirror.features.network.dns.snapshot import Snapshot
from pymirror.features.network.names import Lookup, OutgoingFilter
from tests.features.network.dns_there import (
    HOSTS,
    ORIGIN,
    RESOLV,
    Server,
    halves,
    over_tcp,
    shown,
    udp,
)


async def test_names_of_the_outgoing_filter_join_in_whatever_order(tmp_path: Path) -> None:
    async with halves(tmp_path) as there:
        there.launch.shared(OutgoingFilter).tell(["api"], True)
        assert (await there.ask("api")).answer[0][0].to_text() == "192.168.0.1"
        assert (await there.ask("v4only")).answer[0][0].to_text() == "10.77.0.2"
    heard: list[Any] = []
    early = OutgoingFilter()
    early.tell(["x"], False)
    early.listen(lambda *told: heard.append(told))
    assert heard == [(["x"], False)]


async def test_a_filter_of_the_other_side_stays_with_a_word(tmp_path: Path) -> None:
    async with halves(tmp_path, Config(filter=Filter(remote=["api"]))) as there:
        there.launch.shared(OutgoingFilter).tell(["api"], True)
        assert (await there.ask("api")).answer[0][0].to_text() == "10.77.0.1"
        assert "the outgoing filter names the other side's" in there.launch.notes[-1]


async def test_a_name_of_a_filter_is_looked_up_as_the_program_would(tmp_path: Path) -> None:
    async with halves(tmp_path) as there:
        look_up = there.launch.shared(Lookup).ask
        assert look_up is not None
        assert await look_up("api") == {"10.77.0.1", "fd77::1"}
        assert await look_up("demo-pod") == {"10.244.0.7"}
        assert await look_up("nothing") == await look_up("broken") == frozenset()
        there.launch.shared(OutgoingFilter).tell(["api"], True)
        assert await look_up("api") == {"192.168.0.1", "fd77::1"}
    assert await look_up("api") == frozenset()


@pytest.mark.parametrize(
    ("entries", "here", "told"), [(["db"], False, True), (["db"], True, False), (["10.0.0.1"], False, False)]
)
async def test_names_that_go_to_the_target_but_are_resolved_here_get_a_word(
    tmp_path: Path, entries: list[str], here: bool, told: bool
) -> None:
    with FakeTarget(tmp_path) as target:
        async with pair(Layer, Agent, Config(enabled=False), target) as both:
            launch = Launch(["true"], {}, str(tmp_path))
            await both.layer.prepare(launch)
            launch.shared(OutgoingFilter).tell(entries, here)
            assert launch.shared(Lookup).ask is None
            assert ("outgoing.filter.remote mean what this machine" in launch.notes[-1]) is told


@pytest.mark.parametrize("on", [True, False])
@pytest.mark.parametrize("host", ["127.0.0.9", "8.8.8.8", "fd00::1"])
@pytest.mark.parametrize("port", [53, 54])
@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_explain_tells_what_the_session_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on: bool, host: str, port: int, transport: str
) -> None:
    (tmp_path / "here").write_text("nameserver 127.0.0.9\n")
    monkeypatch.setattr(
        layer_module, "_this_machine", lambda: Snapshot(lambda _: os.open(tmp_path / "here", os.O_RDONLY))
    )
    config = Config(enabled=on)
    with FakeTarget(tmp_path) as target:
        async with pair(Layer, Agent, config, target) as both:
            await both.layer.prepare(Launch(["true"], {}, str(tmp_path)))
            call = Call("connect", transport=transport, address=Address(host, port))
            done, told = await verdict_of(both.layer.socket, call), Layer.explain(config, call)
    assert type(done) is type(told)
    assert done is None or told is None or done.reason == told.reason
    assert (told is None) is (port != 53 or not (on or host == "127.0.0.9"))


async def test_the_files_of_resolvers(tmp_path: Path) -> None:
    async with halves(tmp_path) as there:
        assert shown(there, m.RESOLV) == RESOLV and shown(there, m.HOSTS) == HOSTS
        assert shown(there, m.NSSWITCH).splitlines()[-1] == "hosts: files dns"
        with pytest.raises(FileNotFoundError):
            shown(there, m.HOST_CONF)
        layer = there.both.layer
        assert layer.path(Call("open", m.HOSTS, write=True)) is None
        assert layer.path(Call("stat", b"/etc/passwd")) is None
        known = {call: verdict for call, verdict in there.launch.known}
        assert known[Call("stat", m.HOSTS, follow=False)] == layer.path(Call("stat", m.HOSTS, follow=False))


async def test_changes_of_the_files_arrive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_module, "LOOK_EVERY", 0.01)
    async with halves(tmp_path) as there:
        await there.ask("api")
        arrived, take = asyncio.Event(), there.both.layer._show

        def show(files: Any) -> None:
            take(files)
            arrived.set()

        there.both.layer._show = show  # type: ignore[method-assign]
        (there.root / "etc/host.conf").write_text("multi on\n")
        await arrived.wait()
        assert shown(there, m.HOST_CONF) == "multi on\n"
        arrived.clear()
        (there.root / "etc/new").write_text(RESOLV.replace("127.0.0.1", "127.0.0.2").replace(ORIGIN, "other"))
        os.rename(there.root / "etc/new", there.root / "etc/resolv.conf")
        await arrived.wait()
        assert "127.0.0.2" in shown(there, m.RESOLV) and len(there.both.layer._answers.cache) == 0
        assert there.both.layer._answers.rules.search == ("other", "svc.cluster.local")
        arrived.clear()
        os.unlink(there.root / "etc/host.conf")
        await arrived.wait()
        with pytest.raises(FileNotFoundError):
            shown(there, m.HOST_CONF)


async def test_links_end_in_the_targets_root(tmp_path: Path) -> None:
    async with halves(tmp_path) as there:
        os.unlink(there.root / "etc/hosts")
        (there.root / "run").mkdir()
        (there.root / "run/hosts").write_text("10.1.1.1 x\n")
        os.symlink("/../../run/hosts", there.root / "etc/hosts")
        files = await there.both.layer.peer.request(m.AskFiles())
        assert m.File(m.HOSTS, True, b"10.1.1.1 x\n") in files.files


@pytest.mark.parametrize(
    "path", [b"/run/nscd/socket", b"/var/run/nscd/socket", b"/run/systemd/resolve/io.systemd.Resolve"]
)
async def test_short_cuts_are_not_there(tmp_path: Path, path: bytes) -> None:
    async with halves(tmp_path) as there:
        verdict = await verdict_of(there.both.layer.socket, Call("connect", path, transport="unix"))
        assert isinstance(verdict, Errno) and verdict.code == errno.ENOENT
        assert (
            await verdict_of(there.both.layer.socket, Call("connect", b"/run/other", transport="unix"))
            is None
        )
        assert (
            await verdict_of(
                there.both.layer.socket, Call("connect", address=Address("127.0.0.1", 5353), transport="udp")
            )
            is None
        )


async def test_turned_off_this_machines_servers_are_spoken_to_from_here(tmp_path: Path) -> None:
    async with pair(Layer, Agent, Config(enabled=False)) as both:
        launch = Launch(["true"], {}, str(tmp_path))
        await both.layer.prepare(launch)
        assert launch.notes == ["names: resolved on this machine"] and both.link.round_trips == 1
        (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.53\n")
        both.layer._own._open = lambda path: os.open(tmp_path / "resolv.conf", os.O_RDONLY)
        verdicts = [
            await verdict_of(both.layer.socket, Call("connect", address=Address(host, 53), transport="udp"))
            for host in ("192.0.2.53", "192.0.2.1")
        ]
        assert isinstance(verdicts[0], Untouched) and verdicts[1] is None
        assert isinstance(both.layer.path(Call("stat", m.HOSTS)), Untouched)


async def test_a_server_that_is_not_the_targets_is_asked_itself(tmp_path: Path) -> None:
    async with halves(tmp_path) as there:
        other = Server()
        other.extra[(f"api.{ORIGIN}", "A")] = "10.9.9.9"
        await other.listen("127.0.0.9", there.both.agent.upstream.port)
        # Not by the layer half, for which all of loopback means the target's own servers.
        query = dns.message.make_query(f"api.{ORIGIN}.", "A").to_wire()
        reply = await there.both.layer.peer.request(m.Query(query, "127.0.0.9"))
        assert dns.message.from_wire(bytes(reply.wire)).answer[0][0].to_text() == "10.9.9.9"
        asked: list[tuple[str, bool]] = []

        async def answer(query: bytes, server: str, tcp: bool) -> bytes:
            asked.append((server, tcp))
            return header.failure(query, header.NXDOMAIN)

        there.both.layer._relays._answer = answer
        for host in ("127.0.0.1", "127.0.0.53", "192.0.2.1", "2001:db8::1"):
            await there.send(query, host)
        assert asked == [("", False), ("", False), ("192.0.2.1", False), ("2001:db8::1", False)]
        await other.close()


async def test_each_server_has_a_relay_until_they_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "MOST_SERVERS", 2)
    async with halves(tmp_path) as there:
        places = [(await there.claim(host=host)).relay for host in ("192.0.2.1", "192.0.2.2", "192.0.2.1")]
        assert places[0] == places[2] != places[1]
        assert (
            await verdict_of(
                there.both.layer.socket, Call("sendto", address=Address("192.0.2.3", 53), transport="udp")
            )
            is None
        )


async def test_who_does_not_know_the_words_gets_nothing(tmp_path: Path) -> None:
    query = dns.message.make_query(f"api.{ORIGIN}.", "A").to_wire()
    async with halves(tmp_path) as there:
        verdict = await there.claim()
        async with udp(verdict, b"x" * 16) as stranger, udp(verdict) as own:
            stranger.send(query)
            own.send(query)
            await asyncio.get_running_loop().sock_recv(own, 512)
            with pytest.raises(BlockingIOError):
                stranger.recv(512)
        assert await over_tcp(await there.claim("tcp"), [query], words=b"x" * 16) == []
        assert there.server.asked[f"api.{ORIGIN}"] == 1


async def test_silent_strangers_keep_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "MOST_STRANGERS", 2)
    query = dns.message.make_query(f"api.{ORIGIN}.", "A").to_wire()
    async with halves(tmp_path) as there:
        verdict = await there.claim("tcp")
        silent = [await asyncio.open_connection(verdict.relay.host, verdict.relay.port) for _ in range(3)]
        assert await silent[0][0].read() == b""  # the oldest's end
        [reply] = await over_tcp(verdict, [query])
        assert dns.message.from_wire(reply).answer
        for _, writer in silent:
            writer.close()


@pytest.mark.parametrize("kind", ["AXFR", "IXFR"])
async def test_zone_transfers_are_refused(tmp_path: Path, kind: str) -> None:
    async with halves(tmp_path) as there:
        query = dns.message.make_query(ORIGIN, "A")
        wire = query.to_wire()[:-4] + (251 if kind == "IXFR" else 252).to_bytes(2, "big") + b"\0\1"
        assert (await there.send(wire)).rcode() == dns.rcode.NOTIMP


async def test_garbage_is_a_format_error_or_silence(tmp_path: Path) -> None:
    async with halves(tmp_path) as there:
        assert (await there.send(b"\1\2\1\0\0\1\0\0\0\0\0\0\xff")).rcode() == dns.rcode.FORMERR
        async with udp(await there.claim()) as sock:
            sock.send(b"short")
            sock.send(dns.message.make_response(dns.message.make_query("x", "A")).to_wire())
            sock.send(dns.message.make_query(f"api.{ORIGIN}.", "A").to_wire())
            reply = dns.message.from_wire(await asyncio.get_running_loop().sock_recv(sock, 512))
            assert reply.answer


@pytest.mark.parametrize(
    ("wire", "server"), [(b"", ""), (b"x" * 40, ""), (None, "not-numeric"), (None, "1.2.3.4:53")]
)
async def test_the_agent_refuses_what_is_no_query(tmp_path: Path, wire: bytes | None, server: str) -> None:
    async with halves(tmp_path) as there:
        query = dns.message.make_query("x.", "A").to_wire() if wire is None else wire
        with pytest.raises(OSError) as caught:
            await there.both.layer.peer.request(m.Query(query, server))
        assert caught.value.errno == errno.EINVAL


async def test_the_next_server_is_asked_when_one_is_dead(tmp_path: Path) -> None:
    resolv = "nameserver 127.0.0.3\nnameserver 127.0.0.1\noptions attempts:1 timeout:30\n"
    async with halves(tmp_path, resolv=resolv) as there:
        assert (await there.ask("api")).answer  # nothing listens there: refused, not waited for


@pytest.mark.parametrize(
    ("name", "resolv", "code"),
    [("api", "nameserver 127.0.0.3\n", "ECONNREFUSED"), ("dead", "nameserver 127.0.0.1\n", "ETIMEDOUT")],
)
async def test_no_answer_has_an_errno_and_is_servfail(
    tmp_path: Path, name: str, resolv: str, code: str
) -> None:
    async with halves(tmp_path, Config(timeout=0.05, attempts=2), resolv=resolv) as there:
        query = dns.message.make_query(f"{name}.{ORIGIN}.", "A").to_wire()
        with pytest.raises(OSError) as caught:
            await there.both.layer.peer.request(m.Query(query))
        assert errno.errorcode[caught.value.errno or 0] == code
        assert (await there.ask(name)).rcode() == dns.rcode.SERVFAIL
        if name == "dead":
            assert there.server.asked[f"dead.{ORIGIN}"] == 4


async def test_a_truncated_answer_stays_so_where_tcp_is_closed(tmp_path: Path) -> None:
    async with halves(tmp_path) as there:
        server = Server()
        there.both.agent.upstream.port = await server.listen("127.0.0.1", tcp=False)
        assert (await there.ask("big", "TXT")).flags & dns.flags.TC
        await server.close()


async def test_a_network_that_may_not_be_entered_is_said_at_the_start(tmp_path: Path) -> None:
    class Closed(FakeTarget):
        async def in_network(self, work: Any) -> Any:
            raise PermissionError(errno.EPERM, "the agent lacks SYS_ADMIN")

    with Closed(tmp_path) as target:
        with pytest.raises(PermissionError, match="the agent lacks SYS_ADMIN"):
            async with pair(Layer, Agent, Config(), target):
                pass
        async with pair(Layer, Agent, Config(enabled=False), target):
            pass  # turned off, it needs none


def test_the_agents_half_does_without_dnspython() -> None:
    """Its import would cost 5 MiB of the agent's 40."""
    script = "import sys, pymirror.features.network.dns.agent; sys.exit('dns' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


async def test_they_behave_as_halves_must() -> None:
    await conformance(Layer, Agent)
