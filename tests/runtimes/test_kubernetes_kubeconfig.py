"""A kubeconfig that cannot be used is told by its name and its fault; a helper that hangs is ended."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pymirror.core.errors import UserError
from pymirror.runtimes.kubernetes import api
from pymirror.runtimes.kubernetes.api import Api
from pymirror.runtimes.kubernetes.config import Config
from pymirror.runtimes.kubernetes.connection import connect
from pymirror.runtimes.kubernetes.kubeconfig import fault_of_shape
from pymirror.runtimes.kubernetes.threads import in_thread

START = "import sys; from pymirror.cli.main import main; sys.exit(main())"
SOUND: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "c",
    "clusters": [{"name": "k", "cluster": {"server": "http://127.0.0.1:9"}}],
    "users": [{"name": "u", "user": {}}],
    "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "shop"}}],
}
ELSEWHERE = "/nowhere/x.crt"


def cluster(**inner: Any) -> dict[str, Any]:
    return {"clusters": [{"name": "k", "cluster": {"server": "https://127.0.0.1:9", **inner}}]}


def helper(command: str, *args: str) -> dict[str, Any]:
    how = {"apiVersion": "client.authentication.k8s.io/v1", "command": command, "args": list(args)}
    return {"users": [{"name": "u", "user": {"exec": how}}]}


def written(path: Path, **changes: Any) -> str:
    path.write_text(json.dumps({**SOUND, **changes}))
    return str(path)


def test_a_sound_one_is_read(tmp_path: Path) -> None:
    found = connect(Config(kubeconfig=written(tmp_path / "config")), str(tmp_path))
    assert (found.host, found.context, found.namespace) == ("http://127.0.0.1:9", "c", "shop")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a: [1\nb: {", "is not YAML (line 2)"),
        ("hello world\n", "is no kubeconfig"),
        ("[1, 2]", "is no kubeconfig"),
        ("", "is no kubeconfig"),
    ],
)
def test_what_is_no_kubeconfig_is_named(tmp_path: Path, text: str, part: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        connect(Config(kubeconfig=str(path)), str(tmp_path))
    assert str(path) in caught.value.message
    assert part in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ({"clusters": {"k": {}}}, "clusters is not a list"),
        ({"users": [1]}, "users[0] has no name"),
        ({"contexts": [{"context": {}}]}, "contexts[0] has no name"),
        ({"users": [{"name": "u", "user": "me"}]}, "users[0].user is not a mapping"),
        ({"users": None}, ""),
        (SOUND, ""),
    ],
)
def test_the_place_of_a_fault(content: dict[str, Any], part: str) -> None:
    found = fault_of_shape(content)
    assert part in found
    assert bool(found) == bool(part)


def test_a_folder_bytes_and_nothing(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\0")
    for path, part in (
        (tmp_path, "Is a directory"),
        (tmp_path / "bytes", "not text"),
        ("/no", "no kubeconfig"),
    ):
        with pytest.raises(UserError) as caught:
            connect(Config(kubeconfig=str(path)), str(tmp_path))
        assert str(path) in caught.value.message
        assert part in caught.value.message


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"current-context": None}, "names no current-context"),
        ({"current-context": "z"}, "has no context z"),
        ({"contexts": []}, "has no context c"),
        ({"users": []}, "has no user u"),
        ({"clusters": []}, "has no cluster k"),
        ({"contexts": [{"name": "c", "context": None}]}, "context"),
        ({"contexts": [{"name": "c", "context": {"user": "u"}}]}, "cluster"),
        (cluster(server=""), "is no http:// or https:// address"),
        (cluster(server="ftp://x"), "'ftp://x' is no http:// or https:// address"),
        (cluster(**{"proxy-url": "nonsense"}), "the proxy 'nonsense' cannot be used"),
        (cluster(**{"certificate-authority": ELSEWHERE}), ELSEWHERE),
        (cluster(**{"certificate-authority-data": "aGVsbG8="}), "certificates cannot be loaded"),
        (
            {
                **cluster(),
                "users": [{"name": "u", "user": {"client-certificate": ELSEWHERE, "client-key": ELSEWHERE}}],
            },
            ELSEWHERE,
        ),
        (helper("/no/helper"), "/no/helper"),
        (helper("sh", "-c", "echo locked >&2; exit 3"), "locked"),
        ({"users": [{"name": "u", "user": {"exec": {}}}]}, "missing key 'command'"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, changes: dict[str, Any], part: str) -> None:
    with pytest.raises(UserError) as caught:
        connect(Config(kubeconfig=written(tmp_path / "config", **changes)), str(tmp_path))
    assert part in caught.value.message
    assert caught.value.hint


HANGS = "echo $$ > {}; sleep 1000; :"  # a script around the helper, as most are


def family(file: Path) -> list[int]:
    """The helper that wrote its number there and what it started, those that still run."""
    first = int(file.read_text())
    return [
        int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and lives(entry, first)
    ]


def lives(process: Path, first: int) -> bool:
    try:
        state, parent = (process / "stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return False
    return state != "Z" and first in (int(process.name), int(parent))


def until(true: Callable[[], Any]) -> None:
    """Asks again until it is so: processes that are not ours raise no event here."""
    while not true():
        time.sleep(0.01)


async def test_a_helper_is_ended_with_who_waits_for_it(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    config = written(tmp_path / "config", **helper("sh", "-c", HANGS.format(pid)))
    opening = asyncio.ensure_future(Api.open(Config(kubeconfig=config)))
    await asyncio.to_thread(until, lambda: pid.exists() and pid.read_text() and len(family(pid)) == 2)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await asyncio.to_thread(until, lambda: not family(pid))


def test_a_helper_that_hangs_is_named_and_ended(tmp_path: Path) -> None:
    """The whole command, since it is the end of the process that a stuck thread would hold up."""
    config = written(tmp_path / "config", **helper("sh", "-c", HANGS.format(tmp_path / "pid")))
    keys = tmp_path / "keys"
    keys.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", START, "ls"],
        env={**os.environ, "KUBECONFIG": config, "PYMIRROR_AGENT_STARTUP_TIMEOUT": "6", "TMPDIR": str(keys)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 125
    assert "helper did not end within 4.5 s: sh -c echo" in done.stderr
    assert "Traceback" not in done.stderr
    until(lambda: not family(tmp_path / "pid"))
    assert not list(keys.iterdir())


async def test_the_folder_for_keys_goes_although_a_thread_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def folders() -> list[str]:
        return [str(each) for each in tmp_path.iterdir()]

    loop, over, began = asyncio.get_running_loop(), threading.Event(), asyncio.Queue[str]()

    def stays(settings: Any, folder: str) -> Any:
        loop.call_soon_threadsafe(began.put_nowait, folder)
        over.wait()
        raise UserError("too late", "")

    monkeypatch.setattr(api, "connect", stays)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    opening = asyncio.ensure_future(Api.open(Config()))
    folder = await began.get()
    assert folder in folders()
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert folder not in folders()
    over.set()


def test_keys_are_not_unpacked_when_a_helper_was_ended(tmp_path: Path) -> None:
    """Nobody waits for them then, nor takes them away: the folder would be made anew for them."""
    gone = tmp_path / "gone"
    user = {"client-key-data": "YQ==", **helper("sh", "-c", "kill -9 $$")["users"][0]["user"]}
    changes = {**cluster(**{"certificate-authority-data": "YQ=="}), "users": [{"name": "u", "user": user}]}
    with pytest.raises(UserError, match="context c: no credentials"):
        connect(Config(kubeconfig=written(tmp_path / "config", **changes)), str(gone))
    assert not gone.exists()


async def test_what_a_thread_raises_is_raised() -> None:
    assert await in_thread(lambda: 3, 5.0) == 3
    with pytest.raises(KeyError):
        await in_thread(lambda: {}["x"], 5.0)
