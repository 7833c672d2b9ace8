"""The agent's half of `fs` where it locks files: for the program, against the target's own processes.

Each holder has an open file description of his own, which his locks belong to (OFD locks, flock): so they
conflict with all others', in the target and of this session, and end with it, however the agent ends. Who
must wait is no thread: he asks again, after ever longer pauses.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import resource
import struct
from collections import deque

from attrs import define, field

from pymirror.core.feature import Target, handles
from pymirror.features.fs import lock_messages as lm
from pymirror.features.fs.ranges import LAST, NONE, READ, WRITE, Range, put
from pymirror.features.fs.writing import Writing

MOST_HOLDERS = 1024
MOST_RANGES = 4096
"""Of one holder."""
MOST_WAITING = 1024
PAUSES = 0.001, 0.1
"""Seconds between two attempts: the first and the longest."""
LONGEST_WAIT = 10.0
_FLOCK = struct.Struct("hhqqi4x")
_FLAGS = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


@define(eq=False)
class _Holder:
    """fd: -1 while it is opened. changes: it is open for writing, too. quick: no lock of it waits for another
    machine. ranges: what he has locked."""

    fd: int = -1
    changes: bool = False
    quick: bool = False
    gone: bool = False
    ranges: list[Range] = field(factory=list)
    opening: asyncio.Lock = field(factory=asyncio.Lock)


class Locking(Writing):
    """What `Agent` has for locks."""

    _most_holders = MOST_HOLDERS

    def _start_writing(self, target: Target) -> None:
        super()._start_writing(target)
        self._holders: dict[int, _Holder] = {}
        self._waits: dict[int, asyncio.Future[None]] = {}
        self._given_up: deque[int] = deque(maxlen=MOST_WAITING)
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        unlimited = limit == resource.RLIM_INFINITY
        self._most_holders = MOST_HOLDERS if unlimited else min(MOST_HOLDERS, max(16, limit // 8))

    def _close_writing(self) -> None:
        for number in [*getattr(self, "_holders", ())]:
            self._unhold(number)
        super()._close_writing()

    # Questions ------------------------------------------------------------------------------

    @handles(lm.Lock)
    async def lock(self, asked: lm.Lock) -> lm.Locked:
        self._may_write()
        new = _range(asked)
        if asked.kind == NONE and asked.holder not in self._holders:
            return lm.Locked()
        holder = await self._holder(asked)
        if len(put(holder.ranges, new)) > MOST_RANGES:
            raise _error(errno.ENOLCK)
        if asked.wait > 0 and asked.kind != NONE:
            await self._waiting(holder, asked, new)
        else:
            await self._set(holder, asked.whole, new)
        self._watcher.tell_now()  # who has a lock sees what was done under it before
        return lm.Locked()

    @handles(lm.AskLock)
    async def asked_lock(self, asked: lm.AskLock) -> lm.Conflict:
        self._may_write()
        new = _range(asked)
        holder = self._holders.get(asked.holder)
        own = holder is None or holder.fd < 0
        fd = await self._reopened(asked.handle, False) if own or holder is None else holder.fd
        try:
            kind, _, start, size, _ = await self._away.on(fd, _other, new)
        finally:
            if own:
                os.close(fd)
        return lm.Conflict(kind, start, start + size - 1 if size else LAST)

    @handles(lm.GiveUp)
    def give_up(self, asked: lm.GiveUp) -> None:
        stop = self._waits.get(asked.number)
        if stop is None:
            self._given_up.append(asked.number)  # it comes before the first step of the other
        elif not stop.done():
            stop.set_result(None)

    @handles(lm.Unlock)
    def unlock(self, asked: lm.Unlock) -> lm.Locked:
        for number in asked.holders:
            self._unhold(number)
        return lm.Locked()

    # Locks ----------------------------------------------------------------------------------

    async def _waiting(self, holder: _Holder, asked: lm.Lock, new: Range) -> None:
        if len(self._waits) >= MOST_WAITING or asked.number in self._waits:
            raise _error(errno.ENOLCK)
        loop = asyncio.get_running_loop()
        stop = self._waits[asked.number] = loop.create_future()
        if asked.number in self._given_up:
            stop.set_result(None)
        until, (pause, longest) = loop.time() + min(asked.wait, LONGEST_WAIT), PAUSES
        try:
            while True:
                last = stop.done() or loop.time() >= until
                try:
                    await self._set(holder, asked.whole, new)
                    return
                except BlockingIOError:
                    if last:
                        raise
                await asyncio.wait([stop], timeout=pause)
                pause = min(2 * pause, longest)
        finally:
            del self._waits[asked.number]

    async def _set(self, holder: _Holder, whole: bool, new: Range) -> None:
        """BlockingIOError: others have it."""
        if holder.gone:
            raise _error(errno.ENOLCK)
        if holder.quick:
            _set(holder.fd, whole, new)
        else:
            await self._away.on(holder.fd, _set, whole, new)
        holder.ranges = put(holder.ranges, new)

    # Holders --------------------------------------------------------------------------------

    async def _holder(self, asked: lm.Lock) -> _Holder:
        holder = self._holders.get(asked.holder)
        if holder is None:
            if len(self._holders) >= self._most_holders:
                raise _error(errno.ENOLCK)
            holder = self._holders[asked.holder] = _Holder()
        async with holder.opening:
            changes = asked.changes and not holder.changes and asked.kind == WRITE and not asked.whole
            if holder.fd < 0 or changes:
                await self._open_for(holder, asked)
        return holder

    async def _open_for(self, holder: _Holder, asked: lm.Lock) -> None:
        """What he has locked as a reader goes over to the new description: no two of those conflict."""
        fd = await self._reopened(asked.handle, asked.changes)
        try:
            for one in holder.ranges:
                await self._away.on(fd, _set, asked.whole, one)
        except OSError:
            os.close(fd)
            raise
        if holder.gone:
            os.close(fd)
            raise _error(errno.ENOLCK)
        if holder.fd >= 0:
            os.close(holder.fd)
        holder.fd, holder.changes = fd, asked.changes
        holder.quick = self._watcher.tells(fd, os.fstat(fd).st_dev)

    async def _reopened(self, handle: int, changes: bool) -> int:
        """A further description of a held file; for writing only of one that was opened so. OSError."""
        fd = self._handle(handle)
        if not changes or handle not in self._open:
            return await self._away.on(fd, _reopen, os.O_RDONLY)
        try:
            return await self._writers.on(fd, _reopen, os.O_RDWR)
        except PermissionError:  # its mode is another by now, or was never for writing (`open` with 0444)
            return await self._away.on(fd, _reopen, os.O_RDWR)

    def _unhold(self, number: int) -> None:
        holder = self._holders.pop(number, None)
        if holder is not None:
            holder.gone = True
            if holder.fd >= 0:
                os.close(holder.fd)


def _range(asked: lm.Lock | lm.AskLock) -> Range:
    if asked.kind not in (READ, WRITE, NONE) or not 0 <= asked.start <= asked.end <= LAST:
        raise _error(errno.EINVAL)
    return Range(asked.start, asked.end, asked.kind)


def _packed(new: Range) -> bytes:
    """struct flock."""
    size = 0 if new.end == LAST else new.end - new.start + 1
    return _FLOCK.pack(new.kind, os.SEEK_SET, new.start, size, 0)


def _set(fd: int, whole: bool, new: Range) -> None:
    if whole:
        kind = {READ: fcntl.LOCK_SH, WRITE: fcntl.LOCK_EX, NONE: fcntl.LOCK_UN}[new.kind]
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    else:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _packed(new))


def _other(fd: int, new: Range) -> tuple[int, ...]:
    """What keeps it from being locked, as struct flock."""
    return _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _packed(new)))


def _reopen(fd: int, flags: int) -> int:
    return os.open(f"/proc/self/fd/{fd}", flags | _FLAGS)


def _error(code: int) -> OSError:
    return OSError(code, os.strerror(code))
