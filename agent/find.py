"""Which process is the first one of a container: the scan of /proc, and the choice.

`scan` reads, `choose` decides (pure, tested as a table). No runtime socket and no hostPath is
needed: a container's id stands in its processes' cgroup paths, in version 1 and 2, under
containerd (`cri-containerd-ID.scope`, `/ID`), CRI-O (`crio-ID.scope`) and Docker (`docker-ID.scope`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence

from attrs import frozen

from pymirror.core.errors import UserError

_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]{11,}")


@frozen
class Candidate:
    """A process whose cgroup carries the container's id.

    pids: its ids from the reader's PID namespace inwards (`NSpid`). started: clock ticks after boot.
    """

    pid: int
    parent: int
    pids: tuple[int, ...]
    started: int


@frozen
class Choice:
    """The chosen process and why it."""

    pid: int
    reason: str


def choose(candidates: Sequence[Candidate]) -> Choice | None:
    """The container's first process, or None where there is no candidate.

    A process that is number 1 of its own PID namespace is it; of several the outermost (a
    container may run containers). Without one (hostPID or a shared process namespace) it is the
    oldest whose parent is outside: what was entered later by `exec` is younger.
    """
    first = [one for one in candidates if len(one.pids) > 1 and one.pids[-1] == 1]
    if first:
        found = min(first, key=lambda one: (len(one.pids), one.started, one.pid))
        return Choice(found.pid, "first process of the container's PID namespace")
    inside = {one.pid for one in candidates}
    tops = [one for one in candidates if one.parent not in inside]
    if tops:
        found = min(tops, key=lambda one: (one.started, one.pid))
        return Choice(found.pid, "oldest process of the container; it has no PID namespace of its own")
    return None


def names_container(cgroup: str, container_id: str) -> bool:
    """Does this /proc/PID/cgroup belong to the container itself (CRI-O's monitor does not)?"""
    pattern = rf"(?<![0-9A-Za-z]){re.escape(container_id)}(?![0-9A-Za-z])"
    return any(re.search(pattern, line) and "conmon" not in line for line in cgroup.splitlines())


def bare_id(container_id: str) -> str:
    """The id without the runtime's scheme (`containerd://`). UserError if it cannot be one."""
    bare = container_id.rpartition("://")[2]
    if not _ID.fullmatch(bare):
        raise UserError(
            f"--container-id {container_id!r} is not a container's id",
            "give status.containerStatuses[].containerID of the pod, with or without its scheme",
        )
    return bare


def find_container(container_id: str, proc: str = "/proc") -> Choice:
    """The first process of a container. UserError naming what was searched when there is none."""
    wanted = bare_id(container_id)
    looked = 0
    candidates: list[Candidate] = []
    for pid, cgroup in _cgroups(proc):
        looked += 1
        if names_container(cgroup, wanted):
            candidates.extend(_candidate(proc, pid))
    choice = choose(candidates)
    if choice is None:
        raise UserError(
            f"no process of the container {wanted} among {looked} in {proc}/*/cgroup",
            "is it still running, on this node? a Job agent needs hostPID, an ephemeral one "
            "shareProcessNamespace or `--pid 1`",
        )
    return choice


def _cgroups(proc: str) -> Iterator[tuple[int, str]]:
    for name in os.listdir(proc):
        if name.isdigit():
            text = _read(f"{proc}/{name}/cgroup")
            if text is not None:
                yield int(name), text


def _candidate(proc: str, pid: int) -> Iterator[Candidate]:
    """The process as a candidate; nothing if it has ended in between."""
    status, stat = _read(f"{proc}/{pid}/status"), _read(f"{proc}/{pid}/stat")
    if status is None or stat is None:
        return
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    pids = tuple(int(number) for number in fields.get("NSpid", str(pid)).split())
    # proc(5): the name in brackets may hold blanks, so count from the last bracket; field 22.
    started = int(stat.rpartition(")")[2].split()[19])
    yield Candidate(pid, int(fields["PPid"]), pids, started)


def _read(path: str) -> str | None:
    """The file's text, None for a process that has ended or is not ours to see (hidepid)."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
