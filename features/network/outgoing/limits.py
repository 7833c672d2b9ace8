"""How many connections there may be at once: as configured, or as the descriptors of the process allow. Pure.

What is over the limit is refused before a descriptor is spent on it: without any left, the pump could not
even look at the program's sockets.
"""

from __future__ import annotations

import logging
import resource

LAYER, AGENT = 2, 4
"""The share of the descriptors: one in so many. In the agent, files and folders of `fs` have five eighths."""


def share(descriptors: int, part: int, most: int) -> int:
    """Connections for a process that may have so many descriptors."""
    return most if descriptors == resource.RLIM_INFINITY else max(1, min(most, descriptors // part))


class Limit:
    """The layer's. Each reason to refuse is told once."""

    def __init__(self, most: int, log: logging.Logger) -> None:
        self._wanted = self.most = most
        self._log = log
        self._told: set[str] = set()

    def fit(self, descriptors: int) -> None:
        """This process may have so many descriptors."""
        self.most = share(descriptors, LAYER, self._wanted)

    def refused(self) -> str:
        """Why there may be no more, in words; the first time it is said to the user too."""
        key = "feature.network.outgoing.max_connections"
        whose = f"{key} allows" if self.most == self._wanted else "`ulimit -Hn` allows here"
        return self._tell(f"{self.most} connections are open, as many as {whose}")

    def refused_there(self) -> str:
        """The same for the agent."""
        return self._tell(
            "the agent has as many connections as it may (max_connections, its own `ulimit -Hn`)"
        )

    def _tell(self, words: str) -> str:
        if words not in self._told:
            self._told.add(words)
            self._log.warning("%s: further ones fail with EADDRNOTAVAIL until one is closed", words)
        return words
