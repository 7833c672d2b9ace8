"""What the supervisor makes on this machine."""

import os
from contextlib import AsyncExitStack
from pathlib import Path
from resource import RLIM_INFINITY

import pytest

from pymirror.core.errors import UserError
from pymirror.layer.main import DESCRIPTORS, enough_descriptors, make_folder


class Guard:
    def __init__(self):
        self.removes = []

    def remove(self, path):
        self.removes.append(path)


async def test_the_private_folder_goes_with_the_session_and_with_the_guard(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    guard = Guard()
    async with AsyncExitStack() as undo:
        folder = Path(make_folder(guard, undo))
        assert guard.removes == [str(folder)] and folder.parent == tmp_path
        assert os.stat(folder).st_mode & 0o777 == 0o700
        (folder / "something").touch()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("soft", "hard", "hint"),
    [
        (20, 4096, f"run `ulimit -n {DESCRIPTORS}` before it"),
        (20, RLIM_INFINITY, f"run `ulimit -n {DESCRIPTORS}` before it"),
        (20, 30, f"run `ulimit -n {DESCRIPTORS}` before it, as root: the hard limit is 30"),
    ],
)
def test_too_few_descriptors_are_refused_before_anything_is_made(soft, hard, hint):
    with pytest.raises(UserError, match=rf"only 20 files .*`ulimit -n`.* needs {DESCRIPTORS}") as caught:
        enough_descriptors(soft, hard)
    assert caught.value.hint == hint


def test_enough_descriptors_are_enough():
    enough_descriptors(DESCRIPTORS, DESCRIPTORS)
    enough_descriptors(RLIM_INFINITY, RLIM_INFINITY)
