"""Several developers' sessions on one port of a target, each with an agent and a filter of its own.

Nothing but the target's kernel is between the agents: so it is with layers on different machines.
"""

from __future__ import annotations

import asyncio
import errno
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from pymirror.core.handshake import NAME, Goodbye
from pymirror.core.limit import timeout
from pymirror.features.network.incoming import messages as m
from pymirror.features.network.incoming.sharing import MOST
from tests.helpers.http2_peer import Peer
from tests.sandbox.steal_agent import Session
from tests.sandbox.steal_network import CLIENT, PORT, TARGET, WITHIN, Both, cabled
from tests.sandbox.steal_web import WEB, application, ask, asked, developer, serve, serve_h2

pytestmark = pytest.mark.sandbox
LOOPBACK = {4: "127.0.0.1", 6: "::1"}
ways = pytest.mark.parametrize("version", [4, 6])


@pytest.fixture
async def both() -> AsyncIterator[Both]:
    async with cabled() as made:
        await application(made, WEB, serve)
        yield made


async def news(of: Session) -> list[str]:
    """Returns when there are any."""
    async with timeout(WITHIN):
        while not of.layer.news:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return of.layer.news


async def members(both: Both, count: int) -> None:
    """Returns when so many hold the port."""
    async with timeout(WITHIN):
        while (await both.target.rules()).count(f"{WEB} timeout 8s") != count:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


@ways
@pytest.mark.parametrize("place", ["pod", "loopback", "own address"])
async def test_each_gets_what_it_asked_for_and_sees_the_client(both: Both, version: int, place: str) -> None:
    host = LOOPBACK[version] if place == "loopback" else TARGET[version]
    side = both.client if place == "pod" else both.target
    async with developer(both, "ann", "^/a") as ann, developer(both, "bob", "^/b") as bob:
        async with developer(both, "eve", "^/e") as eve:
            assert await ann.take(WEB) == m.Subscribed()
            assert (
                await bob.take(WEB)
            ).note == "it is shared with ann@box (path_filter), whose filter is asked first"
            assert (await eve.take(WEB)).note == (
                "it is shared with ann@box (path_filter), bob@box (path_filter), whose filters are asked first"
            )
            paths = {"/a": "ann", "/b": "bob", "/e": "eve", "/": "app"}
            for path, who in paths.items():
                assert await asked(side, host, path) == who
            many = [path for path in paths for _ in range(25)]
            found = await asyncio.gather(*(asked(side, host, path) for path in many))
            assert found == [paths[path] for path in many]
    assert await both.target.rules() == ""
    assert await asked(side, host, "/a") == "app"


@ways
async def test_each_request_of_a_connection_is_decided_alone(both: Both, version: int) -> None:
    async with developer(both, "ann", "^/a") as ann, developer(both, "bob", "^/b") as bob:
        await ann.take(WEB)
        await bob.take(WEB)
        line = await both.client.connect(TARGET[version], WEB)
        for path, who in {
            "/": "app",
            "/a": "ann",
            "/b": "bob",
            "/b/2": "bob",
            "/a/2": "ann",
            "/2": "app",
        }.items():
            assert await ask(line, path) == f"{who} {line.own} {path}"
        line.close()


async def test_overlapping_filters_the_older_session_wins_whoever_came_first_to_the_port(both: Both) -> None:
    async with developer(both, "ann", "^/a") as ann, developer(both, "bob", "^/") as bob:
        assert (await bob.take(WEB)).note == ""
        assert await asked(both.client, TARGET[4], "/a") == "bob"
        assert (await ann.take(WEB)).note == ""
        assert await asked(both.client, TARGET[4], "/a") == "ann"
        assert await asked(both.client, TARGET[4], "/") == "bob"
        assert await news(bob) == ["it is shared with ann@box (path_filter), whose filter is asked first"]
        await ann.release(WEB)
        assert await asked(both.client, TARGET[4], "/a") == "bob"


async def test_what_cannot_be_shared_is_refused_by_name(both: Both) -> None:
    async with developer(both, "ann", "^/a") as ann, AsyncExitStack() as stack:
        await ann.take(WEB)
        for options, why in (
            (
                {},
                "ann@box (path_filter) has it by a filter: it is shared with further filters, and not whole",
            ),
            ({"path": "^/a"}, "ann@box has it by the same filter (path_filter)"),
            ({"any_of": [{"path": "^/a"}]}, "ann@box has it by the same filter (path_filter)"),
        ):
            other = await stack.enter_async_context(developer(both, "bob", **options))  # type: ignore[arg-type]
            assert await other.take(WEB) == m.Subscribed(errno.EADDRINUSE, why)
            assert await asked(both.client, TARGET[4], "/a") == "ann"
            assert await asked(both.client, TARGET[4], "/b") == "app"
        await ann.release(WEB)
        whole = await stack.enter_async_context(developer(both, "eve"))
        assert await whole.take(WEB) == m.Subscribed()
        assert await ann.take(WEB) == m.Subscribed(errno.EADDRINUSE, "eve@box has it whole")


async def test_filtered_and_whole_by_port(both: Both) -> None:
    """A filter's `ports` leave the others whole."""
    async with developer(both, "ann", path_filter="^/a", ports=[PORT]) as ann:
        await ann.take(WEB)
        async with developer(both, "bob", "^/b") as bob:
            assert await bob.take(WEB) == m.Subscribed(errno.EADDRINUSE, "ann@box has it whole")


@ways
async def test_killed_in_the_middle_the_others_and_the_application_go_on(both: Both, version: int) -> None:
    host = TARGET[version]
    async with developer(both, "ann", "^/a") as ann, developer(both, "bob", "^/b") as bob:
        async with developer(both, "eve", "^/e") as eve:
            for each in (ann, bob, eve):
                await each.take(WEB)
            line = await both.client.connect(host, WEB)
            assert (await ask(line, "/a")).startswith("ann ")
            bob.process.kill()
            await bob.ended()
            found = [await asked(both.client, host, path) for path in ("/a", "/b", "/e", "/")]
            assert found == ["ann", "app", "eve", "app"]
            assert (await ask(line, "/a")).startswith("ann ")
            line.close()
            async with developer(both, "dan", "^/[bd]") as dan:
                assert "ann@box (path_filter), eve@box (path_filter)" in (await dan.take(WEB)).note
                found = [await asked(both.client, host, path) for path in ("/a", "/b", "/e", "/")]
                assert found == ["ann", "dan", "eve", "app"]


async def test_stopped_in_the_middle_it_loses_the_port_and_has_its_place_again(both: Both) -> None:
    host = TARGET[4]
    async with developer(both, "ann", "^/a") as ann, developer(both, "bob", "^/[be]") as bob:
        async with developer(both, "eve", "^/e") as eve:
            for each in (ann, bob, eve):
                await each.take(WEB)
            bob.process.send_signal(signal.SIGSTOP)
            assert await asked(both.client, host, "/a") == "ann"
            await members(both, 2)
            assert [await asked(both.client, host, path) for path in ("/a", "/b", "/e")] == [
                "ann",
                "app",
                "eve",
            ]
            bob.process.send_signal(signal.SIGCONT)
            await members(both, 3)
            assert [await asked(both.client, host, path) for path in ("/a", "/b", "/e")] == [
                "ann",
                "bob",
                "bob",
            ]


async def test_who_lost_a_port_while_it_was_stopped_is_told(both: Both) -> None:
    async with developer(both, "ann", "^/a") as ann, developer(both, "bob", "^/a") as bob:
        await ann.take(WEB)
        ann.process.send_signal(signal.SIGSTOP)
        await members(both, 0)
        assert await bob.take(WEB) == m.Subscribed()
        ann.process.send_signal(signal.SIGCONT)
        (words,) = await news(ann)
        assert words.endswith(": bob@box has it by the same filter (path_filter)")
        assert await asked(both.client, TARGET[4], "/a") == "bob"


async def test_late_sessions_come_in_their_order_and_after_the_last_rank_there_is_none(both: Both) -> None:
    async def older(rank: int) -> None:
        name = f"pymirror-{rank}"
        await both.target.nft(f"add table inet {name}", f"add set inet {name} taken {{ type inet_service; }}")

    await older(4090)
    async with developer(both, "ann", "^/[ab]") as ann, developer(both, "bob", "^/b") as bob:
        await ann.take(WEB)
        await bob.take(WEB)
        for host in TARGET.values():
            paths = ("/a", "/b", "/")
            assert [await asked(both.client, host, path) for path in paths] == ["ann", "ann", "app"]
            await ann.release(WEB)
            assert [await asked(both.client, host, path) for path in paths] == ["app", "bob", "app"]
            await ann.take(WEB)
        await older(4095)
        with pytest.raises(OSError, match="4095 sessions have followed each other"):
            async with developer(both, "eve", "^/e"):
                raise AssertionError


async def test_while_one_drains_the_others_serve_and_what_passes_through_it_goes_on(both: Both) -> None:
    host = TARGET[4]
    async with developer(both, "ann", "^/a") as ann, developer(both, "bob", "^/b") as bob:
        await ann.take(WEB)
        await bob.take(WEB)
        line = await both.client.connect(host, WEB)
        assert (await ask(line, "/")).startswith("app ")
        ann.channel.peer(NAME).send(Goodbye())
        await members(both, 1)
        assert [await asked(both.client, host, path) for path in ("/a", "/b")] == ["app", "bob"]
        assert ann.process.returncode is None
        assert (await ask(line, "/b")).startswith("bob ")
        assert (await ask(line, "/a")).startswith("app ")  # it is not taken any more
        line.close()
        assert await ann.ended() == 0
        assert await asked(both.client, host, "/b") == "bob"


@ways
async def test_http2_through_two_agents(both: Both, version: int) -> None:
    await application(both, 8090, serve_h2)
    async with developer(both, "ann", "^/a", server=serve_h2) as ann:
        async with developer(both, "bob", "^/b", server=serve_h2) as bob:
            await ann.take(8090)
            await bob.take(8090)
            line = await both.client.connect(TARGET[version], 8090)
            client = Peer((line.reader, line.writer), True)
            for path, who in {"/": "app", "/a": "ann", "/b": "bob", "/2": "app", "/a/2": "ann"}.items():
                heads = [(":method", "GET"), (":scheme", "http"), (":authority", "it"), (":path", path)]
                async with timeout(WITHIN):
                    said = await client.body(client.ask(heads))
                assert said.decode() == f"{who} {line.own} {path}"
            line.close()


async def test_an_upgrade_through_two_agents(both: Both) -> None:
    """As a WebSocket begins."""
    async with developer(both, "ann", "^/a") as ann, developer(both, "bob", "^/b") as bob:
        await ann.take(WEB)
        await bob.take(WEB)
        for path, who in {"/a": "ann", "/b": "bob", "/": "app"}.items():
            line = await both.client.connect(TARGET[4], WEB)
            line.writer.write(f"GET {path} HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: it\r\n\r\n".encode())
            async with timeout(WITHIN):
                assert b" 101 " in await line.reader.readuntil(b"\r\n\r\n")
            assert await line.says() == who
            assert await line.asks("no HTTP \x00") == "no HTTP \x00"
            line.close()


async def test_what_is_no_http_and_a_server_that_speaks_first_are_the_applications(both: Both) -> None:
    async with developer(both, "ann", "^/a") as ann, developer(both, "bob", "^/b") as bob:
        for each in (ann, bob):
            await each.take(PORT)
        for host in TARGET.values():
            line = await both.client.connect(host, PORT)
            assert await line.says() == f"app {line.own}"
            assert await line.asks("\x01 no HTTP") == "\x01 no HTTP"
            line.close()


@ways
async def test_a_client_uses_its_port_again(both: Both, version: int) -> None:
    """While the application, and each agent, waits for late packets of the connection before."""
    async with developer(both, "ann", "^/a") as ann, developer(both, "bob", "^/b") as bob:
        await ann.take(PORT)
        await bob.take(PORT)
        for _ in range(10):
            line = await both.client.connect(TARGET[version], PORT, source=44444)
            assert await line.says() == f"app {CLIENT[version]} 44444"
            assert await line.asks("bye") == ""
            line.close()
            await asyncio.sleep(0)


@ways
async def test_a_rank_that_is_free_again_is_the_next_ones(both: Both, version: int) -> None:
    """Its connections come by the sources of those before, which the application may still wait for."""
    async with developer(both, "ann", "^/a") as ann:
        await ann.take(WEB)
        await ann.take(PORT)
        for who in ("bob", "eve", "dan"):
            async with developer(both, who, f"^/{who}") as other:
                await other.take(WEB)
                await other.take(PORT)
                assert "table inet pymirror-2" in await both.target.rules()
                assert await asked(both.client, TARGET[version], f"/{who}") == who
                line = await both.client.connect(TARGET[version], PORT, source=44444)
                assert await line.says() == f"app {CLIENT[version]} 44444"
                assert await line.asks("bye") == ""
                line.close()


async def test_of_those_that_come_at_once_no_two_have_the_same_filter(both: Both) -> None:
    async with AsyncExitStack() as stack:
        every = await asyncio.gather(
            *(
                stack.enter_async_context(developer(both, f"dev{n}", "^/a" if n % 2 else f"^/{n}"))
                for n in range(6)
            )
        )
        answers = await asyncio.gather(*(each.take(WEB) for each in every))
        same = [answer.code for answer in answers[1::2]]
        assert [answer.code for answer in answers[::2]] == [0, 0, 0]
        assert same.count(0) <= 1 and set(same) <= {0, errno.EADDRINUSE}
        await members(both, 3 + same.count(0))
        assert [await asked(both.client, TARGET[4], f"/{n}") for n in (0, 2, 4)] == ["dev0", "dev2", "dev4"]


async def test_one_more_than_may_is_refused(both: Both) -> None:
    async with AsyncExitStack() as stack:
        every = [
            await stack.enter_async_context(developer(both, f"dev{n}", f"^/{n}$")) for n in range(MOST + 1)
        ]
        answers = [await each.take(WEB) for each in every]
        assert [answer.code for answer in answers] == [0] * MOST + [errno.EADDRINUSE]
        assert answers[-1].reason.startswith(f"{MOST} sessions share it, and more may not: dev0@box")
