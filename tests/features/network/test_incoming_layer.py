"""The layer's half of `network.incoming` with an agent that takes ports in words: what is asked for, and how long."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import Any

import pytest
from attrs import evolve
from incoming_agent import Agent, accepted, listen, listening, place, session, until
from verdicts import verdict_of

from pymirror.core.call import Address, Bind, Call, Errno, Untouched
from pymirror.core.testing import conformance
from pymirror.features.network.incoming import layer as module
from pymirror.features.network.incoming import messages as m
from pymirror.features.network.incoming.config import Config
from pymirror.features.network.incoming.layer import Layer
from pymirror.features.network.ports import Listener, Ports

STEAL = Config(mode="steal")
TAKEN = Untouched("incoming: steal of port 80", there=True)
HERE = Address("127.0.0.1", 80)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at what listens, and gives up what never did, sooner."""
    monkeypatch.setattr(module, "EVERY", 0.02)
    monkeypatch.setattr(module, "WITHIN", 0.2)


async def test_the_halves_conform() -> None:
    await conformance(Layer, Agent)


def test_what_is_wanted_and_which_rights_it_takes() -> None:
    assert Layer.wanted(STEAL) and Layer.wanted(Config()) and not Layer.wanted(Config(mode="off"))
    assert Layer.rights(STEAL) == {"SYS_PTRACE", "SYS_ADMIN", "NET_ADMIN"}
    assert Layer.rights(Config()) == {"SYS_PTRACE", "SYS_ADMIN", "NET_RAW"}


@pytest.mark.parametrize(
    ("has_target", "note"),
    [
        (True, "incoming: mirror of each port the program listens on"),
        (False, "incoming: nothing, as there is no target"),
    ],
)
async def test_the_plan_says_what_it_means(tmp_path: Any, has_target: bool, note: str) -> None:
    async with session(tmp_path, Config(), has_target=has_target) as it:
        assert it.launch.notes == [note]
        with listening() as server:
            await verdict_of(it.layer.listen, listen(server, 80))
        assert it.agent.said == (["subscribe 80"] if has_target else [])


async def test_a_port_is_asked_for_once_however_often_it_is_listened_on(tmp_path: Any) -> None:
    async with session(tmp_path, STEAL) as it:
        it.agent.held = asyncio.Event()
        with listening() as first, listening() as second:
            calls = [listen(first, 80), listen(first, 80), listen(second, 80)]
            waiting = [asyncio.ensure_future(verdict_of(it.layer.listen, call)) for call in calls]
            await until(lambda: it.agent.said)
            assert not any(each.done() for each in waiting)
            waiting[0].cancel()  # a signal: the call is made again
            it.agent.held.set()
            assert await asyncio.gather(*waiting[1:]) == [TAKEN, TAKEN]
            assert it.layer.listen(calls[0]) == TAKEN  # at once
            assert it.agent.said == ["subscribe 80"]


async def test_the_targets_port_is_asked_for(tmp_path: Any) -> None:
    async with session(tmp_path, Config(mode="steal", port_mapping=[[8080, 80]])) as it:
        with listening() as server:
            verdict = await verdict_of(it.layer.listen, listen(server, 8080))
            assert verdict.reason == "incoming: steal of port 80, by incoming.port_mapping 8080"
            assert it.agent.said == ["subscribe 80"]
            it.agent.arrive(80)
            (await accepted(server)).close()


async def test_what_is_this_machines_alone_is_not_asked_for(tmp_path: Any) -> None:
    async with session(tmp_path, Config(ignore_ports=[80], listen_ports=[[80, 8080]])) as it:
        bind = Call("bind", transport="tcp", address=Address("0.0.0.0", 80))
        assert isinstance(it.layer.bind(bind), Bind)
        with listening() as server:
            assert it.layer.listen(listen(server, 80)) == Untouched("incoming.ignore_ports 80")
        assert it.agent.said == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (m.Subscribed(errno.EADDRINUSE, "port 80 is stolen by ann@box"), "port 80 is stolen by ann@box"),
        (m.Subscribed(errno.EPERM, "NET_ADMIN is missing"), "NET_ADMIN is missing"),
        (m.Subscribed(errno.EADDRINUSE), "Address already in use"),
    ],
)
async def test_a_port_that_is_refused_is_in_use_and_it_is_said_why(
    tmp_path: Any, answer: m.Subscribed, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with session(tmp_path, STEAL) as it:
        it.agent.answer = answer
        with listening() as server:
            for _ in range(2):  # as a server that tries again
                verdict = await verdict_of(it.layer.listen, listen(server, 80))
                assert verdict == Errno(f"incoming: steal of port 80: {words}", code=errno.EADDRINUSE)
            assert caplog.text.count(f"port 80 of the target is not to be had: {words}") == 1
            assert it.launch.shared(Ports).all() == []
            it.agent.answer = m.Subscribed()
            assert await verdict_of(it.layer.listen, listen(server, 80)) == TAKEN
            assert it.agent.said == ["subscribe 80"] * 3


def test_a_user_without_a_name_is_told_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 1_234_567)
    assert module._who() == f"1234567@{socket.gethostname()}"


async def test_a_lost_agent_is_no_answer(tmp_path: Any) -> None:
    async with session(tmp_path, STEAL) as it:
        it.agent.held = asyncio.Event()
        with listening() as server:
            waiting = asyncio.ensure_future(verdict_of(it.layer.listen, listen(server, 80)))
            await until(lambda: it.agent.said)
            it.link.cut()
            verdict = await waiting
            assert isinstance(verdict, Errno) and verdict.code == errno.EADDRINUSE


async def test_a_port_is_released_with_its_last_listener(tmp_path: Any, often: None) -> None:
    """A descriptor that another holder has of it counts, as after fork."""
    async with session(tmp_path, STEAL) as it:
        with listening() as server, listening() as worker:
            for each in (server, worker):
                await verdict_of(it.layer.listen, listen(each, 80))
            inherited = server.dup()
        with inherited:
            await until(lambda: len(it.launch.shared(Ports).all()) == 1)
            it.layer._look()
            assert it.agent.said == ["subscribe 80"]
        await until(lambda: it.agent.said == ["subscribe 80", "release 80"])
        await until(lambda: it.layer._watching is None)  # nothing left to look at
        with listening() as server:
            assert await verdict_of(it.layer.listen, listen(server, 80)) == TAKEN
            assert it.agent.said[2:] == ["subscribe 80"]


async def test_a_server_that_listens_again_at_once_keeps_its_port(tmp_path: Any) -> None:
    async with session(tmp_path, STEAL) as it:
        for _ in range(2):
            with listening() as server:
                assert await verdict_of(it.layer.listen, listen(server, 80)) == TAKEN
                it.layer._look()
        with listening() as server:
            await verdict_of(it.layer.listen, listen(server, 80))
            it.layer._look()
            assert it.agent.said == ["subscribe 80"]
            assert [each.real for each in it.launch.shared(Ports).all()] == [place(server)]


async def test_a_port_is_asked_for_again_when_its_release_is_done(tmp_path: Any) -> None:
    """Whoever asks meanwhile waits: the agent does one after the other, and the last word counts."""
    async with session(tmp_path, STEAL) as it:
        with listening() as one, listening() as two:
            for each, port in ((one, 80), (two, 81)):
                await verdict_of(it.layer.listen, listen(each, port))
            it.layer._look()
        it.agent.held = asyncio.Event()
        it.layer._look()
        with listening() as again:
            asked = asyncio.ensure_future(verdict_of(it.layer.listen, listen(again, 80)))
            for _ in range(20):
                await asyncio.sleep(0)
            assert it.agent.said == ["subscribe 80", "subscribe 81"] and not asked.done()
            it.agent.held.set()
            assert await asked == TAKEN
        assert sorted(it.agent.said[2:4]) == ["release 80", "release 81"]
        assert it.agent.said[4:] == ["subscribe 80"]


async def test_a_socket_that_never_listens_is_given_up(tmp_path: Any, often: None) -> None:
    async with session(tmp_path, STEAL) as it:
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            await verdict_of(it.layer.listen, listen(server, 80))
            await until(lambda: it.agent.said == ["subscribe 80", "release 80"])


@pytest.mark.parametrize(
    ("looks", "gone"),
    [
        ([([7], 1)], [False]),
        ([([7], 1), ([], 2)], [False, True]),
        ([([7], 1), ([8], 2)], [False, True]),  # another's socket has its port by now
        ([([], 1), ([], 5)], [False, False]),  # it may still listen
        ([([], 1), ([], 6)], [False, True]),
        ([([], 1), ([7], 2), ([], 3)], [False, False, True]),
        (
            [([8], 9), ([8], 99), ([], 100)],
            [False, False, True],
        ),  # MPTCP's, under another number, as Go has them
    ],
)
def test_whether_a_listener_is_gone(looks: list[tuple[list[int], float]], gone: list[bool]) -> None:
    """looks: numbers of what listens on its port, and when."""
    watched = module._Watched(Listener(HERE, HERE, False, 80, 7), until=5.0)
    assert [watched.is_gone(cookies, now) for cookies, now in looks] == gone


async def test_a_port_that_was_missed_is_told_once(tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with session(tmp_path, Config()) as it:
        for port in (0, 80, 0, 80, 81):
            it.agent.peer.send(m.Missed(port, 3, "a gap"))
        await until(lambda: "port 81" in caplog.text)
    assert caplog.text.count("port 80: 3 connections were not copied to their end") == 1
    assert caplog.text.count("copies may end before their connections: a gap") == 1


async def test_a_second_start_of_a_server_fails_as_everywhere(tmp_path: Any) -> None:
    """The first has another port here than the one it asked for; or the very one."""
    async with session(tmp_path, STEAL, pid=os.getpid()) as it:
        with listening() as server:
            await verdict_of(it.layer.listen, listen(server, 80, shares_port=True))
            bind = Call("bind", transport="tcp", address=Address("127.0.0.1", 80), socket=99)
            refused = it.layer.bind(bind)
            assert isinstance(refused, Errno) and refused.code == errno.EADDRINUSE
            shared = it.layer.bind(evolve(bind, shares_port=True))
            assert isinstance(shared, Bind) and shared.tries == (place(server),)
            own = it.layer.bind(evolve(bind, address=place(server)))
            assert isinstance(own, Bind) and own.tries == (place(server),)
        again = it.layer.bind(bind)  # it is gone, which needs no look
        assert isinstance(again, Bind) and len(again.tries) > 1


async def test_whose_filter_is_asked_first_is_said_once(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with session(tmp_path, STEAL) as it:
        it.agent.answer = m.Subscribed(note="it is shared with ann@box")
        with listening() as server:
            assert await verdict_of(it.layer.listen, listen(server, 80)) == TAKEN
        for words in ("it is shared with ann@box", "it is shared with eve@box"):
            it.agent.peer.send(m.News(80, words))
        await until(lambda: "eve@box" in caplog.text)
        assert caplog.text.count("port 80 of the target: it is shared with ann@box") == 1
