"""Whatever ends `pymirror exec`, nothing remains: no Job, pod, process, mount or file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.cluster

START = "import sys; from pymirror.cli.main import main; sys.exit(main())"
PROGRAM = ("sh", "-c", "echo ready; exec sleep 1000")
WITHIN = 60.0
AGENTS = [pytest.param((), id="job"), pytest.param(("-e",), id="ephemeral")]


def until(true: Callable[[], Any], what: str, within: float = WITHIN) -> Any:
    """Polls for a state outside of this process; the limit is a failure, not a measurement."""
    end = time.monotonic() + within
    while not (found := true()):
        assert time.monotonic() < end, f"not within {within:g} s: {what}"
        time.sleep(0.1)
    return found


class Session:
    """One `pymirror exec` as a user starts it, with a mark to find everything that belongs to it."""

    def __init__(
        self, cluster: Any, folder: Path, *words: str, lease: float = 30, program: tuple[str, ...] = PROGRAM
    ):
        self.mark = f"MARK={uuid.uuid4().hex}"
        self.folder = folder / "tmp"
        self.folder.mkdir()
        config = folder / "config.json"
        config.write_text(json.dumps({"session": {"lease": lease, "heartbeat": lease / 6}}))
        name, value = self.mark.split("=")
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, "exec", "-f", str(config), *words, "--", *program],
            env={**os.environ, **cluster.variables, "TMPDIR": str(self.folder), name: value},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def said(self, words: str) -> str:
        """Waits until stderr has these words; what it said until then."""
        heard = ""
        for line in self.process.stderr:
            heard += line
            if words in line:
                return heard
        pytest.fail(f"never said {words!r}:\n{heard}")

    def ready(self) -> None:
        line = self.process.stdout.readline()
        assert line == "ready\n", (line, self.process.stderr.read())

    def end(self) -> int:
        self.process.stdout.close()
        return self.process.wait(WITHIN)

    def processes(self) -> list[int]:
        """Processes that were started with the session's mark."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    if self.mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found

    def nothing_here(self) -> None:
        until(lambda: not self.processes(), f"processes {self.processes()} end", 15)
        until(lambda: not list(self.folder.iterdir()), f"{list(self.folder.iterdir())} go", 15)
        assert "pymirror" not in Path("/proc/self/mountinfo").read_text()


@pytest.fixture
def target(cluster: Any, namespace: str) -> str:
    cluster.pod(namespace, "web")
    return namespace


@pytest.fixture
def session(cluster: Any, target: str, tmp_path: Path) -> Iterator[Callable[..., Session]]:
    made: list[Session] = []

    def make(*words: str, **more: Any) -> Session:
        made.append(Session(cluster, tmp_path, "-n", target, "-t", "pod/web", *words, **more))
        return made[-1]

    yield make
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()


def nothing_there(cluster: Any, namespace: str, within: float = WITHIN) -> None:
    """No Job, no pod but the target's, every ephemeral container has ended."""

    def jobs() -> list[Any]:
        return json.loads(cluster.kubectl("get", "jobs", "-n", namespace, "-o", "json"))["items"]

    def pods() -> list[Any]:
        return json.loads(cluster.kubectl("get", "pods", "-n", namespace, "-o", "json"))["items"]

    def living() -> list[Any]:
        return [
            status["name"]
            for pod in pods()
            for status in pod["status"].get("ephemeralContainerStatuses", [])
            if "terminated" not in status.get("state", {})
        ]

    until(lambda: not jobs(), "the Job goes", within)
    until(lambda: len(pods()) == 1, "the agent's pod goes", within)
    until(lambda: not living(), "the ephemeral agent ends", within)


@pytest.mark.parametrize("agent", AGENTS)
def test_after_the_programs_end(
    cluster: Any, target: str, session: Callable[..., Session], agent: tuple[str]
) -> None:
    one = session(*agent, program=("sh", "-c", "echo ready; exit 3"))
    one.ready()
    assert one.end() == 3
    one.nothing_here()
    nothing_there(cluster, target)


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_after_a_signal(
    cluster: Any, target: str, session: Callable[..., Session], agent: tuple[str], number: int, status: int
) -> None:
    one = session(*agent)
    one.ready()
    if number == signal.SIGINT:
        os.killpg(one.process.pid, number)  # as the terminal does: to the whole group
    else:
        one.process.send_signal(number)
    assert one.end() == status
    one.nothing_here()
    nothing_there(cluster, target)


@pytest.mark.parametrize("agent", AGENTS)
def test_after_kill_9(cluster: Any, target: str, session: Callable[..., Session], agent: tuple[str]) -> None:
    one = session(*agent, lease=6)
    one.ready()
    one.process.kill()
    assert one.end() == -signal.SIGKILL
    one.nothing_here()
    nothing_there(cluster, target)


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_while_starting(
    cluster: Any, target: str, session: Callable[..., Session], agent: tuple[str], number: int
) -> None:
    one = session(*agent, lease=6)
    one.said("starting an agent")
    one.process.send_signal(number)
    assert one.end() == (-number if number == signal.SIGKILL else 128 + number)
    one.nothing_here()
    nothing_there(cluster, target)


def test_children_of_the_program_that_outlive_it_are_let_be_and_can_still_work(
    cluster: Any, target: str, session: Callable[..., Session], tmp_path: Path
) -> None:
    """A daemon that the program leaves behind is the user's; the session ends with the program."""
    one = session(program=("sh", "-c", "echo ready; sleep 5 >/dev/null 2>&1 & exit 0"))
    one.ready()
    assert one.end() == 0
    nothing_there(cluster, target)


def test_the_target_is_deleted_while_the_program_runs(
    cluster: Any, target: str, session: Callable[..., Session]
) -> None:
    one = session(lease=6)
    one.ready()
    cluster.kubectl("delete", "pod", "web", "-n", target, "--now")
    said = one.said("lost")
    assert "ending the program" in said
    assert one.end() == 125
    one.nothing_here()


def test_a_stopped_layer_is_outlived_by_its_lease_only(
    cluster: Any, target: str, session: Callable[..., Session]
) -> None:
    one = session(lease=6)
    one.ready()
    one.process.send_signal(signal.SIGSTOP)
    nothing_there(cluster, target)
    one.process.send_signal(signal.SIGCONT)
    assert one.end() == 125
    one.nothing_here()
