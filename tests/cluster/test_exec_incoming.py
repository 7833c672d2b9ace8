"""A target's incoming traffic comes to programs of many languages here: through a Service, from another pod.

The program sees the client pod's address and the port it asked for. Mirrored, the application does not notice.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.exec_pod import PROBES, need
from tests.cluster.incoming import SETTLE, Local, Scene, scene

pytestmark = pytest.mark.cluster

NAMES = ["python", "uvicorn", "gunicorn", "node", "cluster", "go", "java", "rust", "nginx"]
PORTS = {name: 8081 + number for number, name in enumerate(NAMES)}
KINDS = [(mode, agent) for mode in ("steal", "mirror") for agent in ("job", "ephemeral")]
REQUESTS, CONNECTIONS, HELD = 10_000, 20, 5


@pytest.fixture(scope="module")
def there(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(cluster, "incoming", tmp_path_factory.mktemp("incoming")) as made:
        yield made


def programs(there: Scene, folder: Path) -> dict[str, str]:
    """The command of each program, in a shell."""
    need("gcc", "rustc", "node", "java", "javac", "nginx")
    subprocess.run(["rustc", "-o", folder / "rust", PROBES / "incoming.rs"], check=True, timeout=100)
    subprocess.run(["javac", "-d", folder, PROBES / "Incoming.java"], check=True, timeout=100)
    port = {name: str(number) for name, number in PORTS.items()}
    (folder / "nginx.conf").write_text(
        (PROBES / "incoming_nginx.conf").read_text().replace("PORT", port["nginx"])
    )
    (folder / "app").mkdir()
    (folder / "app/incoming.py").write_bytes((PROBES / "incoming.py").read_bytes())
    module = [sys.executable, "-m"]
    uvicorn = ["uvicorn", "incoming:uvicorn", "--reload", "--host", "0.0.0.0", "--log-level", "warning"]
    gunicorn = ["gunicorn", "incoming:gunicorn", "--workers", "2", "--bind", f"0.0.0.0:{port['gunicorn']}"]
    words = {
        "python": [sys.executable, f"{folder}/app/incoming.py", port["python"]],
        "uvicorn": [*module, *uvicorn, "--port", port["uvicorn"], "--app-dir", f"{folder}/app"],
        "gunicorn": [*module, *gunicorn, "--chdir", f"{folder}/app", "--log-level", "warning"],
        "node": ["node", f"{PROBES}/incoming.mjs", "node", port["node"], "0"],
        "cluster": ["node", f"{PROBES}/incoming.mjs", "cluster", port["cluster"], "2"],
        "go": [there.server, "go", port["go"]],
        "java": ["java", "-cp", str(folder), "Incoming", port["java"]],
        "rust": [f"{folder}/rust", port["rust"]],
        "nginx": ["nginx", "-p", str(folder), "-c", f"{folder}/nginx.conf"],
    }
    return {name: shlex.join(command) for name, command in words.items()}


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: "-".join(kind))
def served(
    there: Scene, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Local]]:
    """(mode, all programs in one session, each of which has had a request)."""
    mode, agent = request.param
    folder = tmp_path_factory.mktemp("served")
    script = " & ".join(programs(there, folder).values()) + " & wait"
    config = {"agent": {"ephemeral": agent == "ephemeral"}}
    with Local(there, folder, "bash", "-c", script, incoming=mode, config=config) as local:
        everybody_is_there(there, local, "/start")
        yield mode, local


def everybody_is_there(there: Scene, local: Local, path: str) -> None:
    """Asks once a second until each program has had a request for this path."""
    missing = NAMES
    for _ in range(SETTLE):
        there.ask("get", path, *(there.at(PORTS[name]) for name in missing))
        time.sleep(1)
        said = local.said()
        missing = [name for name in NAMES if not any(line.startswith(f"{name} GET {path}") for line in said)]
        if not missing:
            return
        assert local.process.poll() is None, local.errors()
    pytest.fail(f"{missing} had no request: {said} {local.errors()}")


def line(there: Scene, name: str, path: str) -> str:
    own = f"{there.web}:{PORTS[name]}" if name in ("go", "app") else PORTS[name]
    return f"{name} GET {path} from {there.client} at {own}"


@pytest.mark.parametrize("name", NAMES)
def test_a_program_has_a_request_of_another_pod(there: Scene, served: tuple[str, Local], name: str) -> None:
    mode, local = served
    path = f"/{os.urandom(4).hex()}"
    answer = there.ask("get", path, there.at(PORTS[name]))
    local.says(line(there, name, path))
    assert [each for each in local.said() if path in each] == [line(there, name, path)]
    app = (
        line(there, name, path)
        .replace(name, "app", 1)
        .replace(f"at {PORTS[name]}", f"at {there.web}:{PORTS[name]}")
    )
    assert answer == f"{app if mode == 'mirror' else line(there, name, path)}\n"
    assert [each for each in settled(there) if path in each] == ([app] if mode == "mirror" else [])


def test_a_server_that_reloads_keeps_its_port(there: Scene, served: tuple[str, Local]) -> None:
    mode, local = served
    source = local.folder / "app/incoming.py"
    source.write_text(source.read_text().replace('words("uvicorn"', 'words("uvicorn again"'))
    for _ in range(SETTLE):
        there.ask("get", "/reloaded", there.at(PORTS["uvicorn"]))
        if any("uvicorn again" in each for each in local.said()):
            break
        time.sleep(1)
    answer = there.ask("get", "/again", there.at(PORTS["uvicorn"]))
    local.says(f"uvicorn again GET /again from {there.client} at {PORTS['uvicorn']}")
    assert answer.startswith("app GET" if mode == "mirror" else "uvicorn again GET")


# HTTP's manners, and what a mirrored application sees ----------------------------------------------


def requests(said: list[str], name: str) -> Counter[str]:
    """The requests among the lines, without whose they are."""
    found = (each.removeprefix(name) for each in said if each.startswith((f"{name} GET", f"{name} POST")))
    return Counter(found)


def settled(there: Scene) -> list[str]:
    """The application's log, once it has written of each connection's end."""
    for _ in range(SETTLE):
        said = there.log()
        count = Counter(each.split()[2] for each in said if each.split()[2] in ("new", "closed"))
        if count["new"] == count["closed"]:
            return said
        time.sleep(1)
    pytest.fail(f"connections stay open: {count}")


def test_all_manners_of_http_are_the_programs(there: Scene, tmp_path: Path) -> None:
    before = there.ask("manners", there.at(8080))
    assert "failed" not in before
    with Local(there, tmp_path, there.server, "local", "8080", incoming="steal") as local:
        local.says("listens on")
        assert there.ask("manners", there.at(8080)) == before.replace("app ", "local ")
    assert there.ask("manners", there.at(8080)) == before


def test_all_manners_of_http_are_copied(there: Scene, tmp_path: Path) -> None:
    before = there.ask("manners", there.at(8080))
    with Local(there, tmp_path, there.server, "local", "8080", incoming="mirror") as local:
        local.says("listens on")
        seen = len(settled(there))
        assert there.ask("manners", there.at(8080)) == before
        local.says("/ws")
        of_app = requests(settled(there)[seen:], "app")
        assert len(of_app) > 10
        assert requests(local.said(), "local") == of_app


def test_a_mirrored_application_sees_what_it_sees_without(there: Scene, tmp_path: Path) -> None:
    def seen(requests: int) -> tuple[Any, ...]:
        """What clients are told, the application's sockets and what it wrote."""
        before = len(settled(there))
        answered = there.ask("load", there.at(8080), str(CONNECTIONS), str(requests))
        with there.asking("hold", there.at(8080), str(HELD)):
            sockets = there.sockets(8080)
        return answered, sockets, Counter(settled(there)[before:])

    without = seen(REQUESTS)
    with Local(there, tmp_path, there.server, "local", "8080", incoming="mirror") as local:
        local.says("listens on")
        assert seen(REQUESTS) == without
        local.says("/load", times=REQUESTS)
        assert local.process.poll() is None and not local.errors()
    assert without[0] == f"map[app:{REQUESTS}]\n"
    assert without[1].total() == HELD + 1
