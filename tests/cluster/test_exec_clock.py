"""examples/pymirror-clock end to end: both halves, the agent's missing, and two that do not fit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples/pymirror-clock"
IMAGE = "localhost/pymirror-agent:clock"
START = "import sys; from pymirror.cli.main import main; sys.exit(main())"
NEWER = f"from pymirror_clock.layer import Layer; Layer.version = 2; {START}"
ZONE = "Asia/Kathmandu"


def run(*command: object, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command],
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def done(*command: object) -> str:
    found = run(*command)
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the example installed, which sees this one's packages."""
    folder = tmp_path_factory.mktemp("clock")
    shutil.copytree(EXAMPLE, folder / "source")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    python = folder / "venv/bin/python"
    inner = done(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    outer = sysconfig.get_path("purelib")
    (Path(inner) / "outer.pth").write_text(f"import site; site.addsitedir({outer!r})\n")
    words = ("-q", "--no-index", "--no-build-isolation", "--no-deps")
    done(python, "-m", "pip", "install", *words, folder / "source")
    return python


@pytest.fixture(scope="module")
def image(cluster: Any, clock_archive: Path) -> str:
    """The agent's image with the example's half, in every node; built unless the image tier did."""
    if not clock_archive.exists():
        build = (sys.executable, ROOT / "agent/image/build.py", "--with", EXAMPLE)
        done(*build, "--tag", IMAGE, "--output", clock_archive)
    done(sys.executable, ROOT / "tests/cluster/cluster.py", "load", clock_archive)
    return IMAGE


@pytest.fixture
def target(cluster: Any, namespace: str) -> str:
    """A pod that lives in a zone of its own, and tells it by a file."""
    live = f"echo {ZONE} >/etc/timezone; exec sleep infinity"
    ready = {"exec": {"command": ["test", "-s", "/etc/timezone"]}, "periodSeconds": 1}
    cluster.pod(namespace, "web", command=["sh", "-c", live], readinessProbe=ready)
    return namespace


def session(
    cluster: Any, python: Path, namespace: str, *words: str, start: str = START
) -> tuple[int, str, str]:
    program = ("sh", "-c", "echo $TZ")
    where = ("-n", namespace, "-t", "pod/web")
    found = run(python, "-c", start, "exec", *where, *words, "--", *program, **cluster.variables)
    return found.returncode, found.stdout, found.stderr


def test_the_program_lives_in_the_targets_zone(cluster: Any, python: Path, target: str, image: str) -> None:
    status, out, said = session(cluster, python, target, "-i", image)
    assert (status, out) == (0, f"{ZONE}\n"), said
    assert f"time zone: {ZONE} (/etc/timezone)" in said


def test_the_agents_half_is_missing(cluster: Any, python: Path, target: str) -> None:
    status, out, said = session(cluster, python, target)
    assert (status, out) == (125, "")
    assert "feature clock: no agent half is installed beside the target" in said
    assert "docs/agent-image.md" in said


def test_halves_that_do_not_fit(cluster: Any, python: Path, target: str, image: str) -> None:
    status, out, said = session(cluster, python, target, "-i", image, start=NEWER)
    assert (status, out) == (125, "")
    assert "feature clock: version 2 on this side, 1 in the agent" in said
