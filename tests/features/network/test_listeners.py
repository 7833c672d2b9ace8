"""Whose a port of this machine is, as the kernel tells it."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
import subprocess
from collections.abc import Collection
from contextlib import ExitStack

import pytest

from pymirror.features.network.listeners import Listeners, Place, sockets
from pymirror.features.network.outgoing.borrow import Holders, cookie_of
from pymirror.features.network.sockdiag import read


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_what_listens_is_found_and_what_is_connected_is_not(family: int, host: str) -> None:
    with socket.create_server((host, 0), family=family) as server:
        port = server.getsockname()[1]
        with (
            socket.create_connection((host, port)) as client,
            socket.socket(family, socket.SOCK_DGRAM) as bound,
        ):
            bound.bind((host, 0))
            assert sockets("tcp", port) == {os.fstat(server.fileno()).st_ino: port}
            assert os.fstat(client.fileno()).st_ino not in sockets("tcp")
            assert sockets("udp")[os.fstat(bound.fileno()).st_ino] == bound.getsockname()[1]
            assert Listeners(os.getpid(), b"no such mark").of("tcp", port).endswith(f"({os.getpid()})")
            assert Listeners(os.getpid(), b"no such mark").of("udp", bound.getsockname()[1])
        assert Listeners(os.getpid(), b"no such mark").of("tcp", port)
    assert Listeners(os.getpid(), b"no such mark").of("tcp", port) == ""


def test_what_a_process_outside_the_program_has_is_not_the_programs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
            assert Listeners(child.pid, b"no such mark").of("tcp", server.getsockname()[1]) == ""


class Counted(Listeners):
    walks = 0

    def holders(self, wanted: Collection[Place]) -> dict[Place, tuple[int, int]]:
        self.walks += 1
        return super().holders(wanted)


async def test_many_sockets_are_looked_for_together() -> None:
    ours = Counted(os.getpid(), b"no such mark")
    holders = Holders(lambda: ours)
    with ExitStack() as open_now:
        socks = [open_now.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(50)]
        places = [Place(socket.IPPROTO_TCP, sock.getsockname()[1], cookie_of(sock)) for sock in socks]
        nobody = Place(socket.IPPROTO_TCP, 1, 1)
        first = asyncio.ensure_future(holders.find(nobody))
        await asyncio.sleep(0)  # its walk has begun, so the others are for the next
        found = await asyncio.gather(*map(holders.find, [*places, nobody]))
        assert found == [*((os.getpid(), sock.fileno()) for sock in socks), None]
        assert await first is None
        assert ours.walks == 2
        held = await holders.hold(places[0].protocol, places[0].port, places[0].cookie)
        assert held is not None
        with held:
            assert cookie_of(held) == places[0].cookie
    await holders.aclose()


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "none left"), RuntimeError("a bug")])
async def test_a_walk_that_fails_is_an_error_for_all_who_wait(error: Exception) -> None:
    class Failing(Listeners):
        def holders(self, wanted: Collection[Place]) -> dict[Place, tuple[int, int]]:
            raise error

    holders = Holders(lambda: Failing(0, b""))
    found = await asyncio.gather(*(holders.find(Place(6, n, n)) for n in range(3)), return_exceptions=True)
    assert [isinstance(each, OSError) for each in found] == [True] * 3
    await holders.aclose()


def test_an_error_of_the_kernel_is_raised() -> None:
    with pytest.raises(FileNotFoundError):
        read(struct.pack("=IHHIIi", 36, 2, 0, 0, 0, -2) + b"\0" * 16, [])
