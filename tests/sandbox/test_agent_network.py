"""Threads in a target's network namespace: what they make belongs to it, and a missing right is named."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pymirror.agent.main import find_target, parse
from pymirror.agent.namespaces import CLONE_NEWUSER
from pymirror.agent.network import CLONE_NEWNET, Network, shared
from pymirror.core.capability import CAPABILITIES
from pymirror.runtimes.process.sandbox import Sandbox
from tests.sandbox.pod_network import run
from tests.sandbox.test_agent_rights import USER, as_user

pytestmark = pytest.mark.sandbox
NET_RAW = frozenset({CAPABILITIES.index("NET_RAW")})


@pytest.fixture(autouse=True)
def own_umask() -> Iterator[None]:
    """A thread that gives its rights up sets the umask of the whole process, which is no agent here."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


def listening() -> socket.socket:
    made = socket.create_server(("127.0.0.1", 0))
    made.setblocking(False)
    return made


def ports(pid: int) -> set[int]:
    with open(f"/proc/{pid}/net/tcp", encoding="ascii") as file:
        return {int(line.split()[1].rpartition(":")[2], 16) for line in file.read().splitlines()[1:]}


async def test_a_socket_made_there_belongs_there_and_serves_here() -> None:
    async with Sandbox.start() as sandbox:
        network = Network(sandbox.pid)
        with await network.run(listening) as server:
            assert ports(sandbox.pid) == {server.getsockname()[1]}
            assert server.getsockname()[1] not in ports(os.getpid())
        network.close()


def rights_left() -> tuple[str, int]:
    with open("/proc/thread-self/status", encoding="ascii") as file:
        fields = dict(line.split(":", 1) for line in file.read().splitlines())
    return fields["CapEff"].strip(), int(fields["Umask"], 8)


async def test_the_threads_keep_no_right_and_the_process_stays_as_it_was() -> None:
    async with Sandbox.start() as sandbox:
        before, network = rights_left(), Network(sandbox.pid)
        assert await network.run(rights_left) == ("0" * 16, before[1])
        assert rights_left() == before
        network.close()


def may_copy_packets() -> bool:
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()
    except PermissionError:
        return False
    return True


@pytest.mark.parametrize("own", [False, True])
async def test_what_counts_in_there_is_kept_by_these_threads_alone(own: bool) -> None:
    """Also where the agent is in the target's network, as an ephemeral container is."""

    async with Sandbox.start() as sandbox:
        before, network = rights_left(), Network(os.getpid() if own else sandbox.pid, keep=NET_RAW)
        barrier = threading.Barrier(3)

        def work() -> str:
            barrier.wait(20)
            return rights_left()[0]

        found = await asyncio.gather(*(network.run(work) for _ in range(3)))
        assert [int(each, 16) for each in found] == [1 << min(NET_RAW)] * 3
        assert await network.run(may_copy_packets)
        assert rights_left() == before
        network.close()


async def test_slow_work_delays_nobody() -> None:
    """Eight wait for each other, so all must run at once; each in the target's namespace."""
    async with Sandbox.start() as sandbox:
        network, barrier = Network(sandbox.pid), threading.Barrier(8)

        def work() -> int:
            barrier.wait(20)
            return os.stat("/proc/thread-self/ns/net").st_ino

        found = await asyncio.gather(*(network.run(work) for _ in range(8)))
        assert set(found) == {os.stat(f"/proc/{sandbox.pid}/ns/net").st_ino}
        network.close()


async def test_what_the_work_raises_arrives() -> None:
    def work() -> None:
        raise FileNotFoundError(2, "nothing")

    network = Network(0)
    with pytest.raises(FileNotFoundError):
        await network.run(work)
    network.close()


@pytest.mark.parametrize("allowed", [0, 1])
async def test_a_system_without_threads_for_it_costs_an_errno_or_speed(
    allowed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, left = threading.Thread.start, [None] * allowed

    def scarce(thread: threading.Thread) -> None:
        if thread.name == "network" and not left:
            raise RuntimeError("can't start new thread")
        if thread.name == "network":
            left.pop()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", scarce)
    network = Network(0)
    for _ in range(2):
        if allowed:
            assert await asyncio.gather(*(network.run(lambda n=n: n) for n in range(3))) == [0, 1, 2]  # type: ignore[misc]
        else:
            with pytest.raises(OSError, match="a thread for the target's network"):
                await network.run(lambda: None)
    network.close()


def refused(pid: int) -> str:
    try:
        asyncio.run(Network(pid).run(lambda: None))
    except PermissionError as error:
        return str(error.strerror)
    return "entered"


async def test_without_the_right_it_says_which() -> None:
    async with Sandbox.start() as sandbox:
        other = as_user(USER, frozenset(), lambda: refused(sandbox.pid))
        assert (
            other
            == f"the network namespace of process {sandbox.pid} may not be entered: the agent lacks SYS_PTRACE"
        )
        pid, root = sandbox.pid, as_user(0, frozenset({1, 19}), lambda: refused(sandbox.pid))
        assert root == f"the network namespace of process {pid} may not be entered: the agent lacks SYS_ADMIN"


@pytest.mark.parametrize("network", [{"dns": False}, {"outgoing": False}], ids=["outgoing", "dns"])
async def test_a_session_without_the_right_ends_before_the_program_with_what_gives_it(network: Any) -> None:
    without = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")
    feature = "outgoing" if "dns" in network else "dns"
    async with Sandbox.start() as sandbox:
        ran = await run(sandbox.pid, "echo", "started", network=network, prefix=without)
    lines = ran.err.splitlines()[-2:]
    assert (ran.status, ran.out) == (125, "")
    assert lines == [
        f"pymirror: error: feature network.{feature}: the network namespace of process {sandbox.pid} may not be "
        "entered: the agent lacks SYS_ADMIN",
        "  the agent has the rights of who runs pymirror: run it as root",
    ]


async def test_the_namespace_shared_is_seen_without_any_right() -> None:
    """As an ephemeral container beside a target of another user."""
    async with Sandbox.start() as sandbox:
        assert as_user(USER, frozenset(), lambda: shared(os.getppid())) is True
        assert as_user(USER, frozenset(), lambda: shared(sandbox.pid)) is False


def own_sandbox() -> int:
    """A child in namespaces that it made without being root; ended by `in_own_sandbox`."""
    libc = ctypes.CDLL(None, use_errno=True)
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        made = libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0
        libc.prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE, which another user's test has taken from us
        os.write(told, b"1" if made else b"0")
        signal.pause()
        os._exit(1)
    assert os.read(ready, 1) == b"1"
    return child


def in_own_sandbox() -> list[object]:
    """Where an ordinary user's agent works, with the rights its threads have left, and where the target is."""
    pid = own_sandbox()
    try:
        there = os.stat(f"/proc/{pid}/ns/net").st_ino
        target = find_target(parse(["--layer-key=none", f"--pid={pid}"]))
        found = asyncio.run(
            target.in_network(lambda: (os.stat("/proc/thread-self/ns/net").st_ino, rights_left()[0]))
        )
        return [found[0] == there, found[1], os.stat("/proc/self/ns/net").st_ino == there]
    finally:
        os.kill(pid, signal.SIGKILL)


def test_an_ordinary_users_own_sandbox_is_entered() -> None:
    assert as_user(USER, frozenset(), in_own_sandbox) == [True, "0" * 16, False]
