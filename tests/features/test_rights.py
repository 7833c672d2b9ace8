"""What each of pymirror's own features may do beside a target: no more than was measured to be needed."""

from __future__ import annotations

import pytest

from pymirror.core import registry

RIGHTS = {
    "env": {"SYS_PTRACE", "DAC_OVERRIDE"},
    "hostname": {"SYS_PTRACE"},
    "fs": {"SYS_PTRACE", "DAC_OVERRIDE"},
    "network.outgoing": {"SYS_PTRACE", "SYS_ADMIN"},
}


@pytest.mark.parametrize("name", RIGHTS)
def test_rights(name: str) -> None:
    half = registry.layer_halves()[name].cls
    assert half.rights(half.Config()) == RIGHTS[name]
