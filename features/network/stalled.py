"""Sockets that are not read, and whose reset is to be noticed all the same."""

from __future__ import annotations

import asyncio
import select
import weakref
from collections.abc import Callable


class Stalled:
    """Of one event loop. epoll tells of an error whatever else it was asked for."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._epoll = select.epoll()
        self._reset: dict[int, Callable[[], None]] = {}
        loop.add_reader(self._epoll.fileno(), self._look)

    def watch(self, fd: int, reset: Callable[[], None]) -> None:
        """Call `reset()` when the socket is reset. OSError: it cannot be watched."""
        self._epoll.register(fd, 0)
        self._reset[fd] = reset

    def leave(self, fd: int) -> None:
        """Before the descriptor is closed, if it is watched."""
        if self._reset.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def _look(self) -> None:
        for fd, events in self._epoll.poll(0):
            reset = self._reset.get(fd)
            self.leave(fd)
            if (
                reset is not None and events & select.EPOLLERR
            ):  # else both have ended, and what is unread counts
                reset()


_of: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Stalled] = weakref.WeakKeyDictionary()


def stalled() -> Stalled:
    """The running loop's."""
    loop = asyncio.get_running_loop()
    found = _of.get(loop)
    if found is None:
        found = _of[loop] = Stalled(loop)
    return found
