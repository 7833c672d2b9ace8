"""Work that may wait for a disk, done in a bounded pool of threads.

Who waits may be cancelled, and the thread goes on: what it brings is given back then, and a descriptor it
works on is its own.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


class Away:
    """A pool. begin: called in each of its threads first."""

    def __init__(self, threads: int, name: str, begin: Callable[[], None] | None = None) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name, initializer=begin)

    async def __call__(
        self, work: Callable[..., T], *args: Any, lost: Callable[[T], None] | None = None
    ) -> T:
        """`work(…)`. lost: what becomes of its result when nobody waits for it any more."""
        return await _waited(self._pool.submit(work, *args), lost)

    async def on(
        self, fd: int, work: Callable[..., T], *args: Any, lost: Callable[[T], None] | None = None
    ) -> T:
        """`work(fd, …)` on a duplicate: the number may be closed and used again meanwhile."""
        own = os.dup(fd)
        future = self._pool.submit(work, own, *args)
        future.add_done_callback(lambda _: os.close(own))  # also when it never began
        return await _waited(future, lost)

    def close(self) -> None:
        """A thread that waits for a file which never answers is left behind: the process ends without it."""
        self._pool.shutdown(wait=False, cancel_futures=True)


async def _waited(future: Future[T], lost: Callable[[T], None] | None) -> T:
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        if lost is not None:
            future.add_done_callback(_handing(lost))
        raise


def _handing(lost: Callable[[T], None]) -> Callable[[Future[T]], None]:
    def done(future: Future[T]) -> None:
        if not future.cancelled() and future.exception() is None:
            lost(future.result())

    return done
