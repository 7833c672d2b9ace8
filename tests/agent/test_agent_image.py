"""The agent image: the same inputs give the same bytes, and a third-party half goes in."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
CLOCK = ROOT / "examples/pymirror-clock"
BUILD = (sys.executable, str(ROOT / "agent/image/build.py"), "--with", str(CLOCK))
TAG = ("--tag", "localhost/pymirror-agent:clock")
SMALL = 60e6  # compressed; pulled once per node


def oci() -> ModuleType:
    spec = importlib.util.spec_from_file_location("image_oci", ROOT / "agent/image/oci.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_times_do_not_change_the_digest(tmp_path: Path) -> None:
    root, tag = tmp_path / "root", "localhost/x:1"
    (root / "usr").mkdir(parents=True)
    (root / "usr/file").write_text("text")
    (root / "link").symlink_to("usr/file")
    first = oci().write(tmp_path / "one.tar", root, tag, "amd64", {"User": "0"})
    os.utime(root / "usr/file", (1, 1))
    (root / "usr").chmod(0o700)
    assert oci().write(tmp_path / "two.tar", root, tag, "amd64", {"User": "0"}) == first
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()


def blob(archive: tarfile.TarFile, described: dict[str, Any]) -> bytes:
    member = archive.extractfile("blobs/sha256/" + described["digest"].removeprefix("sha256:"))
    assert member is not None
    return member.read()


def opened(path: Path) -> tuple[dict[str, Any], list[str], tarfile.TarFile]:
    """The image's configuration, its files' names, its files."""
    with tarfile.open(path) as archive:
        index = archive.extractfile("index.json")
        assert index is not None
        manifest = json.loads(blob(archive, json.load(index)["manifests"][0]))
        layer = tarfile.open(fileobj=io.BytesIO(blob(archive, manifest["layers"][0])), mode="r:gz")
        return json.loads(blob(archive, manifest["config"])), layer.getnames(), layer


@pytest.mark.image
@pytest.mark.timeout(600)
def test_two_builds_are_one_image(tmp_path: Path, clock_archive: Path) -> None:
    """Both at once, with different masks: neither order nor time nor the user's habits go in."""
    outputs, before = [clock_archive, tmp_path / "two.tar"], sorted(CLOCK.iterdir())
    builds = [
        subprocess.Popen(
            [*BUILD, *TAG, "--output", str(output)], stderr=subprocess.PIPE, text=True, umask=umask
        )
        for output, umask in zip(outputs, (0o022, 0o077), strict=True)
    ]
    ended = [(build.communicate()[1], build.returncode) for build in builds]
    assert [code for _, code in ended] == [0, 0], ended
    assert sorted(CLOCK.iterdir()) == before, "nothing is left in the third party's folder"
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    assert outputs[0].stat().st_size < SMALL
    config, names, layer = opened(outputs[0])
    with layer:
        assert config["config"]["Entrypoint"] == ["/usr/bin/python3", "-m", "pymirror.agent"]
        pythons = {name for name in names if name.startswith("usr/bin/python3.")}
        assert len(pythons) == 1, "one Python, also with a third-party half"
        version = pythons.pop().removeprefix("usr/bin/python").replace(".", "")
        assert f"usr/lib/pymirror/pymirror_clock/__pycache__/agent.cpython-{version}.pyc" in names
        assert any(name.endswith("pymirror_clock-1.0.dist-info/entry_points.txt") for name in names)
        own = [name for name in names if name.startswith("usr/lib/pymirror/pymirror/")]
        others = [
            name for name in own if not name.endswith((".py", ".pyc", ".pyi", ".typed")) and "." in name
        ]
        assert sorted(others) == [
            "usr/lib/pymirror/pymirror/core/_batch.abi3.so",
            "usr/lib/pymirror/pymirror/features/network/incoming/relay/_relay.abi3.so",
        ], "no more of the native parts"


@pytest.mark.image
def test_a_half_that_does_not_load_stops_the_build(tmp_path: Path) -> None:
    broken = tmp_path / "pymirror-broken"
    broken.mkdir()
    (broken / "pymirror_broken.py").write_text("import nothing_of_this_name\n")
    (broken / "setup.cfg").write_text(
        "[metadata]\nname = pymirror-broken\nversion = 1\n[options]\npy_modules = pymirror_broken\n"
        "[options.entry_points]\npymirror.agent =\n    broken = pymirror_broken:Agent\n"
    )
    (broken / "pyproject.toml").write_text('[build-system]\nrequires = ["setuptools"]\n')
    words = [BUILD[0], BUILD[1], "--with", str(broken), "--output", str(tmp_path / "image.tar")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pymirror_broken:Agent of pymirror-broken does not load" in done.stderr
    assert "nothing_of_this_name" in done.stderr and "--with" in done.stderr
    assert not (tmp_path / "image.tar").exists()
