"""An answer to a call that comes by a callback."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any

from pymirror.core.call import Verdict


class Later:
    """A verdict that is still to come, from a half that has callbacks where others have a coroutine.

    It is carried out within `settle`, which spares a task and a turn of the loop. "Not mine" cannot come
    later.
    """

    def __init__(self) -> None:
        self._verdict: Verdict | None = None
        self._tell: Callable[[Verdict], None] | None = None

    @property
    def settled(self) -> bool:
        return self._verdict is not None

    def settle(self, verdict: Verdict) -> None:
        """The first counts."""
        if self._verdict is None:
            self._verdict = verdict
            if self._tell is not None:
                self._tell(verdict)

    def then(self, tell: Callable[[Verdict], None]) -> None:
        """Call `tell` once, when it is settled or now; for whoever asked."""
        self._tell = tell
        if self._verdict is not None:
            tell(self._verdict)

    def __await__(self) -> Generator[Any, None, Verdict]:
        future: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self.then(lambda verdict: None if future.done() else future.set_result(verdict))
        return future.__await__()
