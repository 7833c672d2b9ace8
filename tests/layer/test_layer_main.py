"""What the supervisor makes on this machine."""

import os
from contextlib import AsyncExitStack
from pathlib import Path

from pymirror.layer.main import make_folder


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
