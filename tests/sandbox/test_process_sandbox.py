"""The pod-like sandbox: what is in it, and that nothing of it remains."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pymirror.core.errors import SupportError
from pymirror.runtimes.process.sandbox import Sandbox

pytestmark = pytest.mark.sandbox


def proc_file(pid: int, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()


def mounts() -> str:
    return Path("/proc/self/mountinfo").read_text(encoding="utf-8")


async def test_it_looks_like_a_pod() -> None:
    async with Sandbox.start(hostname="pod-x", environ={"A": "b"}) as sandbox:
        root = Path(sandbox.root)
        assert (root / "data/greeting.txt").read_bytes() == b"hello from the pod\n"
        assert (root / "etc/hostname").read_bytes() == b"pod-x\n"
        assert os.readlink(root / "data/current") == "/data/store.json"
        assert proc_file(sandbox.pid, "environ") == b"A=b\0"
        for kind in ("mnt", "net", "pid", "uts", "ipc"):
            other = os.stat(f"/proc/{sandbox.pid}/ns/{kind}").st_ino
            assert other != os.stat(f"/proc/self/ns/{kind}").st_ino, kind
        status = proc_file(sandbox.pid, "status")
        assert f"NSpid:\t{sandbox.pid}\t1\n".encode() in status
        # The machine's own files are not in it, its programs are, and cannot be changed.
        assert not (root / "old").exists() and not (root / "root").exists()
        assert os.statvfs(root / "usr").f_flag & os.ST_RDONLY
        sandbox.write("/data/new/later.txt", b"later")
        assert (root / "data/new/later.txt").read_bytes() == b"later"


async def test_nothing_remains() -> None:
    before, names = mounts(), sorted(os.listdir("/tmp"))
    async with Sandbox.start() as sandbox:
        pidfd = os.pidfd_open(sandbox.pid)
        assert mounts() == before
    try:
        with pytest.raises(ProcessLookupError):
            os.kill(sandbox.pid, 0)
    finally:
        os.close(pidfd)
    assert mounts() == before
    assert [name for name in sorted(os.listdir("/tmp")) if name.startswith("pod") and name not in names] == []


async def test_a_program_that_is_not_there_is_said() -> None:
    with pytest.raises(SupportError, match="the sandbox cannot be made: FileNotFoundError"):
        async with Sandbox.start(command=["/bin/no-such-program"]):
            pytest.fail("it started")
