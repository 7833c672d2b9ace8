"""What a target shows to an agent of the same user without any capability, and what to another."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable

import pytest

from pymirror.agent.rights import confine
from pymirror.agent.target import ProcessTarget, open_inside
from pymirror.core.errors import SupportError
from pymirror.runtimes.process.sandbox import Sandbox

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become other users"),
]

USER, OTHER = 1000, 1001


def as_user(uid: int, keep: frozenset[int], work: Callable[[], object]) -> object:
    """What `work` returns in a child of that user with these capabilities alone."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if uid:
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
            answer = _confined(keep, work)
            os.write(writing, json.dumps(answer).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return json.loads(answer)


def _confined(keep: frozenset[int], work: Callable[[], object]) -> object:
    confine(keep)
    return work()


def look(pid: int) -> dict[str, object]:
    """What can be seen of the target; a refusal in its own words."""
    try:
        target = ProcessTarget(pid)
    except SupportError as error:
        return {"refused": error.message}
    try:
        environ: object = target.environ()[b"GREETING"].decode()
    except PermissionError as error:
        environ = str(error.strerror)
    with open(open_inside(target.root, b"/data/greeting.txt"), "rb") as file:
        greeting = file.read().decode()
    return {"environ": environ, "hostname": target.hostname().decode(), "file": greeting, "uid": target.uid}


SEEN = {"environ": "hello", "hostname": "pod-1000", "file": "hello from the pod\n", "uid": USER}


async def test_same_user_without_capabilities() -> None:
    async with Sandbox.start(uid=USER, hostname="pod-1000") as sandbox:
        assert as_user(USER, frozenset(), lambda: look(sandbox.pid)) == SEEN


async def test_other_user_is_refused_by_name() -> None:
    async with Sandbox.start(uid=USER, hostname="pod-1000") as sandbox:
        seen = as_user(OTHER, frozenset(), lambda: look(sandbox.pid))
    assert isinstance(seen, dict)
    assert "SYS_PTRACE" in seen["refused"]


async def test_root_with_ptrace_alone_lacks_the_environment() -> None:
    async with Sandbox.start(uid=USER, hostname="pod-1000") as sandbox:
        seen = as_user(0, frozenset({19}), lambda: look(sandbox.pid))
    assert isinstance(seen, dict)
    assert "DAC_OVERRIDE" in seen["environ"]
    assert seen["file"] == SEEN["file"]


async def test_root_with_what_the_agent_keeps() -> None:
    async with Sandbox.start(uid=USER, hostname="pod-1000") as sandbox:
        assert as_user(0, frozenset({1, 19}), lambda: look(sandbox.pid)) == SEEN


async def test_host_name_is_the_kernels_where_the_right_is_there() -> None:
    """Root enters the UTS namespace; without that right /etc/hostname is the next to be believed."""
    everything = frozenset(range(41))
    async with Sandbox.start(uid=USER, hostname="true-name") as sandbox:
        sandbox.write("/etc/hostname", b"written-name\n")
        names = [
            as_user(uid, keep, lambda: look(sandbox.pid))["hostname"]  # type: ignore[index]
            for uid, keep in ((0, everything), (0, frozenset({1, 19})), (USER, frozenset()))
        ]
    assert names == ["true-name", "written-name", "written-name"]


def test_the_agent_takes_the_descriptors_it_may_have() -> None:
    def limits() -> tuple[int, int]:
        return resource.getrlimit(resource.RLIMIT_NOFILE)

    _, hard = limits()
    before = limits()
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard // 2, hard))
    try:
        assert as_user(USER, frozenset(), limits) == [hard, hard]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
