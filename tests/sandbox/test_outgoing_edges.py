"""The edges of connecting: what a program gets is what it gets in the target's network itself."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from tools import build

from tests.sandbox.pod_network import PROGRAMS, Pod, run

pytestmark = [pytest.mark.sandbox, pytest.mark.asyncio(loop_scope="module")]


async def test_signals_limits_and_odd_addresses(there: Pod, tmp_path: Path) -> None:
    program = tmp_path / "edges"
    await build("gcc", "-O1", "-o", program, PROGRAMS / "edges.c")
    mine, truth = await there.run(program, "10.77.0.1"), await there.truth(program, "10.77.0.1")
    assert mine.out.splitlines() == truth.out.splitlines(), mine.err
    assert len(truth.out.splitlines()) == 7


WITHOUT_IPV6 = 'ip link set lo up; echo 1 > /proc/sys/net/ipv6/conf/lo/disable_ipv6; exec "$@"'


async def test_a_slow_connect_to_ipv6_from_a_machine_that_has_none(there: Pod) -> None:
    """As slow as any that is told "in progress" before the target has answered."""
    program = (
        "import socket, errno, select; s = socket.socket(socket.AF_INET6); s.setblocking(False)\n"
        "print(errno.errorcode[s.connect_ex(('fd77::1', 7001))], *map(len, select.select([], [s], [], 20)))\n"
        "s.setblocking(True); print(s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), s.recv(4))\n"
    )
    ran = await run(
        there.pid,
        sys.executable,
        "-c",
        program,
        network={"dns": False, "outgoing": {"nonblocking_wait": 0}},
        prefix=["unshare", "-n", "sh", "-c", WITHOUT_IPV6, "sh"],
    )
    assert ran.out == "EINPROGRESS 0 1 0\n0 b'fd77'\n", ran.err


async def test_ipv6_of_the_target_from_a_machine_that_has_none(there: Pod) -> None:
    program = (
        "import socket; s = socket.create_connection(('fd77::1', 7001)); print(s.getpeername()[0], end=' ')\n"
        "print(s.recv(100).decode().split()[0] == s.getsockname()[0], end=' ')\n"
        "s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.sendto(b'x', ('fd77::1', 7010))\n"
        "print(*s.recvfrom(9)[1][:2], end=' '); s.connect(('fd77::1', 7099)); s.send(b'')\n"
        "try: s.recv(1)\n"
        "except ConnectionRefusedError: print('refused')\n"
    )
    ran = await run(
        there.pid,
        sys.executable,
        "-c",
        program,
        network={"dns": False},
        prefix=["unshare", "-n", "sh", "-c", WITHOUT_IPV6, "sh"],
    )
    assert ran.out == "fd77::1 True fd77::1 7010 refused\n", ran.err


@pytest.mark.parametrize("option", ["SO_REUSEADDR", "SO_REUSEPORT"])
async def test_one_port_for_connections_to_several_places(there: Pod, option: str) -> None:
    """At once and one after the other: they differ in where they go to."""
    program = (
        "import socket\n"
        "def bound(port):\n"
        f"    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.{option}, 1)\n"
        "    s.bind(('0.0.0.0', port)); return s\n"
        "def greeted(s, port):\n"
        "    s.connect(('10.77.0.1', port)); return s.getpeername() == ('10.77.0.1', port)\n"
        "first = bound(0); port = first.getsockname()[1]; second = bound(port)\n"
        "print(greeted(first, 7001), greeted(second, 7002), end=' ')\n"
        "second.close(); print(greeted(bound(port), 7003))\n"
    )
    ran = await there.run(sys.executable, "-c", program)
    assert ran.out.split() == ["True"] * 3, ran.err


async def test_a_network_namespace_of_the_programs_own_is_left_alone(there: Pod) -> None:
    """As in a container it starts: what is there is its own, and there is no way out."""
    program = (
        "import socket, errno; server = socket.create_server(('127.0.0.1', 0))\n"
        "s = socket.create_connection(server.getsockname()); print(s.getsockname() == server.accept()[1])\n"
        "print(socket.socket().connect_ex(('10.77.0.1', 7001)) == errno.ENETUNREACH)\n"
        "print(socket.socket(socket.AF_UNIX).connect_ex('\\0side-car') == errno.ECONNREFUSED)\n"
    )
    words = ("unshare", "-n", "sh", "-c", 'ip link set lo up; exec "$@"', "sh", sys.executable, "-c", program)
    ran = await there.run(*words, feature={"outgoing": {"unix_streams": ["side-car"]}})
    assert ran.out.split() == ["True"] * 3, ran.err


async def test_a_pymirror_that_is_killed_ends_no_connection_as_if_it_were_complete(
    there: Pod, tmp_path: Path
) -> None:
    """Neither the program's end nor the server's, which tells at another port that it was reset."""
    found = tmp_path / "found"
    assert (await there.run(sys.executable, PROGRAMS / "outlives.py", "10.77.0.1", found)).status == -9
    program = "import socket; print(socket.create_connection(('10.77.0.1', 7006)).recv(100).decode())"
    assert (await there.truth(sys.executable, "-c", program)).out.strip() == "reset"
    for _ in range(1000):
        if text := found.read_text():
            break
        await asyncio.sleep(0.02)
    assert text == "ConnectionResetError"
