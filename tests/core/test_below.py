"""A path below a directory, and what an error of a system call tells."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pymirror.core.below import BENEATH, IN_ROOT, NO_MAGICLINKS, NO_SYMLINKS, open_below
from pymirror.core.syscalls import syscall


@pytest.fixture
def top(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "secret").write_text("of the machine")
    (tmp_path / "top" / "etc").mkdir(parents=True)
    (tmp_path / "top" / "secret").write_text("of the target")
    (tmp_path / "top" / "up").symlink_to("../../../secret")
    (tmp_path / "top" / "absolute").symlink_to("/secret")
    folder = os.open(tmp_path / "top", os.O_PATH | os.O_DIRECTORY)
    yield folder
    os.close(folder)


@pytest.mark.parametrize("path", [b"secret", b"etc/../secret", b"/secret", b"../secret", b"up", b"absolute"])
def test_the_directory_is_the_root(top: int, path: bytes) -> None:
    with open(open_below(top, path, os.O_RDONLY, IN_ROOT | NO_MAGICLINKS)) as file:
        assert file.read() == "of the target"
        assert not os.get_inheritable(file.fileno())


@pytest.mark.parametrize(
    ("path", "resolve", "code"),
    [
        (b"../secret", BENEATH, errno.EXDEV),
        (b"up", BENEATH, errno.EXDEV),
        (b"up", NO_SYMLINKS, errno.ELOOP),
        (b"none", IN_ROOT, errno.ENOENT),
    ],
)
def test_what_leads_out_is_refused_and_the_error_names_it(
    top: int, path: bytes, resolve: int, code: int
) -> None:
    with pytest.raises(OSError, match=os.strerror(code)) as caught:
        open_below(top, path, os.O_RDONLY, resolve)
    assert (caught.value.errno, caught.value.filename) == (code, path)


def test_an_error_of_a_system_call_names_the_call() -> None:
    with pytest.raises(OSError, match="'pidfd_getfd'") as caught:
        syscall("pidfd_getfd", -1, 0, 0)
    assert caught.value.errno == errno.EBADF
