"""The agent half of `fs` on its worst days: cancelled, stuck, flooded, and news that no folder's watch tells."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from pymirror.core.call import Call, Errno, OtherPath, Verdict
from pymirror.core.feature import Launch
from pymirror.core.testing import FakeTarget, Pair, pair
from pymirror.features.fs import messages as m
from pymirror.features.fs import walk
from pymirror.features.fs.agent import Agent
from pymirror.features.fs.config import Config
from pymirror.features.fs.layer import Layer
from pymirror.features.fs.mount import _detached

pytestmark = pytest.mark.sandbox

EXEC = "import sys; from pymirror.cli.main import main; sys.exit(main())"


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextlib.asynccontextmanager
async def halves(root: Path | str, pid: int = 1, **config: Any) -> AsyncIterator[Pair[Layer, Agent]]:
    with FakeTarget(root, pid=pid) as target:
        async with pair(Layer, Agent, Config(**config), target) as both:
            yield both


async def until(condition: Any) -> None:
    """What another thread does soon: looked at again and again, bounded."""
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("did not become true")


# Cancelled, stuck -------------------------------------------------------------------------------


async def test_a_cancelled_question_leaves_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"x" * 300_000)  # too much for the loop: a thread's work
    async with halves(tmp_path) as both:
        held = (await both.layer.peer.request(m.Fetch(b"/", b"file", True, 1))).handle
        before = descriptors()
        go, inside, real = threading.Event(), threading.Semaphore(0), walk.read

        def slow(*args: int) -> bytes:
            inside.release()
            go.wait(10)
            return real(*args)

        monkeypatch.setattr(walk, "read", slow)
        monkeypatch.setattr(walk, "read_calmly", lambda *_: (_ for _ in ()).throw(walk.NotCalm()))
        asked: list[Any] = [m.Fetch(b"/", b"file", True, 300_000), m.Read(held, 0, 1000)] * 5
        tasks = [asyncio.ensure_future(both.layer.peer.request(one)) for one in asked]
        for _ in asked:
            await asyncio.to_thread(inside.acquire, True, 10)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        go.set()
        await until(lambda: descriptors() <= before)


@pytest.fixture
def hung(tmp_path: Path) -> Iterator[Path]:
    """A folder on which a file system is mounted whose every answer is awaited for ever."""
    place = tmp_path / "hung"
    place.mkdir()
    made = _detached()
    libc = ctypes.CDLL(None, use_errno=True)
    move_mount, empty_path = 429, 4
    assert libc.syscall(move_mount, made.root, b"", -100, os.fsencode(place), empty_path) == 0
    try:
        yield place
    finally:
        libc.umount2(os.fsencode(place), 2)
        os.close(made.root)
        os.close(made.device)


async def test_a_file_that_never_answers_ends_in_a_time_out(tmp_path: Path, hung: Path) -> None:
    """Only for who asked: other files are read meanwhile, and the loop was never held."""
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    async with halves("/", timeout=0.3, read_only=[f"^{tmp_path}"]) as both:
        await both.layer.prepare(Launch(["true"], {}, str(tmp_path / "folder")))
        waiting = asyncio.ensure_future(ask(both.layer, "stat", hung / "x"))
        verdict = await ask(both.layer, "stat", tmp_path / "file")
        assert isinstance(verdict, OtherPath)
        late = await waiting
        assert isinstance(late, Errno) and late.code == errno.ETIMEDOUT


async def ask(layer: Layer, name: str, path: Path) -> Verdict:
    answer = layer.path(Call(name, os.fsencode(path)))
    return answer if isinstance(answer, Verdict) else await answer


def test_a_session_ends_although_a_file_never_answers(tmp_path: Path, hung: Path) -> None:
    """The agent's thread waits in the kernel for ever; the agent and the session do not."""
    target = subprocess.Popen(["sleep", "3600"])
    words = f"cat {hung}/x & while ! grep -q fuse_ /proc/[0-9]*/task/*/stack; do :; done; exit 7"
    command = [
        sys.executable,
        "-c",
        EXEC,
        "exec",
        "-f",
        "-",
        "-t",
        f"process/{target.pid}",
        "--",
        "sh",
        "-c",
        words,
    ]
    try:
        done = subprocess.run(
            command,
            input=json.dumps({"feature": {"fs": {"read_only": [f"^{tmp_path}"]}}}).encode(),
            timeout=60,
            stderr=subprocess.PIPE,
            check=False,
        )
        assert done.returncode == 7, done.stderr
        assert not agents_of(target.pid)
    finally:
        target.kill()
        target.wait()


def agents_of(pid: int) -> list[bytes]:
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.append(file.read_bytes())
    return [line for line in lines if b"--pid=%d" % pid in line]


# News -------------------------------------------------------------------------------------------


async def test_a_layer_that_does_not_keep_up_is_told_of_everything(tmp_path: Path) -> None:
    async with halves(tmp_path) as both:
        sent: list[m.Changed] = []
        room = asyncio.Event()

        class Full:
            def send(self, message: m.Changed) -> None:
                if not room.is_set():
                    raise BlockingIOError(errno.EAGAIN, "full")
                sent.append(message)

            async def drained(self) -> None:
                await room.wait()

        both.agent.peer = Full()  # type: ignore[assignment]
        for number in range(5):
            both.agent._changed([b"/%d" % number], [], False)
        room.set()
        await until(lambda: sent)
        both.agent._changed([b"/later"], [], False)
        assert sent == [m.Changed([], [], True), m.Changed([b"/later"], [])]


async def content(both: Pair[Layer, Agent], path: Path) -> bytes:
    verdict = await ask(both.layer, "open", path)
    assert isinstance(verdict, OtherPath)

    def read() -> bytes:
        with open(os.open(verdict.path, os.O_RDONLY, dir_fd=verdict.root), "rb") as file:
            return file.read()

    return await asyncio.to_thread(read)


async def becomes(both: Pair[Layer, Agent], path: Path, wanted: bytes) -> None:
    for _ in range(500):
        if (found := await content(both, path)) == wanted:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"{path} is still {found!r}")


async def test_a_change_through_another_name_of_the_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "root/shown").mkdir(parents=True)
    (tmp_path / "root/elsewhere").mkdir()
    (tmp_path / "root/shown/file").write_bytes(b"one")
    os.link(tmp_path / "root/shown/file", tmp_path / "root/elsewhere/file")
    async with halves(tmp_path / "root") as both:
        await both.layer.prepare(Launch(["true"], {}, str(tmp_path)))
        for _ in range(2):
            assert await content(both, Path("/shown/file")) == b"one"
        (tmp_path / "root/elsewhere/file").write_bytes(b"two")
        await becomes(both, Path("/shown/file"), b"two")


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A process with mounts of its own, and a way to run a command among them: nsenter."""
    process = subprocess.Popen(["unshare", "-m", "sh", "-c", "echo; exec sleep 3600"], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline()
    try:
        yield process.pid, tmp_path
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def inside(pid: int, *command: str) -> None:
    subprocess.run(["nsenter", "-t", str(pid), "-m", *command], check=True)


async def test_mounts_in_the_target_are_told(apart: tuple[int, Path]) -> None:
    """A file that is mounted over another, as a Secret's subPath is, and a folder that gets covered."""
    pid, folder = apart
    (folder / "shown").mkdir()
    (folder / "tmp").mkdir()
    for name in ("shown/file", "source", "other"):
        (folder / name).write_bytes(name.encode())
    inside(pid, "mount", "--bind", str(folder / "source"), str(folder / "shown/file"))
    async with halves(f"/proc/{pid}/root", pid, read_only=[f"^{folder}"]) as both:
        await both.layer.prepare(Launch(["true"], {}, str(folder / "tmp")))
        for _ in range(2):
            assert await content(both, folder / "shown/file") == b"source"
        (folder / "source").write_bytes(b"changed")
        await becomes(both, folder / "shown/file", b"changed")
        inside(pid, "umount", "-l", str(folder / "shown/file"))
        await becomes(both, folder / "shown/file", b"shown/file")
        inside(pid, "mount", "--bind", str(folder / "other"), str(folder / "shown/file"))
        await becomes(both, folder / "shown/file", b"other")
        inside(pid, "mount", "-t", "tmpfs", "tmpfs", str(folder / "shown"))
        inside(pid, "sh", "-c", f"echo -n covered > {folder}/shown/file")
        await becomes(both, folder / "shown/file", b"covered")


async def test_a_listing_of_several_parts_is_one_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(m, "MOST_ENTRIES", 10)
    for number in range(35):
        (tmp_path / f"{number:02}").write_bytes(b"")
    async with halves(tmp_path) as both:
        first: m.Listed = await both.layer.peer.request(m.List(b"/"))
        (tmp_path / "00").unlink()
        (tmp_path / "new").write_bytes(b"")
        count, cursor = first.count, first.cursor
        while cursor:
            reply: m.Listed = await both.layer.peer.request(m.List(b"/", cursor))
            count, cursor = count + reply.count, reply.cursor
        assert count == 35
        with pytest.raises(OSError) as caught:
            await both.layer.peer.request(m.List(b"/", first.cursor))
        assert caught.value.errno == errno.ESTALE
