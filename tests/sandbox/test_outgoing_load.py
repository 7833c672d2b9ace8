"""Much at once and much in sequence: everything arrives, memory is bounded, nothing is left.

Memory is in MiB, of the layer and of the agent.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest
import pytest_asyncio

from tests.sandbox.pod_network import PROGRAMS, Pod, pod, run

pytestmark = pytest.mark.sandbox

LOAD = PROGRAMS / "outgoing_load.py"
MOST = 80
"""What the agent may have with 1,000 connections; neither half was seen to need more than 55."""


POOL = 4 << 20
"""With it 62 and 53 MiB were seen where many stall; with 64 MiB each way 133 and 122."""


@pytest_asyncio.fixture
async def there() -> Any:
    """Of its own for each: what the last one left half open there does not count."""
    async with pod() as made:
        yield made


async def case(there: Pod, name: str, session: dict[str, Any] | None = None, **outgoing: Any) -> Any:
    command = (sys.executable, LOAD, name, there.pid)
    return (await there.run(*command, feature={"outgoing": outgoing}, session=session, trace=False)).json()


async def test_a_gigabyte_each_way_while_others_are_stalled(there: Pod) -> None:
    found = await case(there, "gigabyte")
    assert max(found.pop("most")) <= MOST
    assert found == {"equal": True, "waited": True, "held up": True}


async def test_what_stalls_together_is_bounded_together(there: Pod) -> None:
    found = await case(there, "many_stalled", {"in_flight_to_layer": POOL, "in_flight_to_agent": POOL})
    assert max(found.pop("most")) <= MOST
    assert found == {"equal": True, "held up": True}


async def test_a_thousand_at_once(there: Pod) -> None:
    found = await case(there, "thousand")
    assert max(found.pop("memory")) <= MOST
    left, before = found.pop("left")
    assert left == before
    assert found == {"carried": 2000, "there": 2000}


async def test_ten_thousand_one_after_the_other(there: Pod) -> None:
    """With a limit of 256 at once, a connection that is not counted off would be seen as well."""
    found = await case(there, "one_after_the_other", max_connections=256)
    left, before = found["left"]
    assert left == before
    assert found["carried"] == 10_000
    assert all(after <= first + 16 for first, after in zip(*found["memory"], strict=True))  # 12: names.c


@pytest.mark.parametrize(
    ("outgoing", "most", "words"),
    [
        ({"max_connections": 30}, 30, "as many as feature.network.outgoing.max_connections allows"),
        ({}, 50, "the agent has as many connections as it may (max_connections, its own `ulimit -Hn`)"),
    ],
    ids=["configured", "descriptors"],
)
async def test_one_more_than_there_may_be(there: Pod, outgoing: Any, most: int, words: str) -> None:
    few = ("bash", "-c", 'ulimit -n 200; exec "$@"', "few")
    command = (sys.executable, LOAD, "beyond", there.pid)
    network = {"dns": False, "outgoing": outgoing}
    ran = await run(there.pid, *command, network=network, trace=False, prefix=few)
    assert ran.json() == {"most": most, "refused": "EADDRNOTAVAIL", "carried": most, "again": 0}
    assert ran.err.count(words) == 1
