"""The end of a session in the cluster: everything that was started is taken away, within one limit.

Whatever goes wrong here is told and goes no further: the program has ended, and its exit status is
what the person asked for. What remains then goes by itself, and the warning says how.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack

from pymirror.core.errors import PymirrorError
from pymirror.core.limit import timeout
from pymirror.core.session import Report

log = logging.getLogger("pymirror.kubernetes.undo")

WITHIN = 10.0  # seconds for all of it: a Job's removal takes 0.1 s, an API server that is gone for ever


class Undo:
    """A stack of undoes with one limit. `remains`: what is told when they fail, in words."""

    def __init__(self, report: Report, within: float = WITHIN) -> None:
        self.stack, self.remains = AsyncExitStack(), ""
        self._report, self._within = report, within

    async def aclose(self) -> None:
        """Run them all, the last first. Raises only what is a bug."""
        try:
            async with timeout(self._within):
                await self.stack.aclose()
        except asyncio.TimeoutError:
            self._warn(f"the cluster did not answer within {self._within:g} s")
        except PymirrorError as error:
            self._warn(error.message)

    def _warn(self, why: str) -> None:
        if self.remains:
            self._report.warn(f"{self.remains} ({why})")
        else:
            log.debug("at the end: %s", why)
