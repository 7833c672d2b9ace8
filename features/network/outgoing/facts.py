"""What the rules ask about this machine and about names (`rules.Facts`): answered, or not known yet."""

from __future__ import annotations

from collections.abc import Iterable

from pymirror.features.network import listeners
from pymirror.features.network.names import Names
from pymirror.features.network.outgoing.lookups import Lookups
from pymirror.features.network.outgoing.rules import Facts
from pymirror.features.network.ports import Ports


class Now(Facts):
    """What is true now, on this machine."""

    def __init__(self, ours: listeners.Listeners, ports: Ports, names: Names, lookups: Lookups) -> None:
        self._ours, self._ports, self._names, self._lookups = ours, ports, names, lookups

    def listens(self, transport: str, port: int) -> str:
        return self._ours.of(transport, port)

    def others(self, port: int) -> Iterable[int]:
        return self._ports.others(port)

    def names(self, host: str) -> Iterable[str]:
        return self._names.of(host)

    def look_up(self, name: str) -> Iterable[str] | None:
        return self._lookups.known(name)


class Unasked(Facts):
    """For `explain`, which looks at nothing but the configuration."""

    def listens(self, transport: str, port: int) -> str:
        return ""

    def others(self, port: int) -> Iterable[int]:
        return ()

    def names(self, host: str) -> Iterable[str]:
        return ()

    def look_up(self, name: str) -> Iterable[str] | None:
        return None
