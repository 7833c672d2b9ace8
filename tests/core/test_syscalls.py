"""System calls by name."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from pymirror.core.syscalls import syscall


def test_a_call_that_python_does_not_offer() -> None:
    pidfd = os.pidfd_open(os.getpid())
    with (
        socket.socket() as ours,
        socket.socket(fileno=syscall("pidfd_getfd", pidfd, ours.fileno(), 0)) as same,
    ):
        assert os.fstat(same.fileno()).st_ino == os.fstat(ours.fileno()).st_ino
    os.close(pidfd)


def test_its_errno_is_raised() -> None:
    with pytest.raises(OSError, match="pidfd_getfd") as raised:
        syscall("pidfd_getfd", -1, 0, 0)
    assert raised.value.errno == errno.EBADF
