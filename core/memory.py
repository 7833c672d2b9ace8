"""How much memory this process may have: the machine's, or less where a control group says so."""

from __future__ import annotations

from pathlib import Path

MACHINE = Path("/proc/meminfo")
OWN_GROUP = Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")


def most() -> int:
    """Bytes. A group's limit is known where this process may see it: version 2, mounted in its place."""
    limits = [int(MACHINE.read_text().split("MemTotal:")[1].split()[0]) << 10]
    for line in OWN_GROUP.read_text().splitlines():
        if line.startswith("0::"):
            group = GROUPS / line[3:].lstrip("/")
            limits += [limit for each in (group, *group.parents) if (limit := _limit(each)) is not None]
    return min(limits)


def _limit(group: Path) -> int | None:
    try:
        words = (group / "memory.max").read_text().strip()
    except OSError:  # the root has none; outside of it there is no group
        return None
    return None if words == "max" else int(words)


def too_much(size: int) -> str:
    """Why `size` bytes are not to be kept here, in words; empty where they may be: half of what there is."""
    there = most()
    return f"more than half of the memory there is ({there})" if 2 * size > there else ""
