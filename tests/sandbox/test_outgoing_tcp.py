"""TCP from a program through everything to servers that only the target's network has."""

from __future__ import annotations

import asyncio
import errno
import sys
from contextlib import suppress
from typing import Any

import pytest

from tests.sandbox.pod_network import PROGRAMS, Pod

pytestmark = [pytest.mark.sandbox, pytest.mark.asyncio(loop_scope="module")]

TCP = PROGRAMS / "outgoing_tcp.py"


async def case(there: Pod, name: str, **outgoing: Any) -> Any:
    return (await there.run(sys.executable, TCP, name, feature={"outgoing": outgoing})).json()


async def test_names_are_the_targets_for_all_who_hold_the_socket(there: Pod) -> None:
    assert await case(there, "names") == [
        [["127.0.0.1", 7001], True],
        [["10.77.0.1", 7001], True],
        [["::1", 7001], True],
        [["fd77::1", 7001], True],
        [["::ffff:10.77.0.1", 7001], "::ffff:10.77.0.1"],
        [["10.77.0.1", 7001], "10.77.0.1"],
    ]


async def test_no_address_is_loopback(there: Pod) -> None:
    assert await case(there, "no_address") == [
        [host] * 2 for host in ("127.0.0.1", "::1", "::ffff:127.0.0.1")
    ]


async def test_a_socket_bound_to_loopback_reaches_the_target(there: Pod) -> None:
    assert await case(there, "bound")


async def test_a_failed_connect_has_the_targets_errno(there: Pod) -> None:
    wanted = ["ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH", "ENETUNREACH"]
    assert await case(there, "failures") == [wanted, wanted]


async def test_what_the_kernel_refuses_is_refused_as_ever(there: Pod) -> None:
    assert await case(there, "states") == ["EISCONN", "ECONNREFUSED", 0, "10.77.0.1", "ENOTCONN"]


async def test_a_connect_that_is_polled_for(there: Pod) -> None:
    refused = [errno.EINPROGRESS, errno.ECONNREFUSED, 0]
    wanted = [
        *("EINPROGRESS", False, 0, 0, errno.EISCONN, "10.77.0.1"),
        *("EINPROGRESS", True, errno.ECONNREFUSED),
        *refused,
        *refused,
    ]
    assert await case(there, "polled") == wanted
    assert (await there.truth(sys.executable, TCP, "polled")).json() == wanted


async def test_fast_open(there: Pod) -> None:
    reached = [4, ["10.77.0.1", True], "EINPROGRESS", "data", "data", "ECONNREFUSED", True]
    assert await case(there, "fast_open") == reached


async def test_link_local_addresses(there: Pod) -> None:
    (peer, name, same), failed = await case(there, "zones")
    assert peer == ["fe80::77", 7001, 0, 1] and name[::3] == ["fe80::77", 1]
    assert same and failed == "ENODEV"


async def test_a_socket_bound_to_a_device_stays_on_this_machine(there: Pod) -> None:
    *devices, marked = await case(there, "devices")
    assert [True, True] in devices and [False, True] not in devices and marked == "10.77.0.1"


async def test_half_close(there: Pod) -> None:
    assert await case(there, "half_close") is True


async def test_a_reset_is_a_reset_on_the_other_side(there: Pod) -> None:
    assert await case(there, "resets") == ["ECONNRESET", "reset"]


async def test_a_port_of_the_programs_own_stays_here(there: Pod) -> None:
    assert await case(there, "listeners") == [True, True, "child", "127.0.0.1"]


@pytest.mark.parametrize("wait", [0.5, 0.0])
async def test_many_at_once_from_one_event_loop(there: Pod, wait: float) -> None:
    assert await case(there, "many", nonblocking_wait=wait) == 200


async def test_a_connect_that_nobody_answers(there: Pod) -> None:
    limits = {"connect_timeout": 1.0, "nonblocking_wait": 0.1}
    polled = ["EINPROGRESS", "EALREADY", "ENOTCONN", "ECONNREFUSED"]
    assert await case(there, "timed_out", **limits) == ["ETIMEDOUT", *polled]
    assert await case(there, "own_limit", nonblocking_wait=0.1) == "timed out"
    assert await case(there, "interrupted") == "the alarm"


@pytest.mark.parametrize(
    ("kind", "port", "size"), [("SOCK_STREAM", 7008, 8 << 20), ("SOCK_DGRAM", 7013, 1000)], ids=["tcp", "udp"]
)
async def test_what_was_sent_before_the_end_arrives(there: Pod, kind: str, port: int, size: int) -> None:
    script = (
        f"import os, socket; s = socket.socket(type=socket.{kind}); s.connect(('10.77.0.1', {port}))\n"
        f"s.sendall(b'x' * {size}); os._exit(0)"
    )
    ran = await there.run(sys.executable, "-c", script)
    assert ran.status == 0
    assert int(await asyncio.wait_for(there.servers.readline(), 20)) == size


async def test_what_was_sent_arrives_also_where_the_program_ends_as_soon_as_it_is_connected(
    there: Pod,
) -> None:
    script = (
        "import os, socket; s = socket.socket(); s.settimeout(20); s.connect(('10.77.0.1', 7008))\n"
        "s.send(b'x' * 1000); os._exit(0)"
    )
    for _ in range(5):
        feature = {"outgoing": {"nonblocking_wait": 0}}
        ran = await there.run(sys.executable, "-c", script, feature=feature)
        assert ran.status == 0, ran.err
        assert int(await asyncio.wait_for(there.servers.readline(), 20)) == 1000


async def test_unix_sockets_of_the_target(there: Pod) -> None:
    found = await case(there, "unix_sockets", unix_streams=["^/app/", "^side-"])
    names = ("/app/stream.sock", "\0side-car", "/app/packets.sock")
    echoed = [[[name, 3, True], [name, 70000, True], ""] for name in names]
    echoed[2][0][2] = echoed[2][1][2] = 1  # packets stay whole
    assert found == [*(part for each in echoed for part in each), "ENOENT", "ECONNREFUSED", "ENOENT"]


@pytest.mark.parametrize(
    ("outgoing", "reached"),
    [
        ({"filter": {"remote": ["127.0.0.64/26"]}}, [False, True, False]),
        ({"filter": {"remote": ["tcp://:7080", "127.0.0.1:7001"]}}, [True, False, True]),
        ({"filter": {"local": ["127.0.0.77", "udp://127.0.0.1"]}}, [True, False, True]),
        ({"filter": {"remote": ["no-such-name.invalid", "[::1]:7080"]}}, [False, False, True]),
        ({"filter": {"remote": ["localhost:7001"]}}, [True, False, False]),
        ({"ignore_localhost": True}, [False, False, False]),
        ({"tcp": False}, [False, False, False]),
    ],
    ids=str,
)
async def test_what_is_the_targets(there: Pod, outgoing: dict[str, Any], reached: list[bool]) -> None:
    assert await case(there, "everywhere", **outgoing) == reached


async def test_each_decision_is_traced_with_its_rule(there: Pod) -> None:
    ran = await there.run(
        *(sys.executable, TCP, "everywhere"),
        feature={"outgoing": {"filter": {"remote": ["127.0.0.77:7001"]}}},
    )
    assert "connect tcp 127.0.0.77:7001 -> target (outgoing.filter remote '127.0.0.77:7001')" in ran.err
    assert "connect tcp [::1]:7080 -> this machine (outgoing.filter remote: no entry matches)" in ran.err


async def test_a_stranger_at_the_relay_is_turned_away(there: Pod) -> None:
    """Another user's connection to the relay's port gets nothing, and the program's own goes on."""
    script = (
        "import os, socket, sys\n"
        "s = socket.create_connection(('10.77.0.1', 7001)); s.recv(100)\n"
        "tables = [line.split() for line in open('/proc/net/tcp')][1:]\n"
        "[own] = [f for f in tables if f[9] == os.readlink(f'/proc/self/fd/{s.fileno()}')[8:-1]]\n"
        "print(int(own[2].split(':')[1], 16), flush=True); sys.stdin.readline()\n"
        "s.sendall(b'still here'); print(s.recv(100).decode())\n"
    )
    command = [sys.executable, "-m", "pymirror.cli.main", "exec", "-t", f"process/{there.pid}"]
    made = await asyncio.create_subprocess_exec(
        *command, "--fs-mode", "local", "--", sys.executable, "-c", script,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert made.stdin is not None and made.stdout is not None
    port = int(await made.stdout.readline())
    for words in (b"x" * 16, b"short"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(words)
        with suppress(OSError):  # turned away already
            writer.write_eof()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 20)
        writer.close()
    made.stdin.write(b"\n")
    assert await made.stdout.readline() == b"still here\n"
    assert await made.wait() == 0
