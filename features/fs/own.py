"""Paths that the program has changed on this machine, which it reads from here and not from the target then.

Which are there is not kept: the kernel is asked. So a change that failed changes no answer, and where a file
was removed here again, the target's of that name is seen.
"""

from __future__ import annotations

from collections import OrderedDict

MOST = 65_536
"""Paths; the oldest makes room."""


class Own:
    """Of one session. `full`: some were forgotten."""

    def __init__(self) -> None:
        self._paths: OrderedDict[bytes, None] = OrderedDict()
        self.full = False

    def add(self, path: bytes) -> bool:
        """The program changes it here. Was that not known?"""
        new = path not in self._paths
        self._paths[path] = None
        self._paths.move_to_end(path)
        if len(self._paths) > MOST:
            self._paths.popitem(last=False)
            self.full = True
        return new

    def covers(self, path: bytes) -> bool:
        """Is it one of them, or below one?"""
        while self._paths:
            if path in self._paths:
                return True
            path = path.rpartition(b"/")[0]
            if not path:
                return False
        return False
