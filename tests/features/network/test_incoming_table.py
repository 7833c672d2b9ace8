"""A session's ports in the packet filter, and when it is not sure to have kept them. The kernel's part is
tested in tests/sandbox."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pymirror.features.network.incoming import table as module
from pymirror.features.network.incoming.ruleset import LEASE, RENEW
from pymirror.features.network.incoming.sharing import ALONE
from pymirror.features.network.incoming.table import Table

pytestmark = pytest.mark.asyncio


class Clock:
    """And a packet filter that others have no ports of; `pause`: seconds that it keeps us before it says so."""

    now = pause = 0.0

    def __init__(self) -> None:
        self.looks = 0

    def monotonic(self) -> float:
        return self.now

    def run(self, commands: str) -> None:
        self.now += self.pause

    def list(self, command: str) -> list[dict[str, Any]]:
        self.looks += 1
        return []


async def in_network(call: Callable[[], Any]) -> Any:
    return call()


async def test_the_lease_counts_from_before_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    table = Table(in_network, clock, 1, "ann", (4,))  # type: ignore[arg-type]
    await table.take(80, ALONE)
    clock.looks = 0
    for clock.pause, waits, looks in ((0, RENEW, 0), (LEASE - 1, 0, 0), (0, RENEW, 1), (0, RENEW, 1)):
        clock.now += waits
        assert await table.renew() == []
        assert clock.looks == looks


class Contested(Clock):
    """Whenever somebody has taken the port, another has, too."""

    ran: list[str]

    def run(self, commands: str) -> None:
        self.ran.append(commands)

    def list(self, command: str) -> list[dict[str, Any]]:
        if not self.ran or "timeout" not in self.ran[-1]:
            return []
        element = {"elem": {"val": 80, "comment": "bob: whole"}}
        return [{"set": {"table": "pymirror-2", "name": "taken", "elem": [element]}}]


async def test_who_cannot_agree_on_a_port_waits_without_holding_up_renewals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, waits = Contested(), list[bool]()
    clock.ran = []
    table = Table(in_network, clock, 1, "ann", (4,))  # type: ignore[arg-type]

    async def sleep(seconds: float) -> None:
        waits.append(table._one.locked())

    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    with pytest.raises(OSError, match="others are taking it"):
        await table.take(80, ALONE)
    assert waits == [False] * (module.TRIES - 1)
    assert len(clock.ran) == 2 * module.TRIES and not table.ports
