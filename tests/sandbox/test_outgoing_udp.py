"""UDP from a program through everything to servers that only the target's network has."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Any

import pytest
from tools import build

from tests.sandbox.pod_network import PROGRAMS, Pod

pytestmark = [pytest.mark.sandbox, pytest.mark.asyncio(loop_scope="module")]


async def case(there: Pod, name: str) -> Any:
    return (await there.run(sys.executable, PROGRAMS / "outgoing_udp.py", name)).json()


async def test_a_connected_socket(there: Pod) -> None:
    sender = ["10.77.0.1", 7010]
    assert await case(there, "connected") == [
        [["10.77.0.1", 7012], True],
        [5, sender],
        [6, sender],
        [60005, sender],
        "7010 named",
    ]


async def test_one_socket_and_several_peers(there: Pod) -> None:
    rounds = [[f"{port} {number}", "10.77.0.1", port] for number in range(3) for port in (7010, 7011)]
    six = [["7010 six parts", host, 7010] for host in ("fd77::1", "::ffff:10.77.0.1")]
    assert await case(there, "unconnected") == rounds + six


async def test_what_the_network_refuses_ends_no_flow(there: Pod) -> None:
    assert await case(there, "errors") == [
        "7010 found",
        errno.ENETUNREACH,
        errno.ENETUNREACH,
    ]


async def test_a_closed_port_is_told_at_the_next_call(there: Pod) -> None:
    each = ["ConnectionRefusedError", "ConnectionRefusedError", True, "ConnectionRefusedError", "7014 found"]
    assert await case(there, "refused") == [*each, *each, "TimeoutError", "ConnectionRefusedError"]


async def test_a_port_of_the_programs_own_stays_here(there: Pod) -> None:
    assert await case(there, "local") == ["mine", "back", ["127.0.0.1", 7010]]


async def test_a_source_in_the_control_data(there: Pod) -> None:
    """What goes to a relay has none, for its source is not this machine's to choose."""
    assert await case(there, "source") == [["127.0.0.2", "7011 x"], ["::1", "7011 x"]]


@pytest.mark.parametrize("compiler", [["gcc"], ["musl-gcc", "-static"]], ids=["glibc", "musl"])
async def test_c_programs_that_check_the_sender(there: Pod, tmp_path: Path, compiler: list[str]) -> None:
    program = tmp_path / "datagrams"
    await build(*compiler, "-O1", "-pthread", "-o", program, PROGRAMS / "datagrams.c")
    ran = await there.run(program, "10.77.0.1")
    assert (ran.status, ran.out.splitlines()) == (
        0,
        [
            "many 2 2 3 1",
            "mixed 1 5 10 7011 mixed",
            "mixed 2 5 10 7010 mixed",
            "cork 7010 onetwo",
            "plain 7010 plain",
            "limit -1 EAGAIN",
            "peek 8 short 4 7010",
            "none -1 EAGAIN",
            "empty 5 16",
            "early 7011",
            "signal -1 EINTR 1",
            "signal 6 0 2",
        ],
    )


MANY = (
    "import errno, socket, time\n"
    "socks = [socket.socket(type=socket.SOCK_DGRAM) for _ in range(30)]\n"
    "def asked(sock):\n"
    "    while True:\n"
    "        try:\n"
    "            sock.settimeout(20); sock.sendto(b'x', ('10.77.0.1', 7010)); return sock.recvfrom(10)\n"
    "        except OSError as error:\n"
    "            if error.errno != errno.EADDRNOTAVAIL: raise\n"
    "            time.sleep(0.05)\n"
    "print({asked(sock) for sock in socks + socks[:5]})\n"
)


async def test_more_sockets_than_there_may_be_flows(there: Pod) -> None:
    ran = await there.run(sys.executable, "-c", MANY, feature={"outgoing": {"max_connections": 15}})
    assert ran.out == "{(b'7010 x', ('10.77.0.1', 7010))}\n", ran.err
