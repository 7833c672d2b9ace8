"""The memory there is: the machine's, or the least that a control group above this process allows."""

from __future__ import annotations

from pathlib import Path

import pytest

from pymirror.core import memory


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 1000 KiB, and this process in the group /pod/container."""
    (tmp_path / "meminfo").write_text("MemTotal:    1000 kB\nMemFree: 3 kB\n")
    (tmp_path / "cgroup").write_text("1:cpu:/other\n0::/pod/container\n")
    (tmp_path / "groups/pod/container").mkdir(parents=True)
    for name, path in (("MACHINE", "meminfo"), ("OWN_GROUP", "cgroup"), ("GROUPS", "groups")):
        monkeypatch.setattr(memory, name, tmp_path / path)
    return tmp_path / "groups"


@pytest.mark.parametrize(
    ("limits", "most"),
    [
        ({}, 1000 << 10),
        ({"pod": "max\n", "pod/container": "max\n"}, 1000 << 10),
        ({"pod": "5000\n", "pod/container": "max\n"}, 5000),
        ({"pod": "5000\n", "pod/container": "4000\n"}, 4000),
        ({"": "70000000\n"}, 1000 << 10),
    ],
)
def test_the_least_limit_counts(groups: Path, limits: dict[str, str], most: int) -> None:
    for group, limit in limits.items():
        (groups / group / "memory.max").write_text(limit)
    assert memory.most() == most
    assert memory.too_much(most // 2) == ""
    assert memory.too_much(most // 2 + 1) == f"more than half of the memory there is ({most})"
