"""What the agent may do: everything it does not need is given up before it listens.

What it needs comes with its order (`--rights`), for each feature says so in its layer half. Measured:
a Job agent reads a pod's files with SYS_PTRACE and its environment with DAC_OVERRIDE on top; an
ephemeral one of the target's user needs neither.
Runs before any thread exists: capabilities belong to threads, not to processes.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from collections.abc import Iterable

from pymirror.core import capset
from pymirror.core.capability import CAPABILITIES
from pymirror.core.errors import SupportError, UserError

CAP_SETPCAP = CAPABILITIES.index("SETPCAP")

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4

_libc = ctypes.CDLL(None, use_errno=True)


def numbers(names: Iterable[str]) -> frozenset[int]:
    """The numbers of capabilities given by name. UserError for a name that is none."""
    found = set()
    for name in names:
        if name not in CAPABILITIES:
            raise UserError(f"--rights {name!r} is no Linux capability", "for example SYS_PTRACE")
        found.add(CAPABILITIES.index(name))
    return frozenset(found)


def confine(keep: frozenset[int]) -> frozenset[int]:
    """Give up all capabilities but `keep`, core dumps, and the right to gain any; what is left.

    The one thing taken: as many descriptors as a process here may have, since features hold files open.
    """
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    left = give_up(keep)
    # Not dumpable: no process of the same user may trace the agent or read its key.
    _prctl(_PR_SET_DUMPABLE, 0)
    return left


def give_up(keep: frozenset[int]) -> frozenset[int]:
    """Of this thread and those it starts: all capabilities but `keep`, and the right to gain any."""
    effective, permitted = capset.held()
    if effective >> CAP_SETPCAP & 1:
        for number in range(64):
            if number not in keep and _libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0) == 1:
                _prctl(_PR_CAPBSET_DROP, number)
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    capset.keep_only(sum(1 << number for number in keep))
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    return frozenset(number for number in keep if permitted >> number & 1)


def end_with(parent: int) -> None:
    """Have the kernel send SIGTERM when `parent`, this process's parent, ends, however it ends.

    SupportError when it has ended already.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise SupportError(f"the process {parent} that started this agent is gone")


def _prctl(option: int, argument: int) -> None:
    if _libc.prctl(option, argument, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl {option}: {os.strerror(code)}")
