"""What the agent holds and sends at most, as tables."""

from __future__ import annotations

import resource

import pytest

from pymirror.features.fs import messages as m
from pymirror.features.fs.agent import MOST_NEWS, fitting, news, shares


@pytest.mark.parametrize(
    ("limit", "files", "folders"),
    [
        (resource.RLIM_INFINITY, 4096, 1024),
        (1 << 20, 4096, 1024),
        (8192, 4096, 1024),
        (4096, 2048, 512),
        (1024, 512, 128),
        (64, 32, 16),
        (8, 16, 16),
    ],
)
def test_what_is_held_open_leaves_descriptors_for_walks(limit: int, files: int, folders: int) -> None:
    assert shares(limit) == (files, folders)


@pytest.mark.parametrize(
    ("paths", "below", "lost", "all_of_it"),
    [
        ([b"/a"], [b"/b"], False, False),
        ([b"/a"], [], True, True),
        ([b"x" * MOST_NEWS], [], False, False),
        ([b"x" * MOST_NEWS], [b"/"], False, True),
        ([b"x" * 2200] * 2500, [b"x" * 2200] * 2500, False, True),
    ],
)
def test_news_too_large_to_be_sent_are_that_all_may_be_different(
    paths: list[bytes], below: list[bytes], lost: bool, all_of_it: bool
) -> None:
    wanted = m.Changed([], [], True, 7) if all_of_it else m.Changed(paths, below, turn=7)
    assert news(paths, below, lost, 7) == wanted


@pytest.mark.parametrize(
    ("sizes", "most", "count"),
    [
        ([], 10, 1),
        ([4, 4, 4], 10, 2),
        ([5, 5], 10, 2),
        ([11, 1], 10, 1),
        ([1] * 5, 100, 5),
        ([9, 9, 1], 10, 1),
    ],
)
def test_how_many_entries_make_a_part(sizes: list[int], most: int, count: int) -> None:
    assert fitting(sizes, most) == count
