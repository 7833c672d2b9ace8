"""Listeners under the engine: where they are bound, what they show, and whom their clients are told to be."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tools import build, tool

from pymirror.core.call import Address, Call, Errno, Untouched
from pymirror.core.later import Later
from pymirror.core.limit import timeout
from tests.sandbox.incoming_desk import CLIENT, CLIENT6, LIMIT, PAUSE, SPOKEN, SPOKEN6, Desk, free_port, under

pytestmark = pytest.mark.sandbox

PROGRAMS = Path(__file__).parent / "programs"
LISTENER = (sys.executable, PROGRAMS / "incoming.py")
SEEN = f"{CLIENT} {CLIENT} {SPOKEN}"


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that another program has."""
    with socket.create_server(("0.0.0.0", 0)) as server:
        yield server.getsockname()[1]


async def test_a_listener_is_where_it_asked_to_be(desk: Desk, port: int, tmp_path: Path) -> None:
    async with under(desk, tmp_path, *LISTENER, "one", port) as running:
        where = await desk.listener()
        assert await desk.knock(where) == SEEN
        assert await running.said() == (f"0.0.0.0 {port}\n", 0)
    bind, listen = desk.asked
    assert where == Address("0.0.0.0", port) == bind.address == listen.address
    assert bind.socket == listen.socket and (bind.bound, bind.transport) == (None, "tcp")


async def test_a_port_that_is_taken_is_shown_all_the_same(desk: Desk, taken: int, tmp_path: Path) -> None:
    async with under(desk, tmp_path, *LISTENER, "one", taken) as running:
        where = await desk.listener()
        assert where.host == "127.0.0.1" and where.port not in (0, taken)
        assert await desk.knock(where) == SEEN
        assert await running.said() == (f"0.0.0.0 {taken}\n", 0)


async def test_who_is_no_guest_is_told_as_the_kernel_does(desk: Desk, port: int, tmp_path: Path) -> None:
    async with under(desk, tmp_path, *LISTENER, "one", port):
        where = await desk.listener()
        desk.engine.guests.add(Address("127.0.0.1", free_port()), CLIENT, SPOKEN)  # another
        accepted, peer, own = (await desk.knock(where, client=None)).split()
        assert accepted == peer and peer.startswith("127.0.0.1:") and own == f"127.0.0.1:{port}"


async def test_both_ip_versions_of_one_socket(desk: Desk, port: int, tmp_path: Path) -> None:
    async with under(desk, tmp_path, *LISTENER, "dual", port) as running:
        where = await desk.listener()
        mapped = [f"::ffff:{each}" for each in (CLIENT, CLIENT, SPOKEN)]
        assert await desk.knock(where) == " ".join(mapped)
        said = await desk.knock(where, CLIENT6, SPOKEN6, "::1")
        assert said == " ".join(f"{each.host}:{each.port}" for each in (CLIENT6, CLIENT6, SPOKEN6))
        assert (await running.said())[0] == f":: {port} 0 0\n"


async def test_a_socket_for_ipv6_alone(desk: Desk, port: int, tmp_path: Path) -> None:
    async with under(desk, tmp_path, *LISTENER, "six", port):
        where = await desk.listener()
        with socket.create_server(("0.0.0.0", port)):  # beside it
            said = await desk.knock(where, CLIENT6, SPOKEN6, "::1")
        assert said.startswith(f"{CLIENT6.host}:{CLIENT6.port} ")


async def test_accept_without_waiting(desk: Desk, port: int, tmp_path: Path) -> None:
    async with under(desk, tmp_path, *LISTENER, "epoll", port):
        where = await desk.listener()
        assert [await desk.knock(where) for _ in range(3)] == [f"{SEEN} {count}" for count in (1, 2, 3)]


async def test_threads_that_accept_get_one_each(desk: Desk, port: int, tmp_path: Path) -> None:
    clients = [Address("10.1.2.3", 1000 + number) for number in range(16)]
    async with under(desk, tmp_path, *LISTENER, "threads", port) as running:
        where = await desk.listener()
        said = await asyncio.gather(*(desk.knock(where, client) for client in clients))
        assert (await running.said())[1] == 0
    assert sorted(words.split()[0] for words in said) == sorted(map(str, clients))
    assert Counter(words.split()[3] for words in said) == {str(number): 4 for number in range(4)}


async def test_a_connection_wakes_one_of_many(desk: Desk, port: int, tmp_path: Path) -> None:
    """Of two hundred that wait for one, without a thread: that each gets one takes few threads of ours."""
    async with under(desk, tmp_path, *LISTENER, "many", port) as running:
        where = await desk.listener()
        await until(lambda: all(call_of(thread) == "accept4" for thread in threads_of(running.pid, 201)))
        said = [await desk.knock(where) for _ in range(10)]
        ours = len(os.listdir("/proc/self/task"))
        said += await asyncio.gather(*(desk.knock(where) for _ in range(190)))
        assert said == [SEEN] * 200 and await running.said() == ("", 0)
    assert ours < 50


async def test_who_waits_in_the_kernel_and_who_does_not_share_a_listener(
    desk: Desk, port: int, tmp_path: Path
) -> None:
    async with under(desk, tmp_path, *LISTENER, "mixed", port) as running:
        where = await desk.listener()
        said = await asyncio.gather(*(desk.knock(where) for _ in range(200)))
        assert said == [SEEN] * 200 and await running.said() == ("None True\n", 0)


async def test_processes_that_accept_from_one_listener(desk: Desk, port: int, tmp_path: Path) -> None:
    async with under(desk, tmp_path, *LISTENER, "prefork", port) as running:
        where = await desk.listener()
        assert await asyncio.gather(*(desk.knock(where) for _ in range(3))) == [SEEN] * 3
        assert await running.said() == ("[0, 0, 0]\n", 0)


async def test_workers_that_share_a_port(desk: Desk, taken: int, tmp_path: Path) -> None:
    """Each has a socket of its own, at the real address of the first."""
    found: list[Address] = []

    def tries(call: Call) -> tuple[Address, ...]:
        assert call.shares_port
        return tuple(found) or (Address("127.0.0.1", 0),)

    desk.tries = tries
    desk.listens = lambda call: found.append(call.bound) if not found else None
    async with under(desk, tmp_path, *LISTENER, "reuseport", taken):
        wheres = [await desk.listener() for _ in range(3)]
        assert {where.port for where in wheres} == {found[0].port} != {taken}
        assert {await desk.knock(wheres[0]) for _ in range(6)} == {SEEN}
    assert desk.names == ["bind", "listen"] * 3


async def test_a_signal_ends_an_accept_and_the_next_goes_on(desk: Desk, port: int, tmp_path: Path) -> None:
    async with under(desk, tmp_path, *LISTENER, "interrupted", port) as running:
        where = await desk.listener()
        await waits(running.pid, "accept4")
        os.kill(running.pid, signal.SIGINT)
        await until(lambda: (tmp_path / "output").read_text())
        assert await desk.knock(where) == SEEN
        assert await running.said() == ("interrupted\n", 0)


async def test_a_handler_that_wants_a_restart_gets_it(desk: Desk, port: int, tmp_path: Path) -> None:
    async with under(desk, tmp_path, *LISTENER, "handled", port) as running:
        where = await desk.listener()
        await waits(running.pid, "accept4")
        os.kill(running.pid, signal.SIGUSR1)
        await until(lambda: (tmp_path / "output").read_text() == "\n")
        assert await desk.knock(where) == SEEN


async def test_a_limit_of_time_ends_an_accept(desk: Desk, port: int, tmp_path: Path) -> None:
    async with under(desk, tmp_path, *LISTENER, "timeout", port) as running:
        where = await desk.listener()
        await until(lambda: "EAGAIN" in (tmp_path / "output").read_text())
        assert await desk.knock(where) == SEEN
        assert await running.said() == ("-1 EAGAIN\n", 0)


async def test_without_a_descriptor_left_a_connection_waits(desk: Desk, port: int, tmp_path: Path) -> None:
    async with under(desk, tmp_path, *LISTENER, "full", port) as running:
        assert await desk.knock(await desk.listener()) == SEEN
        assert await running.said() == ("EMFILE\n", 0)


async def test_names_follow_the_socket_and_listen_is_asked_again(
    desk: Desk, port: int, tmp_path: Path
) -> None:
    async with under(desk, tmp_path, *LISTENER, "again", port) as running:
        assert await running.said() == (f"0.0.0.0 {port}\n" * 3, 0)
    assert desk.names == ["bind", "listen", "listen", "bind", "listen"]
    sockets = [call.socket for call in desk.asked]
    assert len(set(sockets[:3])) == 1 and sockets[0] != sockets[3] == sockets[4]
    assert {call.bound for call in desk.asked if call.name == "listen"} == {Address("0.0.0.0", port)}


async def test_what_a_feature_refuses_fails(desk: Desk, taken: int, tmp_path: Path) -> None:
    """One try that the kernel does not take; and a listen, which goes on when it is asked again."""
    verdicts = [Errno("desk", code=errno.EADDRINUSE), Untouched("desk")]
    desk.listens = lambda call: verdicts.pop(0)
    async with under(desk, tmp_path, *LISTENER, "refused", taken) as running:
        assert await running.said() == ("None\nEADDRINUSE\nNone\n", 0)
    desk.tries = lambda call: (call.address,)
    async with under(desk, tmp_path, *LISTENER, "refused", taken) as running:
        out, _ = await running.said()
    assert out.splitlines()[0] == "EADDRINUSE"


async def test_an_address_of_the_target_is_none_here(desk: Desk, port: int, tmp_path: Path) -> None:
    script = (
        "import socket,sys; s=socket.create_server(('10.9.9.9', int(sys.argv[1]))); print(*s.getsockname())"
    )
    desk.tries = lambda call: (call.address, Address("127.0.0.1", call.address.port))
    async with under(desk, tmp_path, sys.executable, "-c", script, port) as running:
        assert await desk.listener() == Address("127.0.0.1", port)
        assert await running.said() == (f"10.9.9.9 {port}\n", 0)


async def test_a_listen_that_is_answered_later(desk: Desk, port: int, tmp_path: Path) -> None:
    """It waits without a thread, a signal makes it ask again, and it is answered then."""
    laters = [Later() for _ in range(2)]
    waiting = list(laters)
    desk.listens = lambda call: waiting.pop(0)
    async with under(desk, tmp_path, *LISTENER, "handled", port) as running:
        where = await desk.listener()
        await waits(running.pid, "listen")
        assert not listens(port)
        os.kill(running.pid, signal.SIGWINCH)  # ignored: not a reason to ask
        os.kill(running.pid, signal.SIGUSR1)
        assert await desk.listener() == where  # asked again; the handler is Python's, which runs later
        laters[1].settle(Untouched("desk"))
        assert await desk.knock(where) == SEEN
    assert desk.names == ["bind", "listen", "listen"]


async def test_what_is_nobodys_to_decide(desk: Desk, port: int, tmp_path: Path) -> None:
    async with under(desk, tmp_path, *LISTENER, "untouched", port) as running:
        assert await running.said() == ("True\nEINVAL\nTrue\nb'\\x00desk'\n", 0)
    assert not desk.asked


async def test_another_network_namespace_is_its_own(desk: Desk, port: int, tmp_path: Path) -> None:
    async with under(desk, tmp_path, tool("unshare"), "-n", *LISTENER, "refused", port) as running:
        assert await running.said() == ("None\nNone\nNone\n", 0)
    assert not desk.asked


async def test_a_server_that_dies_in_accept_leaves_its_port_to_the_next(
    desk: Desk, port: int, tmp_path: Path
) -> None:
    """At once, although pymirror has not noticed yet and holds the listener that it waits on."""
    desk.tries = lambda call: (call.address,)
    [number] = [number for number, name in NUMBERS[os.uname().machine].items() if name == "accept4"]
    async with under(desk, tmp_path, *LISTENER, "dies", port, number) as running:
        assert await running.said() == ("all\n", 0)


@pytest.mark.parametrize("root", [True, False])
async def test_a_low_port_is_for_who_may_have_it(desk: Desk, tmp_path: Path, root: bool) -> None:
    """pymirror is root; the program may not be."""
    program = tmp_path / "low"
    await build("gcc", "-static", "-o", program, PROGRAMS / "low.c")
    nobody = ("--reuid=65534", "--regid=65534", "--clear-groups")
    drop = () if root else (tool("setpriv"), *nobody)
    async with under(desk, tmp_path, *drop, program, 861) as running:
        where = await desk.listener()
        assert (where == Address("0.0.0.0", 861)) is root
        assert (await running.said())[0] == "861\n"


NUMBERS = {
    "x86_64": {"288": "accept4", "50": "listen"},
    "aarch64": {"242": "accept4", "201": "listen"},
}


def call_of(pid: int) -> str:
    """The call that a thread is in."""
    return NUMBERS[os.uname().machine].get(Path(f"/proc/{pid}/syscall").read_text().split()[0], "")


def threads_of(pid: int, count: int) -> list[int]:
    """But its first; this process, which is in no such call, until there are so many."""
    found = [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    return [each for each in found if each != pid] if len(found) == count else [os.getpid()]


async def waits(pid: int, call: str) -> None:
    """Until the process is in that call."""
    await until(lambda: call_of(pid) == call)


async def until(true: Callable[[], object]) -> None:
    async with timeout(LIMIT):
        while not true():  # noqa: ASYNC110 - of another process, which announces nothing
            await asyncio.sleep(PAUSE)


def listens(port: int) -> bool:
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A" for line in lines)
