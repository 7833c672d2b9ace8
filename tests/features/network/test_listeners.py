"""Whose a port of this machine is, as the kernel tells it."""

from __future__ import annotations

import os
import socket
import struct
import subprocess

import pytest

from pymirror.features.network.listeners import Listeners, sockets
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


def test_an_error_of_the_kernel_is_raised() -> None:
    with pytest.raises(FileNotFoundError):
        read(struct.pack("=IHHIIi", 36, 2, 0, 0, 0, -2) + b"\0" * 16, [])
