"""Calls of `other` that go on though the path is the target's by the rules. Asks the kernel what is here.

A program's own files are this machine's (mirrord runs local binaries, too), so what exists here is run from
here; the default lists leave few such paths to the target.
"""

from __future__ import annotations

import os

from pymirror.core.call import Call, Untouched
from pymirror.features.fs.rules import Decision


def goes_on(call: Call, decision: Decision) -> Untouched | None:
    """The verdict on a call that is made on this machine all the same; None: as the decision says."""
    if call.system in ("execve", "execveat") and os.path.exists(call.path):
        return Untouched(f"{decision.reason}; but it is here, and programs are run from this machine")
    return None
