"""The names plug-in authors import: adding one is a decision, removing one breaks plug-ins."""

from __future__ import annotations

import subprocess
import sys

import pymirror.core

NAMES = (
    "CALLS AgentFeature Bind Call ChannelLost ConfigError Errno Launch LayerFeature OtherAddress OtherPath "
    "Peer PeerError PluginError Process PymirrorError Scope Stream SupportError Target Text Untouched Verdict "
    "handles intercepts message"
)


def test_the_names_are_these() -> None:
    assert pymirror.core.__all__ == NAMES.split()
    assert all(hasattr(pymirror.core, name) for name in pymirror.core.__all__)


def test_importing_them_is_light() -> None:
    heavy = "import sys, pymirror.core; print({'zmq', 'stevedore', 'asyncio'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
