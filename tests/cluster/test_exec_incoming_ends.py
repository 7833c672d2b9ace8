"""However a session that has a port ends, the port is the application's again, and nothing of it remains.

Clients ask once a second, each by a new connection. What is counted is how often they asked.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.incoming import SETTLE, Local, Scene, scene

pytestmark = pytest.mark.cluster

PORT = 8080
AGENTS = ["job", "ephemeral"]
MEMBER = 8
"""Seconds that the kernel keeps a port for an agent that is stopped (docs/incoming.md)."""
ASKED = 10
"""Times; the first is at once, so the last of them 9 s later."""


OWN = (
    "add table inet own; add chain inet own mine { type filter hook input priority 0; };"
    f"add rule inet own mine tcp dport {PORT} accept"
)
"""What somebody else has put there, as a mesh does."""


@pytest.fixture(scope="module")
def there(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(cluster, "incoming-ends", tmp_path_factory.mktemp("ends")) as made:
        made.in_network("nft", OWN)
        yield made


@pytest.fixture
def rules(there: Scene) -> str:
    """The pod's, when nobody has a port of it: what is there before is there after."""
    for _ in range(SETTLE):
        found = there.in_network("nft", "list", "ruleset")
        if "pymirror" not in found:
            return found
        time.sleep(1)
    pytest.fail(f"an earlier session's rules remain: {found}")


def steal(
    there: Scene, folder: Path, agent: str = "job", port: int = PORT, session: Any = None, **environ: str
) -> Local:
    """session: its section; by default the lease is longer than the application may wait for its port."""
    config = {"agent": {"ephemeral": agent == "ephemeral"}, "session": session or {}}
    local = Local(there, folder, there.server, "local", str(port), incoming="steal", config=config, **environ)
    local.says("listens on")
    assert there.ask("get", "/", there.at(port)).startswith("local GET")
    return local


def comes_back(there: Scene, rules: str, polls: int = ASKED) -> None:
    """The application answers a client within so many requests, one a second, and the rules go with that."""
    answers = there.ask("until", there.at(PORT), "app", str(polls)).split()
    assert answers[-1:] == ["app"], answers
    for _ in range(SETTLE):
        if there.in_network("nft", "list", "ruleset") == rules:
            return
        time.sleep(1)
    assert there.in_network("nft", "list", "ruleset") == rules


def works_at_once(there: Scene, folder: Path, agent: str) -> None:
    with steal(there, folder, agent):
        pass
    assert there.ask("get", "/", there.at(PORT)).startswith("app GET")


@pytest.mark.parametrize("agent", AGENTS)
def test_the_agent_is_killed(there: Scene, rules: str, tmp_path: Path, agent: str) -> None:
    with steal(there, tmp_path / "one", agent) as local:
        assert "pymirror-" in there.in_network("nft", "list", "ruleset")
        killed = there.agents()
        assert killed
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        comes_back(there, rules, polls=2)
        works_at_once(there, tmp_path / "two", agent)
        assert local.process.wait(40) == 125
        assert "the connection to the agent is lost" in local.errors()
        assert "Traceback" not in local.errors()


@pytest.mark.parametrize("agent", AGENTS)
def test_the_agent_is_stopped(there: Scene, rules: str, tmp_path: Path, agent: str) -> None:
    with steal(there, tmp_path / "one", agent, session={"lease": 6, "heartbeat": 1}) as local:
        stopped = there.agents()
        assert stopped
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            answers = there.ask("until", there.at(PORT), "app", str(ASKED)).split()
            assert answers[-1:] == ["app"] and len(answers) <= MEMBER + 2, answers
            works_at_once(there, tmp_path / "two", agent)
        finally:
            for pid in stopped:
                # The session that lost it may have removed its pod by now, and the process with it.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        assert local.process.wait(40) == 125
        assert "Traceback" not in local.errors()
    comes_back(there, rules)


@pytest.mark.parametrize("agent", AGENTS)
def test_what_the_application_has_goes_on_after_the_session(
    there: Scene, rules: str, tmp_path: Path, agent: str
) -> None:
    """Longer than a pod is given to end that has nothing to do."""
    taken = {"mode": "steal", "ports": [PORT], "http_filter": {"header_filter": "x-user: nobody"}}
    config = {"agent": {"ephemeral": agent == "ephemeral"}}
    with Local(there, tmp_path, there.server, "local", str(PORT), incoming=taken, config=config) as local:
        local.says("listens on")
        assert there.ask("get", "/", there.at(PORT)).startswith("app GET")
        with there.asking("across", there.at(PORT)) as half:
            local.end()
            time.sleep(8)
            assert there.ask("get", "/", there.at(PORT)).startswith("app GET")
            half.stdin.close()
            answer = half.stdout.read().decode()
    assert "app POST /across" in answer and "BEFORE AFTER" in answer and answer.endswith("<nil>\n"), answer
    comes_back(there, rules)


@pytest.mark.parametrize("agent", AGENTS)
def test_exec_is_killed(there: Scene, rules: str, tmp_path: Path, agent: str) -> None:
    with steal(there, tmp_path / "one", agent) as local:
        local.process.kill()
        local.process.wait(40)
        comes_back(there, rules)
        works_at_once(there, tmp_path / "two", agent)


@pytest.mark.parametrize("agent", AGENTS)
def test_the_connection_is_cut(
    there: Scene, rules: str, tmp_path: Path, relayed: tuple[Any, str], agent: str
) -> None:
    relay, kubeconfig = relayed
    with steal(there, tmp_path / "one", agent, KUBECONFIG=kubeconfig) as local:
        relay.cut()
        comes_back(there, rules)
        works_at_once(there, tmp_path / "two", agent)
        assert local.process.wait(40) == 125
        assert "the port-forward was cut" in local.errors()


@pytest.mark.parametrize("agent", AGENTS)
def test_the_connection_falls_silent(
    there: Scene, rules: str, tmp_path: Path, relayed: tuple[Any, str], agent: str
) -> None:
    relay, kubeconfig = relayed
    with steal(there, tmp_path / "one", agent, KUBECONFIG=kubeconfig) as local:
        relay.stall()
        comes_back(there, rules)
        works_at_once(there, tmp_path / "two", agent)
        assert local.process.wait(60) == 125


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_program_ends(there: Scene, rules: str, tmp_path: Path, number: int) -> None:
    local = steal(there, tmp_path)
    os.killpg(local.process.pid, number)
    assert local.process.wait(40) == 128 + number
    comes_back(there, rules, polls=2)


def test_a_program_that_closes_its_listener_gives_the_port_back(
    there: Scene, rules: str, tmp_path: Path
) -> None:
    """And listens again, and has it again."""
    script = (
        "import socket, sys, time\n"
        "for turn in range(2):\n"
        f"    with socket.create_server(('', {PORT})) as listener:\n"
        "        print('listens', turn, flush=True)\n"
        "        conn = listener.accept()[0]\n"
        "        conn.recv(999)\n"
        "        conn.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 6\\r\\n\\r\\nlocal ')\n"
        "        conn.close()\n"
        "    time.sleep(8)\n"
    )
    with Local(there, tmp_path, "python3", "-c", script, incoming="steal") as local:
        for turn in range(2):
            local.says(f"listens {turn}")
            assert there.ask("get", "/", there.at(PORT)) == "local \n"
            assert there.ask("until", there.at(PORT), "app", "6").split()[-1] == "app"
    comes_back(there, rules, polls=2)


# What another or the client does wrong -------------------------------------------------------------


def test_a_port_that_another_session_has_is_refused_by_name(there: Scene, rules: str, tmp_path: Path) -> None:
    with steal(there, tmp_path / "one"):
        program = (there.server, "late", str(PORT))
        with Local(there, tmp_path / "two", *program, incoming="steal") as second:
            assert second.process.wait(60) == 1
        assert "address already in use" in second.errors()
        whose = re.sub(r"[^\w.@-]", "_", f"{getpass.getuser()}@{socket.gethostname()}")
        assert f"port {PORT} of the target is not to be had: {whose} has it whole\n" in second.errors()
        with steal(there, tmp_path / "three", port=PORT + 1):
            assert there.ask("get", "/", there.at(PORT)).startswith("local GET")
    comes_back(there, rules, polls=2)


REFUSED: dict[str, tuple[Any, str]] = {
    "ports with ignore_ports": ({"mode": "steal", "ports": [1], "ignore_ports": [2]}, "ignore_ports"),
    "a port twice": ({"mode": "steal", "port_mapping": [[1, 2], [3, 2]]}, "twice"),
    "no port": ({"mode": "steal", "ports": [70000]}, "no port"),
    "no mode": ("take", "take"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_configuration_has_no_effect(there: Scene, rules: str, tmp_path: Path, name: str) -> None:
    incoming, words = REFUSED[name]
    before = there.alone()
    with Local(there, tmp_path, "touch", "ran", incoming=incoming) as local:
        assert local.process.wait(40) not in (0, None)
    assert words in local.errors() and "Traceback" not in local.errors()
    assert not (tmp_path / "ran").exists()
    assert there.cluster.there(there.namespace) == before
    assert there.in_network("nft", "list", "ruleset") == rules


def test_there_is_nothing_to_steal_without_a_target(there: Scene, tmp_path: Path) -> None:
    with Local(there, tmp_path, "touch", "ran", incoming="steal", config={"target": "targetless"}) as local:
        assert local.process.wait(40) not in (0, None)
    assert "nothing to steal from without a target" in local.errors()
    assert not (tmp_path / "ran").exists()


GARBAGE = b"\x00\xff\x16\x03\x01\r\n\r\nGET / HTTP/9.9\r\n\n\n" * 100


def test_clients_that_do_what_they_should_not(there: Scene, rules: str, tmp_path: Path) -> None:
    """A header without an end, requests without an end and no HTTP: others are served, memory stays bounded."""
    with steal(there, tmp_path):
        before = there.memory()
        assert before
        with there.asking("slow", there.at(PORT), "200"):
            assert there.ask("huge", there.at(PORT), "1024").startswith("ended")
            there.ask("raw", there.at(PORT), given=GARBAGE)
            assert there.ask("load", there.at(PORT), "10", "100") == "map[local:100]\n"
            assert there.ask("get", "/", there.at(PORT + 1)).startswith("app GET")
            assert there.memory() - before < 64 << 10
    comes_back(there, rules, polls=2)


READER = f"""
import socket
listener = socket.create_server(("", {PORT}))
print("listens", flush=True)
while True:
    conn = listener.accept()[0]
    size, tail = 0, b""
    while not tail.endswith(b"\\r\\n\\r\\n") and (piece := conn.recv(1 << 20)):
        size, tail = size + len(piece), (tail + piece)[-4:]
    conn.sendall(b"%d\\n" % size)
    conn.close()
"""


def test_a_header_of_a_gibibyte_reaches_who_reads_it(there: Scene, rules: str, tmp_path: Path) -> None:
    with Local(there, tmp_path, "python3", "-c", READER, incoming="steal") as local:
        local.says("listens")
        assert there.ask("huge", there.at(PORT), "1").startswith("ended")
        before = there.memory()
        assert before
        size = len("GET /huge HTTP/1.1\r\nHost: x\r\nX-Huge: ") + (1 << 30) + 4
        assert there.ask("huge", there.at(PORT), "1024") == f'ended "{size}\\n"\n'
        assert there.memory() - before < 64 << 10
    comes_back(there, rules, polls=2)
