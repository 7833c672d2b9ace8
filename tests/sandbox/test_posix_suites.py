"""The POSIX suites in a folder of the target, in mode `write`. What differs from a local file system is here,
with why, and in docs/limits.md in words: what fails beyond the table is a fault, and so is what passes in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from tests.sandbox import posix
from tests.sandbox.written_place import FOLDER, Place

pytestmark = pytest.mark.sandbox

USER = "changes are made as the target's first process, whoever the program is on this machine"
SOCKET = "a socket is bound on this machine"
RUN = "a file of the target is not run"
FAILED = {
    "chmod::failed_chmod_unchanged_ctime::*": USER,
    "link::unchanged_ctime_fails::*": USER,
    "rename::unchanged_ctime_failed::*": USER,
    "truncate::unchanged_ctime_failed": USER,
    "unlink::unchanged_ctime_failed::*": USER,
    "utimensat::nobody": USER,
    "utimensat::utime_now_nobody": USER,
    "utimensat::write_perm": USER,
    "*::uid_gid_eq_euid_egid": USER,
    "*::socket": SOCKET,
    "open::socket_error": SOCKET,
    "*::etxtbsy": RUN,
    "rmdir::ebusy": "nothing is mounted in the target",
}
SKIPPED = {
    "*::erofs_*": "it is not remounted: tests/sandbox/test_fs_refused.py",
    "link::link_count_max": "as on a tmpfs, which does not say how many fit",
}


def told(table: Mapping[str, str], found: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """What of `found` the table does not have, and what of the table is not found."""
    unknown = [f"{n}: {why}" for n, why in found.items() if not any(fnmatchcase(n, p) for p in table)]
    return unknown, [p for p in table if not any(fnmatchcase(n, p) for n in found)]


def test_pjdfstest(place: Place, tmp_path: Path) -> None:
    found = posix.pjdfstest(FOLDER, within=place.within(), second=tmp_path)
    failed, skipped, passed = (posix.having(found, each) for each in ("failed", "skipped", "passed"))
    assert told(FAILED, failed) == ([], [])
    assert told(SKIPPED, skipped) == ([], [])
    assert [name for name in passed if any(fnmatchcase(name, pattern) for pattern in FAILED)] == []
    assert len(passed) > 300


def test_fsx(place: Place) -> None:
    assert posix.fsx(f"{FOLDER}/fsx", 5000, 1, within=place.within()) == posix.Work(True)
    assert (place.folder / "fsx").exists()


def test_fsx_four_at_once(place: Place) -> None:
    found = posix.fsx_at_once(FOLDER, 4, 1500, 2, within=place.within())
    assert found == [posix.Work(True)] * 4
    assert len(list(place.folder.iterdir())) == 4
