"""Ports of a target that are taken, with real sockets: who gets what, who is seen, and what is left."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from pymirror.agent.network import Network
from pymirror.agent.nft import Nft, NftError
from pymirror.core.errors import ChannelLost, PeerError
from pymirror.features.network.incoming.ruleset import Place
from pymirror.features.network.incoming.sharing import Claim
from pymirror.features.network.incoming.steal import OnConnection, Steal
from pymirror.features.network.incoming.table import Table
from tests.sandbox.steal_network import CLIENT, PORT, TARGET, Both, Line, Side, behind, cabled

pytestmark = pytest.mark.sandbox
LOOPBACK = {4: "127.0.0.1", 6: "::1"}
LOG = logging.getLogger("test")


@pytest.fixture
async def both() -> AsyncIterator[Both]:
    async with cabled() as made:
        yield made


async def heard() -> bool:
    return True


@asynccontextmanager
async def stealing(
    both: Both, session: str = "one", peer: Any = None, is_heard: Any = heard
) -> AsyncIterator[Steal]:
    steal = Steal(both.target, peer, f"{session} of test@here", LOG, is_heard)
    await steal.start()
    try:
        yield steal
    finally:
        await steal.aclose()


def program(sock: socket.socket, client: Place, address: Place, port: int) -> None:
    """Stands for it: says who came and where to, and closes."""
    sock.sendall(f"program {client.host} {client.port} {address.host} {address.port} {port}\n".encode())
    sock.close()


async def first(line: Line) -> str:
    said = await line.says()
    line.close()
    return said


ways = pytest.mark.parametrize("version", [4, 6])


@ways
async def test_another_pods_connection_is_taken_and_released(both: Both, version: int) -> None:
    host = TARGET[version]
    async with stealing(both) as steal:
        line = await both.client.connect(host)
        assert await line.says() == f"app {line.own}"
        await steal.take(PORT, program)
        taken = await both.client.connect(host)
        assert await first(taken) == f"program {taken.own} {host} {PORT} {PORT}"
        assert await line.asks("still") == "still"
        await steal.release(PORT)
        again = await both.client.connect(host)
        assert await first(again) == f"app {again.own}"
        assert await line.asks("here") == "here"
    assert await both.target.rules() == ""
    line.close()


@ways
@pytest.mark.parametrize("own", [False, True], ids=["loopback", "own address"])
async def test_from_inside_the_pod_and_from_a_proxy_in_it(both: Both, version: int, own: bool) -> None:
    host = TARGET[version] if own else LOOPBACK[version]
    async with stealing(both) as steal:
        await steal.take(PORT, program)
        line = await both.target.connect(host)
        assert await first(line) == f"program {line.own} {host} {PORT} {PORT}"


@ways
@pytest.mark.parametrize("place", ["pod", "loopback", "own address"])
async def test_what_is_passed_on_comes_from_its_client(both: Both, version: int, place: str) -> None:
    loopback = LOOPBACK[version]
    host = loopback if place == "loopback" else TARGET[version]
    side = both.client if place == "pod" else both.target
    async with stealing(both) as steal:
        await steal.take(PORT, lambda sock, client, address, port: steal.pass_on(sock, client, address))
        lines = await asyncio.gather(*(side.connect(host) for _ in range(40)))
        assert [await line.says() for line in lines] == [f"app {line.own}" for line in lines]
        assert await lines[0].asks("x" * 50_000) == "x" * 50_000
        lines[0].writer.write_eof()
        assert await lines[0].says() == ""
        for line in lines:
            line.close()


def passes_on(steal: Steal) -> OnConnection:
    return lambda sock, client, address, port: steal.pass_on(sock, client, address)


@ways
async def test_through_a_service_the_client_and_the_pods_address_are_seen(both: Both, version: int) -> None:
    """Its address becomes the pod's outside the pod."""
    family, service = {4: ("ip", "10.9.0.100"), 6: ("ip6", "fd09::100")}[version]
    to = f"{TARGET[version]}:{PORT}" if version == 4 else f"[{TARGET[version]}]:{PORT}"
    await both.client.nft(
        f"add table {family} proxy",
        f"add chain {family} proxy out {{ type nat hook output priority -100; }}",
        f"add rule {family} proxy out {family} daddr {service} tcp dport 80 dnat to {to}",
    )
    async with stealing(both) as steal:
        await steal.take(PORT, program)
        line = await both.client.connect(service, 80)
        assert await first(line) == f"program {line.own} {TARGET[version]} {PORT} {PORT}"
        await steal.take(PORT, passes_on(steal))
        line = await both.client.connect(service, 80)
        assert await first(line) == f"app {line.own}"


@pytest.mark.parametrize("host", ["127.0.0.1", TARGET[4]])
async def test_of_a_mesh_the_hop_behind_its_proxy_is_taken(both: Both, host: str) -> None:
    """The mesh's own redirection stays its own: what comes from the network may be encrypted."""

    async def proxied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward = await both.target.connect(host)
        writer.write(b"proxy " + await onward.reader.readline())
        writer.close()
        onward.close()

    proxy = await asyncio.start_server(proxied, sock=await both.target.listen("0.0.0.0", 15006))
    async with stealing(both) as steal, proxy:
        await steal.take(PORT, program)
        await both.target.nft(
            "add table ip mesh",
            "add chain ip mesh pre { type nat hook prerouting priority -100; }",
            "add rule ip mesh pre tcp dport != 15006 redirect to :15006",
            "add chain ip mesh out { type nat hook output priority -100; }",
            'add rule ip mesh out oifname "lo" return',
        )
        assert (await first(await both.client.connect(TARGET[4]))).startswith("proxy program ")
        await steal.take(PORT, passes_on(steal))
        assert (await first(await both.client.connect(TARGET[4]))).startswith("proxy app ")


@ways
async def test_the_agents_own_port_serves_nobody(both: Both, version: int) -> None:
    async with stealing(both) as steal:
        await steal.take(PORT, program)
        assert steal._catcher is not None
        own = steal._catcher._listeners.ports()[version]
        for side, host in ((both.client, TARGET[version]), (both.target, LOOPBACK[version])):
            with suppress(ConnectionResetError):
                assert await first(await side.connect(host, own)) == ""


@ways
async def test_a_client_uses_its_port_again_while_the_application_waits_for_late_packets(
    both: Both, version: int
) -> None:
    async with stealing(both) as steal:
        await steal.take(PORT, passes_on(steal))
        for _ in range(12):
            line = await both.client.connect(TARGET[version], source=44444)
            assert await line.says() == f"app {line.own}" and line.own.endswith(" 44444")
            assert await line.asks("bye") == ""
            line.close()
            await asyncio.sleep(0)


@ways
async def test_a_client_whose_port_is_another_connections_still_reaches_the_application(
    both: Both, version: int, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a client that vanished, or where several clients come as one."""
    async with stealing(both) as steal:
        client, address = Place(CLIENT[version], 5555), Place(TARGET[version], PORT)
        made = [await connected(steal, client, address) for _ in range(3)]
        lines = [Line(*await asyncio.open_connection(sock=sock)) for sock in made]
        seen = [(await first(line)).split()[1] for line in lines]
        assert seen == [CLIENT[version], TARGET[version], TARGET[version]]
    assert len([record for record in caplog.records if "by the pod's own address" in record.message]) == 1


@ways
@pytest.mark.parametrize("lost", [False, True], ids=["refused", "lost"])
async def test_without_its_clients_name_nothing_comes_from_loopback(
    both: Both, version: int, lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clients(table: Table, seen: Any) -> None:
        if not lost:
            raise NftError(errno.EIO, "no")

    monkeypatch.setattr(Table, "clients", clients)
    async with stealing(both) as steal:
        await steal.take(PORT, passes_on(steal))
        assert (await first(await both.client.connect(TARGET[version]))).split()[1] == TARGET[version]


@ways
async def test_without_its_clients_name_the_next_session_gets_it_all_the_same(
    both: Both, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clients(table: Table, seen: Any) -> None:
        raise NftError(errno.EIO, "no")

    monkeypatch.setattr(Table, "clients", clients)
    async with stealing(both, "one") as one, stealing(both, "two") as two:
        await one.take(PORT, passes_on(one), claim=Claim("path_filter", "1" * 16))
        await two.take(PORT, program, claim=Claim("path_filter", "2" * 16))
        said = (await first(await both.client.connect(TARGET[version]))).split()
        assert said[:2] == ["program", TARGET[version]] and said[3:] == [TARGET[version], "8080", "8080"]
        await two.take(PORT, passes_on(two), claim=Claim("path_filter", "2" * 16))
        assert (await first(await both.client.connect(TARGET[version]))).split()[1] == TARGET[version]


async def test_a_network_that_is_known_needs_no_more_transactions(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stealing(both) as steal:
        await steal.take(PORT, passes_on(steal))
        assert (await first(await both.client.connect(TARGET[4]))).startswith("app ")
        asked: list[str] = []
        run = Nft.run
        monkeypatch.setattr(Nft, "run", lambda nft, commands: (asked.append(commands), run(nft, commands)))
        for _ in range(50):
            line = await both.client.connect(TARGET[4])
            assert await first(line) == f"app {line.own}"
        assert not [commands for commands in asked if "taken" not in commands]  # what keeps the port


async def connected(steal: Steal, client: Place, address: Place) -> socket.socket:
    done: asyncio.Future[socket.socket | None] = asyncio.get_running_loop().create_future()
    steal.passing.connect(client, address, lambda sock, code: done.set_result(sock))
    sock = await done
    assert sock is not None
    return sock


async def test_two_agents_pass_on_as_the_clients_side_by_side(both: Both) -> None:
    await both.serve("0.0.0.0", 9090)
    async with stealing(both, "one") as one, stealing(both, "two") as two:
        await one.take(PORT, passes_on(one))
        await two.take(9090, passes_on(two))
        with pytest.raises(OSError, match="one of test@here has it whole"):
            await two.take(PORT, program)
        lines = await asyncio.gather(
            *(both.client.connect(TARGET[4], (PORT, 9090)[n % 2]) for n in range(60))
        )
        assert [await line.says() for line in lines] == [f"app {line.own}" for line in lines]
        await one.aclose()
        for line in lines[1::2]:
            assert await line.asks("here") == "here"
        assert await lines[0].says() == "" if lines[0].reader.at_eof() else True
        for line in lines:
            line.close()


async def test_two_that_take_a_port_at_once_do_not_both_have_it(both: Both) -> None:
    async with stealing(both, "one") as one, stealing(both, "two") as two:
        for _ in range(20):
            took = await asyncio.gather(
                *(each.take(PORT, program) for each in (one, two)), return_exceptions=True
            )
            assert [result is None for result in took].count(True) <= 1
            assert (await both.target.rules()).count("timeout 8s") <= 1
            await one.release(PORT)
            await two.release(PORT)


@ways
async def test_an_application_that_is_not_there_is_a_reset(both: Both, version: int) -> None:
    async with stealing(both) as steal:
        await steal.take(7070, passes_on(steal))
        with pytest.raises(ConnectionResetError):
            line = await both.client.connect(TARGET[version], 7070)
            assert await line.says() == "nothing"


class NoStreams:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def stream_now(self, message: Any, alone: bool = True) -> Any:
        raise self.error


async def test_more_than_a_session_carries_is_a_reset_and_told_once(
    both: Both, caplog: pytest.LogCaptureFixture
) -> None:
    async with stealing(both, peer=NoStreams(PeerError("more than 8192 streams are open"))) as steal:
        await steal.take(PORT)
        for _ in range(2):
            with pytest.raises(ConnectionResetError):
                line = await both.client.connect(TARGET[4])
                assert await line.says() == "nothing"
    assert caplog.messages == [f"connections of port {PORT} are reset: more than 8192 streams are open"]


async def test_without_a_layer_the_application_has_its_port(both: Both) -> None:
    async with stealing(both, peer=NoStreams(ChannelLost("gone"))) as steal:
        await steal.take(PORT)
        line = await both.client.connect(TARGET[4])
        assert await line.says() == f"app {line.own}"


async def test_what_the_pod_forwards_is_not_taken(both: Both) -> None:
    """As to a container in it, which has its own network."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"inner\n")
        writer.close()

    async with behind(both) as (inner, host):
        server = await asyncio.start_server(answer, sock=await inner.listen(host))
        async with stealing(both) as steal:
            await steal.take(PORT, program)
            assert await first(await both.client.connect(host)) == "inner"
            assert (await first(await both.client.connect(TARGET[4]))).startswith("program ")
        server.close()


async def test_only_connections_of_that_port_are_flushed_and_only_if_asked(both: Both) -> None:
    await both.serve("::", 9090)
    async with stealing(both) as steal:
        lines = [await both.client.connect(host) for host in TARGET.values()]
        others = await both.client.connect(TARGET[6], 9090)
        for line in (*lines, others):
            assert (await line.says()).startswith("app")
        await steal.take(PORT, program)
        assert [await line.asks("on") for line in lines] == ["on", "on"]
        await steal.take(PORT, program, flushed=True)
        for line in lines:
            with pytest.raises(ConnectionResetError):
                await line.says()
        assert await others.asks("on") == "on"
        others.close()


async def test_what_is_too_much_waits(both: Both) -> None:
    async with stealing(both) as steal:
        steal._most = 2
        await steal.take(PORT, passes_on(steal))
        lines = [await both.client.connect(TARGET[4]) for _ in range(3)]
        assert [await line.says() for line in lines[:2]] == [f"app {line.own}" for line in lines[:2]]
        third = asyncio.ensure_future(lines[2].says())
        assert await lines[0].asks("meanwhile") == "meanwhile" and not third.done()
        lines[0].close()
        assert await third == f"app {lines[2].own}"
        for line in lines[1:]:
            line.close()


async def test_without_the_right_it_says_which(both: Both) -> None:
    network = Network(both.target.pid)
    without = Both(Side(both.target.pid, network), both.client)
    with pytest.raises(PermissionError, match="the agent lacks NET_ADMIN"):
        async with stealing(without):
            raise AssertionError
    network.close()


async def test_a_port_is_not_kept_where_no_layer_is_heard(both: Both) -> None:
    """It goes by itself, and is there again when somebody is."""
    there = True

    async def is_heard() -> bool:
        return there

    async with stealing(both, is_heard=is_heard) as steal:
        await steal.take(PORT, program)
        for there in (True, False, True):
            for _ in range(60):
                line = await both.client.connect(TARGET[4])
                said = (await line.says()).split()[0]
                line.close()
                if said == ("program" if there else "app"):
                    break
                await asyncio.sleep(0.25)
            else:
                pytest.fail(f"heard: {there}, and it is the other's")
