"""Calls that are made on this machine only: what their verdicts become, and what is said of it."""

import errno
import logging

import pytest

from pymirror.core.call import Call, Errno, OtherPath, Scope, Text, Untouched
from pymirror.core.feature import LayerFeature, intercepts
from pymirror.layer.calls import Dispatch
from pymirror.layer.other import settled

THERE = OtherPath("a rule", root=3, path=b"data")


@pytest.mark.parametrize(
    ("system", "code"),
    [
        ("name_to_handle_at", errno.EOPNOTSUPP),
        ("execve", errno.EACCES),
        ("mount", errno.EPERM),
        ("open_tree_attr", errno.EPERM),
        ("getxattrat", errno.ENOSYS),
        ("not_known_yet", errno.ENOSYS),
    ],
)
@pytest.mark.parametrize("verdict", [THERE, Text("a rule", value=b"x")])
def test_what_leads_elsewhere_fails_by_its_name(system, code, verdict):
    found = settled(Call("other", b"/data", system=system), verdict)
    assert found == Errno(f"a rule; pymirror does not carry out {system} there", code=code)


@pytest.mark.parametrize("verdict", [Untouched("x", scope=Scope.CALL), Errno("x", code=errno.ENOENT)])
def test_what_is_here_or_nowhere_stays_so(verdict):
    assert settled(Call("other", b"/data", system="chroot"), verdict) is verdict


def test_calls_that_are_carried_out_stay_so():
    assert settled(Call("stat", b"/data"), THERE) is THERE


class There(LayerFeature):
    name = "there"

    @intercepts("other")
    def decide(self, call):
        return THERE


def test_each_is_traced_and_said_once_by_name(caplog):
    traced = []
    dispatch = Dispatch([There(None, None)], lambda call, verdict: traced.append((call.system, verdict.code)))
    with caplog.at_level(logging.WARNING):
        for system, path in (("chroot", b"/a"), ("chroot", b"/b"), ("mount", b"/c\xff")):
            assert isinstance(dispatch(Call("other", path, system=system)), Errno)
    assert traced == [("chroot", errno.EPERM)] * 2 + [("mount", errno.EPERM)]
    assert [record.getMessage().partition(" fails: ")[0] for record in caplog.records] == [
        "chroot of /a",
        "mount of /c\udcff",
    ]
