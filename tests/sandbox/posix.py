"""The POSIX suites: pjdfstest, a verdict on each rule of each call; fsx, random work on a file that adds up.

On Linux pjdfstest 0.2.2 has 398 tests. As root on a tmpfs none fails, 16 are skipped; as a user 142 more are.
That takes 0.9 s: 81 naps of 10 ms, and 22,000 system calls, half of them for ENAMETOOLONG's 14 long paths.
On ext4 `link::link_count_max` runs, too, and makes 65,000 links; a tmpfs and FUSE do not say how many fit.
Every folder above must let the two users through: below a private one (mode 0700) 22 tests fail.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from attrs import frozen
from crates import crate

USERS = (("nobody", "nogroup"), ("daemon", "daemon"))
"""Two (user, its first group) that every Debian has; one of those that pjdfstest takes untold it has not."""
FEATURES = ("posix_fallocate", "rename_ctime", "utime_now", "utimensat")
"""What pjdfstest tests only when told to; the others are not Linux's."""
OPERATIONS = {
    **dict.fromkeys(
        ("read", "write", "truncate", "mapread", "mapwrite", "sendfile", "copy_file_range"), 10.0
    ),
    **dict.fromkeys(("close_open", "fsync", "fdatasync", "invalidate", "posix_fadvise"), 1.0),
    **dict.fromkeys(("punch_hole", "posix_fallocate"), 1.0),
}
"""All that fsx can do to a file, each with its weight among them. What gets 0 is not done.

It never unmaps what it maps, so each close_open leaves a file that is open: 13 in 1,000 operations.
"""
PATIENCE = 10.0
"""Seconds that a session has to undo what it did to this machine."""
PROGRAM = "pjdfstest::tests::"
"""What a test's name begins with where it is asked for exactly, and nowhere else."""
TEST = re.compile(r"^(\w+(?:::\w+)+) +(ok|FAILED|skipped)$")
SUMMARY = re.compile(r"^Summary: (\d+) failed, (\d+) skipped, (\d+) passed,", re.MULTILINE)
OUTCOMES = {"ok": "passed", "FAILED": "failed", "skipped": "skipped"}


@frozen
class Verdict:
    """outcome: passed, failed or skipped. why: the program's words for it, empty for what passed."""

    outcome: str
    why: str = ""


@frozen
class Work:
    """What fsx found. why: its words for what is wrong, empty when nothing is. log: what it did up to there,
    the last 1,024 operations."""

    passed: bool
    why: str = ""
    log: str = ""


@frozen
class Ran:
    """status: negative for a signal, None when it was ended at its limit."""

    status: int | None
    said: str
    complained: str


class Unfinished(Exception):
    """The suite did not get to its end: it never began, broke down or hung. verdicts: what it said before."""

    def __init__(self, ran: Ran, verdicts: dict[str, Verdict]):
        self.verdicts = verdicts
        last = next(reversed(verdicts), "none")
        how = "at its limit" if ran.status is None else f"with {ran.status}"
        super().__init__(
            f"ended {how}, the last of {len(verdicts)} tests was {last}: {ran.complained[-2000:]}"
        )


def pjdfstest(
    folder: Path | str,
    *patterns: str,
    exact: bool = False,
    within: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    users: Sequence[tuple[str, str]] = USERS,
    features: Sequence[str] = FEATURES,
    nap: float = 0.01,
    second: Path | str | None = None,
    remount: bool = False,
    limit: float = 100.0,
) -> dict[str, Verdict]:
    """The verdict on each test, by its name, in the order they ran.

    folder: where the program sees it; it works in a new folder there. patterns: parts of names, or with
    `exact` whole names; none is all. within: the command that the program's follows. environ: instead of the
    caller's. nap: seconds after which a file's time must be another. second: a folder of another file system,
    for EXDEV. remount: the mount of `folder` may be made read-only and back, for EROFS: only with the pattern
    `erofs`, as other tests leave files open, which makes the mount busy. limit: seconds; what hangs is the
    test after the last one told. Raises Unfinished, and LookupError for a pattern without a test.
    """
    with scratch() as place:
        config = place / "pjdfstest.toml"
        config.write_text(_settings(users, features, nap, remount))
        words = [*within, str(crate("pjdfstest")), "-c", str(config), "-p", str(folder)]
        words += [] if second is None else ["-s", str(second)]
        words += ["-e", *(PROGRAM + name for name in patterns)] if exact else patterns
        ran = run(words, environ, limit)
    found = verdicts(ran.said)
    if not whole(ran.said, found):
        raise Unfinished(ran, found)
    if unknown := [part for part in patterns if not any(part in name for name in found)]:
        raise LookupError(f"no test's name is or has {', '.join(unknown)}")
    return found


def fsx(
    file: Path | str,
    operations: int,
    seed: int,
    *,
    within: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    weights: Mapping[str, float] = OPERATIONS,
    size: int = 256 * 1024,
    limit: float = 100.0,
) -> Work:
    """What came of that many operations on a file, made anew; the same seed and weights do the same ones.

    size: the file's largest, in bytes. within, environ, limit: as for `pjdfstest`. A program that hangs or is
    killed fails, too. On a tmpfs 10,000 operations take 0.3 s.
    """
    with scratch() as place:
        config = place / "fsx.toml"
        config.write_text(_weights(weights, size))
        # What the file should have held is written when it does not: not beside it, where it is under test.
        words = [*within, str(crate("fsx")), "-f", str(config), "-P", str(place), "-N", str(operations)]
        return work(run([*words, "-S", str(seed), str(file)], environ, limit))


def fsx_at_once(
    folder: Path | str,
    processes: int,
    operations: int,
    seed: int,
    *,
    within: Sequence[str] = (),
    weights: Mapping[str, float] = OPERATIONS,
    limit: float = 100.0,
) -> list[Work]:
    """The same for several processes that one command started, each with a file of its own in the folder."""
    with scratch() as place:
        (place / "fsx.toml").write_text(_weights(weights, 256 * 1024))
        program, lines = shlex.quote(str(crate("fsx"))), []
        for number in range(seed, seed + processes):
            words = (
                f"{program} -f {place}/fsx.toml -P {place} -N {operations} -S {number} {folder}/fsx{number}"
            )
            lines.append(f"({words} >{place}/{number}.out 2>{place}/{number}.err; echo {number} $?) &")
        ran = run([*within, "sh", "-c", "\n".join([*lines, "wait"])], None, limit)
        ended = {int(line.split()[0]): int(line.split()[1]) for line in ran.said.splitlines()}
        return [
            work(Ran(ended.get(n), *((place / f"{n}.{end}").read_text() for end in ("out", "err"))))
            for n in range(seed, seed + processes)
        ]


def having(found: Mapping[str, Verdict], outcome: str) -> dict[str, str]:
    """The tests with that outcome, each with why."""
    return {name: each.why for name, each in found.items() if each.outcome == outcome}


def verdicts(said: str) -> dict[str, Verdict]:
    """Read from pjdfstest's output: a line for a test, then those that say why."""
    found: dict[str, Verdict] = {}
    name, body = "", said.partition("\nSummary: ")[0]
    for line in body.splitlines():
        if told := TEST.match(line):
            name = told[1]
            found[name] = Verdict(OUTCOMES[told[2]])
        elif name and line.strip():
            before = found[name]
            found[name] = Verdict(before.outcome, f"{before.why}\n{line.strip()}".lstrip())
    return found


def whole(said: str, found: Mapping[str, Verdict]) -> bool:
    """Whether pjdfstest's last line is there and counts what was read."""
    counted = SUMMARY.search(said)
    kinds = [each.outcome for each in found.values()]
    return counted is not None and [*map(int, counted.groups())] == [
        kinds.count(each) for each in ("failed", "skipped", "passed")
    ]


def work(ran: Ran) -> Work:
    """Read from fsx's end. Before its log it says what is wrong; a call that fails ends it without one."""
    if ran.status == 0 and "A-OK" in ran.said:
        return Work(True)
    if ran.status is None:
        return Work(False, "it was ended at its limit", ran.complained)
    why, _, log = re.sub(r"^\[ERROR fsx\] ", "", ran.complained, flags=re.MULTILINE).partition("Using seed")
    _, _, panic = why.partition(" panicked at ")
    why = panic.partition("\n")[2].partition("\nnote: ")[0] or why
    return Work(False, why.strip() or f"it ended with {ran.status}", f"Using seed{log}" if log else "")


def run(words: Sequence[str], environ: Mapping[str, str] | None, limit: float) -> Ran:
    """Runs it to its end, or at its limit ends it and what it started. What it says goes to files: a pipe
    stays open as long as anything it left behind."""
    # Backtraces would stand between the lines that are read.
    env = {**(os.environ if environ is None else environ), "RUST_BACKTRACE": "0"}
    with _output() as said, _output() as complained:
        # Another mask would keep the suite's users out of the folders it makes.
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=complained,
            env=env,
            umask=0o022,
            start_new_session=True,
        )
        try:
            status: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            if process.returncode is None:
                end(process)
        said.seek(0)
        complained.seek(0)
        return Ran(status, said.read(), complained.read())


def _output() -> IO[str]:
    return tempfile.TemporaryFile("w+", errors="replace")


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends its whole group, first so that what has something to undo can."""
    os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that whoever the program runs as can read, and write to."""
    with tempfile.TemporaryDirectory(prefix="pymirror-posix-") as name:
        os.chmod(name, 0o777)
        yield Path(name)


def _settings(users: Sequence[tuple[str, str]], features: Sequence[str], nap: float, remount: bool) -> str:
    tables: dict[str, dict[str, object]] = {
        "features": {},
        "settings": {"naptime": nap, "allow_remount": remount},
        "dummy_auth": {"entries": [list(each) for each in users]},
    }
    return _toml({**tables, **{f"features.{name}": {} for name in features}})


def _weights(weights: Mapping[str, float], size: int) -> str:
    untold = dict.fromkeys(OPERATIONS, 0.0)  # else some that are not named are done all the same
    return _toml({"": {"flen": size}, "weights": {**untold, **weights}})


def _toml(tables: Mapping[str, Mapping[str, object]]) -> str:
    """Numbers, words and lists are written as JSON writes them."""
    lines: list[str] = []
    for name, entries in tables.items():
        lines += [f"[{name}]"] if name else []
        lines += [f"{key} = {json.dumps(value)}" for key, value in entries.items()]
    return "\n".join(lines) + "\n"
