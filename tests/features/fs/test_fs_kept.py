"""Folders kept open: which are closed when names change, and that no other is."""

from __future__ import annotations

import os

import pytest

from pymirror.features.fs.kept import KeptFolders

PATHS = [b"/", b"/a", b"/a/b", b"/a/b/c", b"/ab", b"/x/y"]


def kept(folders: KeptFolders) -> list[bytes]:
    return [path for path in PATHS if folders.get(path) >= 0]


@pytest.fixture
def folders() -> KeptFolders:
    made = KeptFolders(len(PATHS))
    for path in PATHS:
        made.keep(path, os.open("/", os.O_PATH))
    return made


@pytest.mark.parametrize(
    ("gone", "left"),
    [
        (b"/a", [b"/", b"/ab", b"/x/y"]),
        (b"/a/b", [b"/", b"/a", b"/ab", b"/x/y"]),
        (b"/x", [b"/", b"/a", b"/a/b", b"/a/b/c", b"/ab"]),
        (b"/a/b/c/d", PATHS),
        (b"/none", PATHS),
        (b"/", []),
    ],
)
def test_what_is_below_a_name_goes_with_it(folders: KeptFolders, gone: bytes, left: list[bytes]) -> None:
    open_before = len(os.listdir("/proc/self/fd"))
    folders.lose(gone)
    assert kept(folders) == left
    assert len(os.listdir("/proc/self/fd")) == open_before - (len(PATHS) - len(left))
    folders.lose(b"/")
    assert not folders._below


def test_the_one_not_asked_for_longest_goes_first() -> None:
    folders = KeptFolders(2)
    for path in (b"/", b"/a"):
        folders.keep(path, os.open("/", os.O_PATH))
    assert folders.get(b"/") >= 0
    folders.keep(b"/a/b", os.open("/", os.O_PATH))
    assert kept(folders) == [b"/", b"/a/b"]
    folders.lose(b"/a")
    assert kept(folders) == [b"/"]
    folders.lose(b"/")
