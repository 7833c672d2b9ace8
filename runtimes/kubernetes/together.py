"""Several requests at once: all their answers, or the first error and nothing left behind.

`asyncio.gather` alone leaves the others running after an error; what they raise then has nobody to
hear it, and Python prints it with its traceback when the loop ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def together(*works: Coroutine[Any, Any, Any]) -> list[Any]:
    """What each returned, in order; or what the first that failed raised, when all have ended.

    Cancelled, or after an error, the others are cancelled and awaited; their errors are dropped.
    """
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
