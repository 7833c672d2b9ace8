"""What blocks, in threads: a cancellation arrives whatever comes with it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from pymirror.runtimes.kubernetes.threads import in_thread


async def test_a_cancellation_that_comes_with_the_result_is_not_lost() -> None:
    """What cancels a watch waits for its end: a watch that went on held a start for its whole limit."""
    go, gone_on = threading.Event(), False

    async def ask() -> None:
        nonlocal gone_on
        await in_thread(go.wait, 20)
        gone_on = True

    asking = asyncio.ensure_future(ask())
    await asyncio.sleep(0)  # until it waits for the thread
    go.set()
    for thread in threading.enumerate():
        if thread.name == "pymirror-blocking":
            thread.join()  # its result is on the loop's list of things to do
    asyncio.get_running_loop().call_soon(asking.cancel)
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert not gone_on
