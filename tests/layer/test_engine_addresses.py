"""Socket addresses in the kernel's form and back, and verdicts that do not answer a call."""

from __future__ import annotations

import errno
import socket

import pytest

from pymirror.core.call import Address, Call, Errno, OtherAddress, OtherPath
from pymirror.layer.engines.seccomp.addresses import read, write
from pymirror.layer.engines.seccomp.engine import _fitting

INET, INET6, UNIX = socket.AF_INET, socket.AF_INET6, socket.AF_UNIX


@pytest.mark.parametrize(
    ("address", "domain"),
    [
        (Address("10.1.2.3", 80), INET),
        (Address("10.1.2.3", 80), INET6),  # written IPv4-mapped, read as what it means
        (Address("fd00::1", 65535), INET6),
        (Address("fe80::1%3", 1), INET6),
        (b"/run/x.sock", UNIX),
        (b"\0abstract", UNIX),
        (b"\0abstract\0", UNIX),
    ],
)
def test_an_address_is_read_as_it_was_written(address: Address | bytes, domain: int) -> None:
    assert read(write(address, domain)) == address


def test_the_kernel_reads_it_the_same() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert write(Address("127.0.0.1", port), INET)[2:8] == port.to_bytes(2, "big") + b"\x7f\0\0\1"
    assert len(write(Address("::1", 1), INET6)) == 28 and len(write(Address("1.2.3.4", 1), INET)) == 16


def test_an_ipv4_socket_takes_no_ipv6_address() -> None:
    with pytest.raises(ValueError, match="no address of an IPv4 socket"):
        write(Address("::1", 1), INET)


def test_trailing_nuls_of_a_path_do_not_count() -> None:
    assert read(write(b"/run/x", UNIX) + b"\0\0\0") == b"/run/x"


@pytest.mark.parametrize(
    ("call", "verdict"),
    [
        (Call("open", b"/x"), OtherAddress("rule", relay=b"/x")),
        (Call("connect", transport="tcp"), OtherPath("rule", root=3, path=b"x")),
    ],
)
def test_a_verdict_that_is_no_answer_is_eio(call: Call, verdict: OtherAddress | OtherPath) -> None:
    found = _fitting(call, verdict)
    assert isinstance(found, Errno) and found.code == errno.EIO
    assert f"is no answer to {call.name}" in found.reason
