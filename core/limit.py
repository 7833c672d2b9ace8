"""`timeout(seconds)`, the one way to limit a wait; None: no limit.

Not `asyncio.wait_for`: before Python 3.12 it loses a cancellation that comes with the result, and whoever
cancelled then waits for ever (python/cpython#86296).
"""

from __future__ import annotations

import sys

if sys.version_info >= (3, 11):
    from asyncio import timeout
else:
    from async_timeout import timeout

__all__ = ["timeout"]
