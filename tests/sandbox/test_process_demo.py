"""`pymirror demo`, whole: every scene through the real command line, engine, agent and files."""

from __future__ import annotations

import sys

import pytest
from kept_report import Kept

from pymirror.runtimes.process import demo
from pymirror.runtimes.process.sandbox import Sandbox

pytestmark = pytest.mark.sandbox


async def test_every_scene_shows_what_it_should(capsys: pytest.CaptureFixture[str]) -> None:
    report = Kept()
    assert await demo.run(report) == 0, report.words
    assert "hello from the pod" in capsys.readouterr().out
    assert report.words[-1].startswith(f"all {len(demo.SCENES)} as in the pod")


async def test_a_scene_that_fails_is_named() -> None:
    report = Kept()
    scene = demo.Scene("nothing to see", ("cat", "/data/no-such-file"))
    assert await demo.run(report, [scene]) == 1
    assert report.words[-1] == "not as it should be: nothing to see"


@pytest.mark.parametrize(("command", "status"), [(("false",), 1), (("sh", "-c", "exit 7"), 7)])
async def test_exit_status_is_the_programs(command: tuple[str, ...], status: int) -> None:
    async with Sandbox.start() as sandbox:
        assert (await demo.run_scene(f"process/{sandbox.pid}", command))[0] == status


async def test_interpreter_is_from_here() -> None:
    async with Sandbox.start() as sandbox:
        command = (sys.executable, "-c", "import os, sys; print(sys.executable, os.environ['GREETING'])")
        status, output = await demo.run_scene(f"process/{sandbox.pid}", command)
    assert (status, output) == (0, f"{sys.executable} hello\n")
