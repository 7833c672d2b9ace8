"""Threads that wait for the network hold nothing that another call needs, however many they are."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import pytest_asyncio

from tests.sandbox.pod_network import PROGRAMS, Pod, pod

pytestmark = [pytest.mark.sandbox, pytest.mark.asyncio(loop_scope="module")]

PROGRAM = PROGRAMS / "outgoing_waiting.py"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def there() -> Any:
    async with pod() as made:
        yield made


async def case(there: Pod, name: str, threads: int, **more: Any) -> Any:
    return (await there.run(sys.executable, PROGRAM, name, there.pid, threads, trace=False, **more)).json()


async def test_three_hundred_connects_that_nobody_answers(there: Pod) -> None:
    assert await case(there, "connects", 300) == {"waiting": 300, "greeted": True, "file": True}


async def test_three_hundred_that_wait_for_a_datagram(there: Pod) -> None:
    found = await case(there, "receives", 300)
    assert found == {"waiting": 300, "greeted": True, "right": 300, "all": 300, "failed": []}


async def test_more_than_may_be_looked_after_wait_in_the_kernel(there: Pod) -> None:
    """A quarter of 200 descriptors; the others are told the relay as the sender."""
    found = await case(there, "receives", 60, prefix=("bash", "-c", 'ulimit -n 200; exec "$@"', "few"))
    assert found == {"waiting": 60, "greeted": True, "right": 50, "all": 60, "failed": []}


async def test_three_hundred_first_datagrams_that_nobody_decides(there: Pod) -> None:
    found = await case(there, "sends", 300)
    assert found == {"waiting": 300, "file": True, "still": 300, "sent": 300, "failed": [], "answer": True}


async def test_who_is_killed_while_he_waits_leaves_his_port(there: Pod) -> None:
    """Not each time before the next system call of another, but with nothing to wait for in between."""
    assert await case(there, "killed", 20) == {"free": True}


async def test_a_crowd_on_one_socket_with_few_descriptors(there: Pod) -> None:
    """Who comes too late and cannot be looked after again waits in the kernel."""
    found = await case(there, "crowd", 80, prefix=("bash", "-c", 'ulimit -n 200; exec "$@"', "few"))
    assert found == {"found": True}


async def test_shutdown_ends_who_waits_for_a_datagram(there: Pod) -> None:
    assert await case(there, "shut", 1) == {"found": [["", None]]}


async def test_a_signal_for_who_is_in_many_groups(there: Pod) -> None:
    assert await case(there, "groups", 1) == {"before it came": True}


async def test_threads_that_send_to_a_new_peer_at_once(there: Pod) -> None:
    assert await case(there, "together", 16) == {"found": [["7010 x", ["10.77.0.1", 7010]]]}
