"""An agent that has taken a port of its target: what the layer gets, and the ways the agent ends or stops."""

from __future__ import annotations

import asyncio
import errno
import signal
from collections.abc import AsyncIterator

import pytest

from pymirror.core.handshake import NAME, Goodbye
from pymirror.core.limit import timeout
from pymirror.features.network.incoming import messages as m
from tests.sandbox.steal_agent import session
from tests.sandbox.steal_network import PORT, TARGET, WITHIN, Both, cabled

pytestmark = pytest.mark.sandbox
HOST = TARGET[4]
PASSED = 8081
"""Taken, and passed on to the application: programs/stealing_agent.py."""
MESH = (
    "add table inet mesh",
    "add chain inet mesh in { type nat hook prerouting priority -100; }",
    "add chain inet mesh out { type nat hook output priority -100; }",
    "add rule inet mesh in tcp dport 9 redirect to :10",
)
"""As long as somebody's table translates, the kernel does so for connections that it remembers."""


@pytest.fixture
async def both() -> AsyncIterator[Both]:
    async with cabled() as made:
        yield made


async def said(both: Both) -> str:
    line = await both.client.connect(HOST)
    try:
        return (await line.says()).split()[0]
    finally:
        line.close()


async def held(both: Both, ports: int) -> None:
    """Returns when so many are taken, by whomever."""
    async with timeout(WITHIN):
        found = -1
        while found != ports:
            found = (await both.target.rules()).count("timeout 8s")


async def test_each_connection_is_a_stream_with_its_names(both: Both) -> None:
    async with session(both) as one:
        assert await one.take() == m.Subscribed()
        lines = [await both.client.connect(host) for host in TARGET.values()]
        for line in lines:
            assert await line.says() == f"program {line.own}"
        assert await lines[0].asks("x" * 60_000) == "x" * 60_000
        lines[1].writer.write_eof()
        assert await lines[1].says() == ""
        await one.release()
        assert await said(both) == "app"
        assert await lines[0].asks("still the program's") == "still the program's"
        for line in lines:
            line.close()


async def test_a_port_that_another_session_has_is_refused_and_then_free(both: Both) -> None:
    async with session(both) as one:
        await one.take()
        async with session(both) as two:
            refused = await two.take()
            assert refused.code == errno.EADDRINUSE
            assert refused.reason == "ann@box has it whole"
            assert await said(both) == "program"
            one.process.kill()
            await one.ended()
            assert await said(both) == "app"
            assert await two.take() == m.Subscribed()
            assert await said(both) == "program"


async def test_a_killed_agent_leaves_nothing(both: Both) -> None:
    before = await both.target.rules()
    async with session(both) as one:
        await one.take()
        assert await said(both) == "program"
        one.process.kill()
        await one.ended()
        assert await said(both) == "app"
        assert await both.target.rules() == before == ""
    async with session(both) as again:
        await again.take()
        assert await said(both) == "program"


async def test_a_stopped_agent_loses_the_port_and_takes_it_again(both: Both) -> None:
    async with session(both) as one:
        await one.take()
        one.process.send_signal(signal.SIGSTOP)
        await held(both, 0)
        assert await said(both) == "app"
        one.process.send_signal(signal.SIGCONT)
        await held(both, 1)
        assert await said(both) == "program"


async def test_a_port_taken_by_another_while_it_was_stopped_is_the_others(both: Both) -> None:
    async with session(both) as one, session(both) as two:
        await one.take()
        one.process.send_signal(signal.SIGSTOP)
        await held(both, 0)
        assert await two.take() == m.Subscribed()
        one.process.send_signal(signal.SIGCONT)
        assert one.process.stderr is not None
        while b"port %d: it was not kept while nothing was heard" % PORT not in (
            line := await one.process.stderr.readline()
        ):
            assert line
        await held(both, 1)
        assert await said(both) == "program"
        two.process.kill()
        await two.ended()
        assert await said(both) == "app"


@pytest.mark.parametrize("how", ["goodbye", "lease", "TERM"])
async def test_what_the_application_has_goes_on_and_what_the_program_has_ends(both: Both, how: str) -> None:
    await both.serve("0.0.0.0", PASSED)
    async with session(both, "--lease=1" if how == "lease" else "--lease=60") as one:
        await one.take()
        await one.take(PASSED)
        programs, passed = await both.client.connect(HOST), await both.client.connect(HOST, PASSED)
        assert await programs.says() == f"program {programs.own}"
        assert await passed.says() == f"app {passed.own}"
        if how == "goodbye":
            one.channel.peer(NAME).send(Goodbye())
        elif how == "lease":
            await one.channel.aclose()
        else:
            one.process.terminate()
        with pytest.raises(ConnectionResetError):
            await programs.says()
        assert await said(both) == "app"
        assert await passed.asks("goes on") == "goes on"
        assert one.process.returncode is None
        passed.close()
        assert await one.ended() == (how == "lease")
    assert await both.target.rules() == ""


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("passed", [False, True], ids=["taken", "passed on"])
async def test_a_client_that_was_reset_at_the_end_reaches_the_application_by_the_same_port(
    both: Both, version: int, passed: bool
) -> None:
    """Which the kernel remembers as one that was redirected, for ten seconds and anew with each try: where
    others' tables have it translate on, as a mesh's do."""
    await both.target.nft(*MESH)
    await both.serve("0.0.0.0" if version == 4 else "::", PASSED)
    port = PASSED if passed else PORT
    async with session(both, "--drain=0.2") as one:
        await one.take()
        await one.take(PASSED)
        clients = [await both.client.connect(TARGET[version], port) for _ in range(5)]
        for client in clients:
            assert (await client.says()).startswith("app" if passed else "program")
        one.channel.peer(NAME).send(Goodbye())
        for client in clients:
            with pytest.raises(ConnectionResetError):
                await client.says()
        assert await one.ended() == 0
    for client in clients:
        again = await both.client.connect(TARGET[version], port, int(client.own.split()[1]))
        assert (await again.says()).startswith("app")


@pytest.mark.parametrize("mesh", [False, True], ids=["alone", "beside a mesh"])
async def test_a_slow_client_gets_the_last_of_an_answer_that_has_ended(both: Both, mesh: bool) -> None:
    """The application and the client have said their ends: what there is left is in the kernel."""
    size, written = 500_000, asyncio.Event()

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * size)
        await writer.drain()
        writer.close()
        written.set()

    if mesh:
        await both.target.nft(*MESH)
    server = await asyncio.start_server(answer, sock=await both.target.listen("0.0.0.0", PASSED))
    async with server, session(both) as one:
        await one.take(PASSED)
        client = await both.client.connect(HOST, PASSED)
        client.writer.write_eof()
        await asyncio.wait_for(written.wait(), WITHIN)
        await asyncio.sleep(1)  # for the agent to be done with it
        one.channel.peer(NAME).send(Goodbye())
        await asyncio.sleep(1)
        assert len(await asyncio.wait_for(client.reader.read(), WITHIN)) == size
        assert await one.ended() == 0


async def test_draining_ends_after_its_time(both: Both) -> None:
    await both.serve("0.0.0.0", PASSED)
    async with session(both, "--drain=0.5") as one:
        await one.take(PASSED)
        passed = await both.client.connect(HOST, PASSED)
        assert await passed.says() == f"app {passed.own}"
        one.channel.peer(NAME).send(Goodbye())
        with pytest.raises(ConnectionResetError):
            await passed.says()
        assert await one.ended() == 0
