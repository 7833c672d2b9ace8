"""Signals and stops as tables."""

import signal

import pytest
from attrs import frozen

from pymirror.layer.launch import IGNORED, exit_status, may_stop, passes_on

PROGRAM = 77


@frozen
class Came:
    number: int
    from_user: bool
    sender: int


@pytest.mark.parametrize(
    ("came", "passed", "by_leader"),
    [
        (Came(signal.SIGINT, True, 5), True, True),
        (Came(signal.SIGINT, False, 0), False, False),  # the terminal's Ctrl-C went to the whole group
        (Came(signal.SIGTERM, True, PROGRAM), False, False),  # kill(0): it signalled itself already
        (Came(signal.SIGCONT, True, 5), True, True),
        (Came(signal.SIGTSTP, True, 5), True, True),
        (Came(signal.SIGTSTP, False, 0), False, False),
        (Came(signal.SIGCHLD, True, 5), False, False),
        (Came(signal.SIGCHLD, False, 0), False, False),
        (Came(signal.SIGHUP, True, 5), True, True),
        (Came(signal.SIGHUP, True, PROGRAM), False, False),
        (Came(signal.SIGHUP, False, 0), False, True),  # the terminal is gone: its session's leader hears it
        (Came(signal.SIGCONT, False, 0), False, True),  # comes with it
        (Came(signal.SIGWINCH, False, 0), False, False),
    ],
)
def test_which_signals_are_passed_on(came, passed, by_leader):
    assert passes_on(came, PROGRAM, leader=False) is passed
    assert passes_on(came, PROGRAM, leader=True) is by_leader


@pytest.mark.parametrize(("status", "expected"), [(0, 0), (7 << 8, 7), (15, 143), (9, 137), (128 | 11, 139)])
def test_exit_status(status, expected):
    assert exit_status(status) == expected


@pytest.mark.parametrize(
    ("terminal", "leader", "expected"), [(34816, False, True), (34816, True, False), (0, False, False)]
)
def test_pymirror_stops_only_where_a_shell_continues_it(terminal, leader, expected):
    assert may_stop(terminal, leader) is expected


def test_pythons_own_ignored_signals_are_not_the_programs():
    assert signal.SIGPIPE not in IGNORED
