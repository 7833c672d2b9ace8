"""`pymirror demo`: the main job, shown on a sandbox of this machine instead of a pod.

Each scene is a real `pymirror exec -t process/PID -- …`, run as a user would type it, against
a pod-like sandbox that is gone at the end. Words go to stderr by way of the report, what the
programs say goes to stdout.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from collections.abc import Mapping, Sequence

from attrs import frozen

from pymirror.core.session import Report
from pymirror.runtimes.process.sandbox import FILES, Sandbox

SERVES = ("/usr/bin/python3", "-m", "http.server", "8080", "--bind", "127.0.0.1", "--directory", "/data")
"""What runs in the sandbox: it answers there alone, under a name that is known there alone."""
HOSTS = {"/etc/hosts": FILES["/etc/hosts"] + b"127.0.0.1\torders.demo.svc\n"}
_FETCH = 'from urllib.request import urlopen; print(urlopen("http://orders.demo.svc:8080/store.json").read())'

_START = "import sys; from pymirror.cli.main import main; sys.exit(main())"


@frozen
class Scene:
    """A command and what it shows. expected: a part of its output; empty to show it only."""

    title: str
    command: Sequence[str]
    expected: str = ""


SCENES = (
    Scene("the environment is the pod's", ("printenv", "GREETING", "DATABASE_URL"), "postgres://orders@db"),
    Scene("so is the host name", ("uname", "-n"), "demo-pod"),
    Scene("a file that is only in the pod", ("cat", "/data/greeting.txt"), "hello from the pod"),
    Scene("through an absolute link, inside the pod's root", ("cat", "/data/current"), '"orders": 3'),
    Scene("a listing, with owners and times", ("ls", "-l", "/data"), "greeting.txt"),
    Scene(
        "a secret mounted in the pod",
        ("cat", "/var/run/secrets/kubernetes.io/serviceaccount/namespace"),
        "demo",
    ),
    Scene(
        "a program of this machine, its interpreter and modules from here, its data from the pod",
        (sys.executable, "-c", 'import json; print(json.load(open("/data/store.json")))'),
        "'orders': 3",
    ),
    Scene(
        "a server that only the pod can reach, by a name that only the pod knows",
        (sys.executable, "-c", _FETCH),
        '"orders": 3',
    ),
)


async def run(report: Report, scenes: Sequence[Scene] = SCENES) -> int:
    """Start a sandbox, play the scenes; 0 if each showed what it should, else 1. SupportError."""
    report.step("starting a sandbox: own root, network, processes and host name")
    failed = []
    async with Sandbox.start(files={**FILES, **HOSTS}, command=SERVES) as sandbox:
        report.ready([f"the sandbox stands for a pod: process {sandbox.pid}, host name {sandbox.hostname}"])
        for scene in scenes:
            if not await _play(scene, sandbox, report):
                failed.append(scene.title)
    for title in failed:
        report.warn(f"not as it should be: {title}")
    if not failed:
        report.info(f"all {len(scenes)} as in the pod; the sandbox is gone, nothing remains")
    return 1 if failed else 0


async def _play(scene: Scene, sandbox: Sandbox, report: Report) -> bool:
    target = f"process/{sandbox.pid}"
    report.info(f"{scene.title}:")
    report.info(f"$ pymirror exec -t {target} -- {shlex.join([_short(part) for part in scene.command])}")
    status, output = await run_scene(target, scene.command)
    sys.stdout.write(output if output.endswith("\n") else f"{output}\n")
    sys.stdout.flush()
    return status == 0 and scene.expected in output


async def run_scene(target: str, command: Sequence[str]) -> tuple[int, str]:
    """Exit status and output of `command` under pymirror."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _START, "exec", "-t", target, "--", *command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        env=_environ(os.environ),
        cwd="/",
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode("utf-8", "replace")


def _environ(environ: Mapping[str, str]) -> dict[str, str]:
    """Silent starts: seven summaries would hide what is shown. A choice of the user stays."""
    return {"PYMIRROR_PROGRESS_MODE": "off", **environ}


def _short(part: str) -> str:
    return os.path.basename(part) if part == sys.executable else part
