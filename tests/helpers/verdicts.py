"""What a half says to a call: at once or after a while."""

from __future__ import annotations

import inspect
from typing import Any

from pymirror.core.call import Address, Call


async def verdict_of(method: Any, call: Any) -> Any:
    """The verdict of a method marked with `@intercepts`."""
    answer = method(call)
    return await answer if inspect.isawaitable(answer) else answer


def tcp(port: int, **more: Any) -> Call:
    """A connect to this machine."""
    return Call("connect", transport="tcp", address=Address("127.0.0.1", port), **more)
