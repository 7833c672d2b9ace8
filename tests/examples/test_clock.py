"""examples/pymirror-clock, installed by pip into an environment of its own and tested there."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from pymirror.core.errors import PeerError
from pymirror.core.handshake import Hello, check_versions
from pymirror.core.windows import TERMS

EXAMPLE = Path(__file__).parents[2] / "examples" / "pymirror-clock"
FIND = """
from pymirror.core import registry
layer, agent = registry.layer_halves()["clock"], registry.agent_halves(["clock"])["clock"]
assert layer.cls.Config is agent.cls.Config
print(layer.distribution, layer.version_of_distribution, list(registry.scan(registry.LAYER))[-1])
"""


def run(*command: object, cwd: Path) -> str:
    words = [str(part) for part in command]
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(the environment's python, a copy of the example). Nothing is downloaded.

    This environment's packages are seen through a .pth, import hooks of editable ones included.
    """
    folder = tmp_path_factory.mktemp("clock")
    source = folder / "source"
    shutil.copytree(EXAMPLE, source)
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    python = folder / "venv/bin/python"
    inner = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    here = sysconfig.get_path("purelib")
    (Path(inner) / "outer.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    pip = (python, "-m", "pip", "install", "-q", "--no-index", "--no-build-isolation", "--no-deps")
    run(*pip, source, cwd=folder)
    return python, source


def test_its_own_tests_pass(installed: tuple[Path, Path]) -> None:
    python, source = installed
    assert "passed" in run(python, "-m", "pytest", "-q", "tests", cwd=source)


def test_the_registry_finds_it(installed: tuple[Path, Path]) -> None:
    python, source = installed
    assert run(python, "-c", FIND, cwd=source.parent).startswith("pymirror-clock 1.0")


def test_the_command_has_its_flag(installed: tuple[Path, Path]) -> None:
    python, source = installed
    code = "from pymirror.cli.main import main; main(['exec', '--help']); main(['explain', '--zone', 'UTC', 'hostname'])"
    shown = run(python, "-c", code, cwd=source.parent)
    assert "--zone VALUE" in shown and "Use this time zone." in shown and "hostname: target" in shown


def test_another_version_is_refused_by_name() -> None:
    with pytest.raises(PeerError, match="feature clock: version 1 on this side, 2 in the agent"):
        check_versions(Hello("1", {"clock": 1}, {}, TERMS), "1", {"clock": 2})


def test_it_is_not_installed_here() -> None:
    """The tests above prove nothing if the package leaks in from this environment."""
    assert "pymirror_clock" not in sys.modules


def test_the_agent_half_loads_alone(installed: tuple[Path, Path]) -> None:
    python, source = installed
    code = (
        "import sys; from pymirror.core import registry; registry.agent_halves(['clock']);"
        "print('pymirror_clock.layer' in sys.modules)"
    )
    assert run(python, "-c", code, cwd=source.parent).strip() == "False"
