"""What the sockets are that dials begin with."""

from __future__ import annotations

import socket
from collections.abc import Callable

from pymirror.features.network.carry import BY_RESET
from pymirror.features.network.outgoing.stock import Batch, Stock


async def here(work: Callable[[], Batch]) -> Batch:
    return work()


async def test_a_connection_ends_by_reset_until_it_is_joined() -> None:
    """An agent that is killed just then would else tell the server of an end with nothing carried."""
    stock = Stock(here)
    kind = (socket.AF_INET, socket.SOCK_STREAM)
    await stock.fill(kind)
    kept = stock.take(kind)
    assert kept is not None
    with kept, await stock.make(kind) as made:
        for sock in (kept, made):
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == BY_RESET
    stock.close()
