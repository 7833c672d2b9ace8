"""Two ends of a real channel on loopback in one loop, and a half that answers: for the tests of the channel."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from pymirror.core import wire
from pymirror.core.channel import Channel, Keys
from pymirror.core.errors import PeerError
from pymirror.core.feature import handles
from pymirror.core.message import message
from pymirror.core.streams import ChannelStream

T = TypeVar("T")
WITHIN = 20.0
MIB = 1 << 20


@message("test-channel")
class Ask:
    number: int


@message("test-channel")
class Data:
    data: bytes


@message("test-channel")
class Note:
    number: int


@message("test-channel")
class Remark:
    """As a note, for a handler that is no coroutine."""

    number: int


@message("test-channel")
class Wait:
    pass


@message("test-channel")
class Fail:
    how: str


@message("test-channel")
class Copy:
    """A stream whose bytes come back."""


@message("test-channel")
class Stall:
    """A stream nobody reads."""


class Half:
    def __init__(self) -> None:
        self.notes: list[int] = []
        self.noted = asyncio.Event()
        self.waiting, self.cancelled = asyncio.Event(), asyncio.Event()
        self.stalled: ChannelStream | None = None
        self.has_stalled = asyncio.Event()

    @handles(Ask)
    async def ask(self, ask: Ask) -> Ask:
        return Ask(ask.number + 1)

    @handles(Data)
    async def data(self, data: Data) -> Data:
        return data

    @handles(Note)
    async def note(self, note: Note) -> None:
        if note.number % 10 == 0:
            await asyncio.sleep(0)  # a slow handler: the next may not overtake it
        self.notes.append(note.number)
        self.noted.set()

    @handles(Remark)
    def remark(self, remark: Remark) -> None:
        self.notes.append(remark.number)
        self.noted.set()

    @handles(Wait)
    async def wait(self, _: Wait) -> Ask:
        self.waiting.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.cancelled.set()
        raise AssertionError

    @handles(Fail)
    async def fail(self, fail: Fail) -> Any:
        if fail.how == "errno":
            raise FileNotFoundError(errno.ENOENT, "gone", "/secret")
        if fail.how == "words":
            raise PeerError("not today", "try tomorrow")
        if fail.how == "large":
            return Data(bytes(wire.MAX_BLOB + 1))
        if fail.how == "no message":
            return 7
        raise KeyError("secret")

    @handles(Copy)
    async def copy(self, _: Copy, stream: ChannelStream) -> None:
        while data := await stream.read(300_000):
            await stream.write(data)
        await stream.close_write()

    @handles(Stall)
    async def stall(self, _: Stall, stream: ChannelStream) -> None:
        self.stalled = stream
        self.has_stalled.set()


async def soon(work: Awaitable[T]) -> T:
    return await asyncio.wait_for(work, WITHIN)


class Both:
    """A listening agent, its half, and a connected layer."""

    def __init__(self, agent: Channel, half: Half, agent_keys: Keys, layer_keys: Keys) -> None:
        self.agent, self.half, self.agent_keys, self.layer_keys = agent, half, agent_keys, layer_keys
        self.layer: Channel

    async def connect(self, keys: Keys | None = None, agent_key: str = "", **more: Any) -> Channel:
        address = f"tcp://127.0.0.1:{self.agent.port}"
        return await soon(
            Channel.connect(address, keys or self.layer_keys, agent_key or self.agent_keys.public, **more)
        )


@asynccontextmanager
async def listening(**more: Any) -> AsyncIterator[Both]:
    agent_keys, layer_keys, half = Keys.generate(), Keys.generate(), Half()
    agent = Channel.listen(agent_keys, layer_keys.public, **more)
    agent.serve("test-channel", half)
    try:
        yield Both(agent, half, agent_keys, layer_keys)
    finally:
        await soon(agent.aclose())
