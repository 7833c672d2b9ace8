"""Ends of stealing that need no packet filter; the rest is in tests/sandbox."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from incoming_scene import pair

from pymirror.features.network.incoming.passing import Passage
from pymirror.features.network.incoming.ruleset import Place
from pymirror.features.network.incoming.steal import Steal, Waits

pytestmark = pytest.mark.asyncio


class Refuses:
    """A target whose network cannot be entered."""

    async def in_network(self, call: Callable[[], Any]) -> Any:
        if getattr(call, "__name__", "") == "listeners":
            raise PermissionError(1, "not permitted")
        return call()


async def heard() -> bool:
    return True


async def test_what_never_began_ends(caplog: pytest.LogCaptureFixture) -> None:
    target: Any = Refuses()
    peer: Any = None
    steal = Steal(target, peer, "ann", logging.getLogger("pymirror.test"), heard)
    with pytest.raises(PermissionError):
        await steal.start()
    await steal.drain()
    await steal.aclose()
    assert caplog.text == ""


async def test_a_client_that_waits_for_the_application_is_reset_if_that_is_given_up() -> None:
    near, inner = pair()
    waits = Waits(inner)
    waits.passage = Passage(None, Place("10.0.0.1", 5), Place("10.0.0.2", 80), lambda sock, code: None)  # type: ignore[arg-type]
    waits.cancel()
    with pytest.raises(ConnectionResetError):
        await asyncio.get_running_loop().sock_recv(near, 1)
    assert waits.passage.over
    near.close()
