"""Tells the kernel what to forget, from threads of its own.

Such a notice can wait for a request that the event loop must answer: one for a name for every look-up in
its folder, one for content for every read of the file. So the loop never sends one, what waits holds up
only notices about the same folder or file, and the device is not closed before all of them have returned.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from concurrent.futures import ThreadPoolExecutor

from pymirror.features.fs import fuse

log = logging.getLogger("pymirror.fs")

WORKERS = 8
GONE = (errno.ENOENT, errno.ENOTDIR, errno.ENOTEMPTY, errno.ENODEV, errno.EBADF)
"""The kernel does not know it (any more), which is what was wanted; or the mount has ended."""


class Notices:
    """Notices for the mount that `device` serves. To be used from the event loop's thread."""

    def __init__(self, device: int) -> None:
        self._device = device
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="fs-notice")
        self._waiting: dict[tuple[str, int], dict[bytes, None]] = {}  # a key is there while a thread has it
        self._running: set[asyncio.Future[None]] = set()
        self._ended = False

    def content(self, node: int) -> None:
        """Attributes and pages of a file may be others now."""
        self._put(("content", node), fuse.inval_inode(node))

    def name(self, folder: int, name: bytes) -> None:
        """What the name leads to, or that it leads nowhere, may not be true any more."""
        self._put(("name", folder), fuse.inval_entry(folder, name))

    def _put(self, key: tuple[str, int], notice: bytes) -> None:
        if self._ended:
            return
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting[notice] = None  # the same one twice is one; names the kernel knows are bounded by it
            return
        self._waiting[key] = {}
        self._send(key, [notice])

    def _send(self, key: tuple[str, int], notices: list[bytes]) -> None:
        future = asyncio.get_running_loop().run_in_executor(self._pool, self._write, notices)
        self._running.add(future)
        future.add_done_callback(lambda done: self._sent(key, done))

    def _sent(self, key: tuple[str, int], done: asyncio.Future[None]) -> None:
        self._running.discard(done)
        waiting = self._waiting.pop(key)
        if waiting and not self._ended:
            self._waiting[key] = {}
            self._send(key, list(waiting))

    def _write(self, notices: list[bytes]) -> None:
        for notice in notices:
            try:
                os.write(self._device, notice)
            except OSError as error:
                if error.errno not in GONE:
                    log.warning("the kernel did not take a notice: %s", error)

    async def settled(self) -> None:
        """When the kernel has taken what was put until now."""
        if self._running:
            await asyncio.wait(set(self._running))

    async def aclose(self, limit: float) -> bool:
        """Send no more; wait until those under way have returned. False: one has not within `limit` s.

        Requests must still be answered meanwhile, whatever with.
        """
        self._ended = True
        if self._running:
            await asyncio.wait(set(self._running), timeout=limit)
        self._pool.shutdown(wait=False, cancel_futures=True)
        return not self._running
