"""What the POSIX suites say is read as they mean it, and a suite that did not end is no suite that passed."""

from __future__ import annotations

import signal
import subprocess

import pytest

from tests.sandbox import posix
from tests.sandbox.posix import OPERATIONS, USERS, Ran, Verdict, Work

TOLD = """\
mkdir::uid_gid_eq_euid_egid                                                   ok
rmdir::erofs_named                                                       skipped
	Remounts (allow_remount) are not allowed in the configuration file
chown::lchown::eloop_comp                                                 FAILED
	assertion `left == right` failed
  left: Err(EPERM)
 right: Err(EACCES)
chmod::enotdir_component::char                                            skipped
	requires root privileges
	requires features: chflags
open::eloop_comp                                                              ok
"""
SUMMARY = "\nSummary: 1 failed, 2 skipped, 2 passed, 0 expected failures, 5 total\n"
READ = {
    "mkdir::uid_gid_eq_euid_egid": Verdict("passed"),
    "rmdir::erofs_named": Verdict(
        "skipped", "Remounts (allow_remount) are not allowed in the configuration file"
    ),
    "chown::lchown::eloop_comp": Verdict(
        "failed", "assertion `left == right` failed\nleft: Err(EPERM)\nright: Err(EACCES)"
    ),
    "chmod::enotdir_component::char": Verdict(
        "skipped", "requires root privileges\nrequires features: chflags"
    ),
    "open::eloop_comp": Verdict("passed"),
}


def test_verdicts() -> None:
    found = posix.verdicts(TOLD + SUMMARY)
    assert list(found.items()) == list(READ.items())
    assert posix.having(found, "skipped") == {
        name: each.why for name, each in READ.items() if each.outcome == "skipped"
    }


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (TOLD + SUMMARY, True),
        (TOLD, False),
        ("", False),
        (
            TOLD.replace("open::eloop_comp ", "open eloop_comp  ") + SUMMARY,
            False,
        ),  # a line that was not understood
    ],
)
def test_whole(said: str, expected: bool) -> None:
    assert posix.whole(said, posix.verdicts(said)) is expected


def test_what_did_not_end() -> None:
    error = posix.Unfinished(Ran(None, TOLD, "what it complained of"), posix.verdicts(TOLD))
    assert str(error) == "ended at its limit, the last of 5 tests was open::eloop_comp: what it complained of"
    assert error.verdicts == READ
    assert (
        str(posix.Unfinished(Ran(1, "", "no such folder"), {}))
        == "ended with 1, the last of 0 tests was none: no such folder"
    )


WRONG_SIZE = """\
[ERROR fsx] Size error: expected 0x1d120 but found 0x40000 by stat and 0x40000 by seek
[ERROR fsx] Using seed 7
[ERROR fsx] LOG DUMP
[ERROR fsx] 1 TRUNCATE  UP   from     0x0 to 0x253bb
"""
WRONG_DATA = """\
[ERROR fsx] miscompare: offset= 0x3e0f, size = 0xa1
[ERROR fsx] OFFSET GOOD  BAD  RANGE
[ERROR fsx] 0x3e0f 0x12 0x00 0x1
[ERROR fsx] Using seed 7
[ERROR fsx] LOG DUMP
"""
UNSUPPORTED = """\
Test file system does not support posix_fallocate.
[ERROR fsx] Using seed 7
[ERROR fsx] LOG DUMP
"""
PANIC = """\

thread 'main' (4585) panicked at /somewhere/fsx-0.3.2/src/main.rs:1769:44:
Cannot create file: Os { code: 2, kind: NotFound, message: "No such file or directory" }
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace
"""


SIZE_LOG = "Using seed 7\nLOG DUMP\n1 TRUNCATE  UP   from     0x0 to 0x253bb\n"
SIZE = "Size error: expected 0x1d120 but found 0x40000 by stat and 0x40000 by seek"
DATA = "miscompare: offset= 0x3e0f, size = 0xa1\nOFFSET GOOD  BAD  RANGE\n0x3e0f 0x12 0x00 0x1"
LOG = "Using seed 7\nLOG DUMP\n"
NO_FILE = 'Cannot create file: Os { code: 2, kind: NotFound, message: "No such file or directory" }'


@pytest.mark.parametrize(
    ("ran", "expected"),
    [
        (Ran(0, "All operations completed A-OK!\n", ""), Work(True)),
        (Ran(1, "", WRONG_SIZE), Work(False, SIZE, SIZE_LOG)),
        (Ran(1, "", WRONG_DATA), Work(False, DATA, LOG)),
        (Ran(1, "", UNSUPPORTED), Work(False, "Test file system does not support posix_fallocate.", LOG)),
        (Ran(101, "", PANIC), Work(False, NO_FILE)),
        (Ran(125, "", "pymirror: error: no such target\n"), Work(False, "pymirror: error: no such target")),
        (Ran(0, "", ""), Work(False, "it ended with 0")),  # another program than fsx
        (Ran(-25, "", ""), Work(False, "it ended with -25")),
        (Ran(None, "", "as it was"), Work(False, "it was ended at its limit", "as it was")),
    ],
)
def test_work(ran: Ran, expected: Work) -> None:
    assert posix.work(ran) == expected


def test_settings() -> None:
    assert posix._settings(USERS, ("utimensat",), 0.01, False).splitlines() == [
        "[features]",
        "[settings]",
        "naptime = 0.01",
        "allow_remount = false",
        "[dummy_auth]",
        'entries = [["nobody", "nogroup"], ["daemon", "daemon"]]',
        "[features.utimensat]",
    ]


def test_what_has_no_weight_is_not_done() -> None:
    flen, table, *lines = posix._weights({"read": 1.0, "write": 2.0}, 4096).splitlines()
    assert (flen, table) == ("flen = 4096", "[weights]")
    assert {line for line in lines if not line.endswith(" 0.0")} == {"read = 1.0", "write = 2.0"}
    assert len(lines) == len(OPERATIONS)


def test_a_run_has_the_environment_it_is_given() -> None:
    ran = posix.run(
        ["sh", "-c", 'echo "$WORD"; umask; echo no >&2; exit 3'],
        {"WORD": "given", "PATH": "/usr/bin:/bin"},
        60.0,
    )
    assert ran == Ran(3, "given\n0022\n", "no\n")


def test_a_run_ends_at_its_limit() -> None:
    assert posix.run(["sleep", "1000"], None, 0.0).status is None


def test_with_a_run_ends_what_it_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posix, "PATIENCE", 0.0)
    stubborn = ["sh", "-c", "trap '' TERM; sleep 1000 & echo started; wait"]
    with subprocess.Popen(stubborn, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        posix.end(process)
        assert process.returncode == -signal.SIGKILL
        assert process.stdout.read() == b""  # once nobody has it open
