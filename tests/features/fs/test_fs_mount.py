"""What a machine may lack for the tree, each named before anything is mounted."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen

from pymirror.core.errors import SupportError
from pymirror.features.fs import mount


@frozen
class Machine:
    """What `check` asks a machine that has all that an ordinary user needs."""

    device: bool = True
    opens: bool = True
    mounts: bool = False
    gives: bool = True
    helper: bool = True
    user: int = 1000

    def put(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        if self.device:
            (folder / "fuse").touch()

        def detached() -> mount.Mount:
            if not self.gives:
                raise OSError(errno.ENODEV, "No such device")
            return mount.Mount(*(os.open("/", os.O_PATH) for _ in range(2)))

        patch.setattr(mount, "DEVICE", str(folder / "fuse"))
        patch.setattr(mount, "_may_mount", lambda: self.mounts)
        patch.setattr(mount, "_detached", detached)
        patch.setattr("os.access", lambda path, mode: self.opens)
        patch.setattr("shutil.which", lambda name: f"/usr/bin/{name}" if self.helper else None)
        patch.setattr("os.geteuid", lambda: self.user)


USER = Machine()
ROOT = Machine(user=0, mounts=True, helper=False)


@pytest.mark.parametrize("machine", [USER, ROOT], ids=["user", "root"])
def test_a_machine_with_all_that_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: Machine
) -> None:
    before = len(os.listdir("/proc/self/fd"))
    machine.put(tmp_path, monkeypatch)
    mount.check()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("machine", "lacks", "words", "hint"),
    [
        (USER, {"device": False}, "which is not here", "--device /dev/fuse"),
        (ROOT, {"device": False}, "which is not here", "--device /dev/fuse"),
        (USER, {"opens": False}, "which this user may not open", "chmod 666"),
        (ROOT, {"gives": False}, "does not give here: No such device", "character, 10:229"),
        (USER, {"helper": False}, "fusermount3, which is not installed", "the package fuse3"),
        (ROOT, {"mounts": False, "helper": True}, "which this root has not", "--cap-add SYS_ADMIN"),
    ],
)
def test_what_is_lacking_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    machine: Machine,
    lacks: dict[str, Any],
    words: str,
    hint: str,
) -> None:
    evolve(machine, **lacks).put(tmp_path, monkeypatch)
    with pytest.raises(SupportError) as caught:
        mount.check()
    assert words in caught.value.message
    assert hint in (caught.value.hint or "")
