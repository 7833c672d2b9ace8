"""The agent half of `fs` on its worst days: cancelled, stuck, flooded, and news that no folder's watch tells."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import resource
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from unserved import dead, mounted, unserved

from pymirror.core.call import Call, Errno, OtherPath, Verdict
from pymirror.core.feature import Launch
from pymirror.core.testing import FakeTarget, Pair, pair
from pymirror.features.fs import agent, walk
from pymirror.features.fs import messages as m
from pymirror.features.fs.agent import THREADS, Agent
from pymirror.features.fs.attr import Attr, unpack_entries
from pymirror.features.fs.config import Config
from pymirror.features.fs.layer import Layer

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
        asked: list[Any] = [m.Fetch(b"/", b"file", True, 300_000), m.Read(held, 0, 1000)] * THREADS
        tasks = [asyncio.ensure_future(both.layer.peer.request(one)) for one in asked]
        for _ in range(THREADS):
            await asyncio.to_thread(inside.acquire, True, 10)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        go.set()
        await until(lambda: descriptors() <= before)


@pytest.fixture
def hung(tmp_path: Path) -> Iterator[Path]:
    """A folder on which a file system is mounted whose every answer is awaited for ever."""
    with unserved(tmp_path / "hung") as device:
        yield tmp_path / "hung"
        os.close(device)


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
        assert sent == [m.Changed([], [], True, 2), m.Changed([b"/later"], [], turn=3)]


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


async def test_a_change_through_a_name_made_later_is_told(tmp_path: Path) -> None:
    """A new link in another folder is news for that folder alone: the file is watched itself once it was read."""
    for name in ("root/shown", "root/elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "root/shown/file").write_bytes(b"one")
    async with halves(tmp_path / "root") as both:
        await both.layer.prepare(Launch(["true"], {}, str(tmp_path)))
        for _ in range(2):
            assert await content(both, Path("/shown/file")) == b"one"
        os.link(tmp_path / "root/shown/file", tmp_path / "root/elsewhere/file")
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


async def test_a_listing_is_cut_where_its_names_are_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "MOST_PART", 4000)
    wanted = {b"%02d" % number: b"x" * 800 for number in range(20)}
    for name, link in wanted.items():
        os.symlink(link, os.fsencode(tmp_path) + b"/" + name)
    async with halves(tmp_path) as both:
        found, cursor = {}, 0
        while cursor or not found:
            reply: m.Listed = await both.layer.peer.request(m.List(b"/", cursor))
            assert len(reply.entries) <= 4000
            found |= {name: link for name, _, link, *_ in unpack_entries(reply.entries, reply.count)}
            cursor = reply.cursor
        assert found == wanted


# Bounds and what is broken ----------------------------------------------------------------------


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_many_folders_with_few_descriptors(tmp_path: Path, few_descriptors: None) -> None:
    for number in range(400):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}/file").write_bytes(b"%d" % number)
    async with halves(tmp_path) as both:
        for number in [*range(400)] * 2:
            reply: m.Fetched = await both.layer.peer.request(m.Fetch(b"/", b"%d/file" % number, True, 100))
            assert (reply.errno, reply.data) == (0, b"%d" % number)


async def test_an_open_whose_first_read_fails_is_an_open(tmp_path: Path) -> None:
    """The read itself says what is wrong, and the file is held under a number that the layer has."""
    async with halves("/") as both:
        await both.layer.peer.request(m.Fetch(b"/", b"proc", True))  # the folder on the way stays open
        before = descriptors()
        reply: m.Fetched = await both.layer.peer.request(m.Fetch(b"/", b"proc/self/mem", True, 100))
        assert (reply.errno, reply.data) == (0, b"") and reply.handle
        with pytest.raises(OSError) as caught:
            await both.layer.peer.request(m.Read(reply.handle, 0, 100))
        assert caught.value.errno == errno.EIO
        both.layer.peer.send(m.Release([reply.handle]))
        await until(lambda: descriptors() <= before)


async def named(root: Path | str, folder: bytes) -> dict[bytes, tuple[Attr, bool]]:
    async with halves(root) as both:
        reply: m.Listed = await both.layer.peer.request(m.List(folder))
        found = unpack_entries(reply.entries, reply.count)
        return {name: (attr, told) for name, attr, _, told, _ in found}


async def test_a_listing_beside_a_mount_that_never_answers(tmp_path: Path, hung: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    found = await named("/", os.fsencode(tmp_path))
    attr, told = found[b"hung"]
    assert (attr.mode, attr.dev, told) == (stat.S_IFDIR, 0, False)
    assert found[b"file"][0].size == 1 and found[b"file"][1]


async def test_a_listing_beside_a_mount_whose_server_has_died(tmp_path: Path) -> None:
    """Where the agent does not know the mounts (here: the paths are others), it finds out by trying."""
    (tmp_path / "file").write_bytes(b"x")
    with dead(tmp_path / "dead"):
        with pytest.raises(OSError) as caught:
            os.stat(tmp_path / "dead")
        assert caught.value.errno == errno.ENOTCONN
        found = await named(tmp_path, b"/")
    attr, told = found[b"dead"]
    assert (attr.mode, attr.dev, told) == (stat.S_IFDIR, 0, False)
    assert found[b"file"][0].size == 1 and found[b"file"][1]


async def test_a_device_number_that_is_used_again(tmp_path: Path) -> None:
    """A tmpfs is gone and procfs got its number: it tells nobody of changes, whatever the tmpfs did."""
    place = tmp_path / "place"
    place.mkdir()
    async with halves(tmp_path) as both:

        async def look() -> m.Step:
            reply: m.Fetched = await both.layer.peer.request(m.Fetch(b"/", b"place", True))
            return reply.steps[-1]

        with mounted("tmpfs", place):
            before = await look()
        with mounted("proc", place):
            after = await look()
        assert before.watched
        assert Attr.unpack(after.attr).dev == Attr.unpack(before.attr).dev, "the number was not used again"
        assert not after.watched
