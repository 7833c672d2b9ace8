"""What an agent half sees of a target: this process itself, and a made-up environ."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from pymirror.agent.target import OwnTarget, ProcessTarget, open_inside, parse_environ
from pymirror.core.errors import UserError


@pytest.mark.parametrize(
    ("block", "variables"),
    [
        (b"", {}),
        (b"A=1\0B=\0", {b"A": b"1", b"B": b""}),
        (b"A=x=y\nz\0", {b"A": b"x=y\nz"}),
        (b"A=1\0A=2\0", {b"A": b"1"}),
        (b"title of a process\0=odd\0\0A=1\0", {b"A": b"1"}),
        (b"\xff=\xfe", {b"\xff": b"\xfe"}),
    ],
)
def test_parse_environ(block: bytes, variables: dict[bytes, bytes]) -> None:
    assert parse_environ(block) == variables


@pytest.fixture
def own() -> Iterator[ProcessTarget]:
    target = ProcessTarget(os.getpid())
    yield target
    target.close()


def test_process_target(own: ProcessTarget) -> None:
    assert os.path.samestat(os.fstat(own.root), os.stat("/"))
    assert (own.uid, own.gid) == (os.geteuid(), os.getegid())
    assert own.hostname() == os.uname().nodename.encode()
    with open("/proc/self/environ", "rb") as file:
        assert own.environ() == parse_environ(file.read())


def test_no_such_process() -> None:
    with pytest.raises(UserError, match="no process 4194305"):
        ProcessTarget(4194305)  # above PID_MAX_LIMIT


def test_own_target() -> None:
    target = OwnTarget()
    try:
        assert target.pid == 0
        assert target.environ() == dict(os.environb)
    finally:
        target.close()


def test_open_inside_never_leaves_the_root(tmp_path: os.PathLike[str]) -> None:
    top = os.fspath(tmp_path)
    os.makedirs(f"{top}/etc")
    with open(f"{top}/etc/real", "w", encoding="ascii") as file:
        file.write("inside")
    os.symlink("/etc/real", f"{top}/absolute")
    os.symlink("../../../../../etc/real", f"{top}/etc/up")
    os.symlink("/etc/hostname", f"{top}/out")
    root = os.open(top, os.O_PATH | os.O_DIRECTORY)
    try:
        for path in (b"absolute", b"etc/up", b"/etc/real"):
            with open(open_inside(root, path), "rb") as file:
                assert file.read() == b"inside"
        with pytest.raises(FileNotFoundError):
            open_inside(root, b"out")
    finally:
        os.close(root)
