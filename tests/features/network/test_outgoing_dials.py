"""Every `Dial` has one answer, whatever goes wrong: a program's connect waits for it without an end."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest
from verdicts import verdict_of

from pymirror.core.call import Address, Call, Errno
from pymirror.core.feature import AgentFeature, Launch, LayerFeature, Stream, handles
from pymirror.core.limit import timeout
from pymirror.core.testing import FakeTarget, pair
from pymirror.features.network.outgoing import dialing
from pymirror.features.network.outgoing import messages as m
from pymirror.features.network.outgoing.agent import Agent
from pymirror.features.network.outgoing.config import Config
from pymirror.features.network.outgoing.dialing import Dialing
from pymirror.features.network.outgoing.layer import Layer

T = TypeVar("T")


class Asking(LayerFeature):
    """Dials, and keeps the answers."""

    name = m.NAME
    Config = Config

    @classmethod
    def rights(cls, config: Any) -> frozenset[str]:
        return frozenset()

    async def prepare(self, launch: Launch) -> None:
        self.answers: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
        self.number = 0

    @handles(m.Dialed)
    def dialed(self, dialed: m.Dialed) -> None:
        self.answers.put_nowait((dialed.number, dialed.code))

    def dial(
        self, transport: str = "udp", host: str = "127.0.0.1", port: int = 9, path: bytes = b""
    ) -> Stream:
        self.number += 1
        return self.peer.stream_now(m.Dial(self.number, transport, host, port, path))

    async def answer(self) -> int:
        """The errno of the last dial, which no other answer comes before or after."""
        async with timeout(30):
            number, code = await self.answers.get()
        for _ in range(10):
            await asyncio.sleep(0)
        assert number == self.number and self.answers.empty()
        return code


class Network(FakeTarget):
    """Whose network is entered as `enter` says, once the agent has started."""

    enter: Callable[[], Any] | None = None

    def __init__(self, folder: Any) -> None:
        super().__init__(folder)
        self.entered: asyncio.Queue[None] = asyncio.Queue()

    async def in_network(self, work: Callable[[], T]) -> T:
        if self.enter is not None:
            self.entered.put_nowait(None)
            await self.enter()
        return await super().in_network(work)


@asynccontextmanager
async def asking(tmp_path: Any, enter: Any = None, config: Config | None = None) -> AsyncIterator[Any]:
    with Network(tmp_path) as target:
        async with pair(Asking, Agent, config or Config(), target) as both:
            await both.layer.prepare(Launch(["program"], {}, "/nowhere"))
            target.enter = enter
            yield both


def fails(error: BaseException) -> Callable[[], Any]:
    async def enter() -> None:
        raise error

    return enter


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.EMFILE, "none left"), errno.EMFILE),
        (OSError("no number"), errno.EIO),
        (OSError(errno.EAFNOSUPPORT, "no IPv6"), errno.ENETUNREACH),
        (RuntimeError("a bug"), errno.EIO),
        (asyncio.CancelledError(), errno.EIO),
    ],
)
async def test_a_socket_that_cannot_be_made(tmp_path: Any, error: BaseException, code: int) -> None:
    async with asking(tmp_path, fails(error)) as both:
        both.layer.dial()
        assert await both.layer.answer() == code
        assert not both.agent._running


async def test_a_device_that_is_not_there(tmp_path: Any) -> None:
    async with asking(tmp_path) as both:
        both.layer.dial(host="fe80::1%no-such")
        assert await both.layer.answer() == errno.ENODEV


@pytest.mark.parametrize(
    ("transport", "more", "code"),
    [
        ("tcp", {"port": 70000}, errno.EIO),
        ("tcp", {"host": "255.255.255.255"}, errno.ENETUNREACH),
        ("unix", {"path": b"\0" + b"x" * 200}, errno.EIO),
        ("unix", {"path": b"/no/such"}, errno.ENOENT),
        ("unixpacket", {"path": b"/" + b"x" * 5000}, errno.ENAMETOOLONG),
    ],
)
async def test_what_cannot_be_connected_to(tmp_path: Any, transport: str, more: Any, code: int) -> None:
    async with asking(tmp_path) as both:
        both.layer.dial(transport, **more)
        assert await both.layer.answer() == code
        assert not both.agent._running


async def test_a_path_that_is_not_looked_up_in_time_delays_nobody(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def hangs(sock: socket.socket, root: int, path: bytes) -> int:
        begun.set()
        go_on.wait(60)
        return sock.connect_ex(b"\0nobody")

    monkeypatch.setattr(dialing, "_connect_below", hangs)
    try:
        async with asking(tmp_path) as both:
            both.layer.dial("unix", path=b"/on/a/hung/mount")
            await asyncio.to_thread(begun.wait, 30)
            both.layer.dial()
            assert await both.layer.answer() == 0
            go_on.set()
            both.layer.number = 1
            assert await both.layer.answer() == errno.ECONNREFUSED
    finally:
        go_on.set()


async def test_over_the_agents_limit(tmp_path: Any) -> None:
    async with asking(tmp_path) as both:
        both.agent._most = 0
        both.layer.dial("tcp")
        assert await both.layer.answer() == errno.EMFILE
        assert not both.agent._running


async def test_a_socket_that_is_not_made_in_time(tmp_path: Any) -> None:
    made = asyncio.Event()
    async with asking(tmp_path, made.wait, Config(connect_timeout=0.01)) as both:
        both.agent._stock.close()
        both.layer.dial("tcp")
        assert await both.layer.answer() == errno.ETIMEDOUT
        made.set()
        assert not both.agent._running


async def test_the_end_of_the_agent_half(tmp_path: Any) -> None:
    never = asyncio.Event()
    async with asking(tmp_path, never.wait) as both:
        both.layer.dial()
        await both.agent.target.entered.get()
        await both.agent.aclose()
        assert await both.layer.answer() == errno.ECONNABORTED
        both.layer.dial()  # and after it
        assert await both.layer.answer() == errno.ECONNABORTED


async def test_one_that_was_given_up_has_none(tmp_path: Any) -> None:
    made = asyncio.Event()
    async with asking(tmp_path, made.wait) as both:
        stream, entered = both.layer.dial("unix", path=b"/no/such"), both.agent.target.entered
        for _ in range(2):  # for it, and for the stock
            await entered.get()
        stream.close()
        both.layer.dial()
        for _ in range(2):
            await entered.get()
        assert [*both.agent._running] == [2]
        made.set()
        assert await both.layer.answer() == 0


async def test_a_bug_in_a_callback_is_an_answer_too() -> None:
    class Odd(Dialing):
        def _connect(self) -> int:
            raise RuntimeError("a bug")

    said: list[tuple[Any, int]] = []
    one = Odd(m.Dial(1, "tcp", "127.0.0.1", 9), -1, 60, lambda *done: said.append(done))
    sock = socket.socket()
    with pytest.raises(RuntimeError):
        one.begin(sock, ("127.0.0.1", 9))
    one.fail(errno.ETIMEDOUT)
    assert said == [(None, errno.EIO)] and sock.fileno() < 0 and one.given.is_set()


class Silent(AgentFeature):
    name = m.NAME
    Config = Config

    async def start(self, target: Any) -> None: ...

    @handles(m.Dial)
    def dial(self, dial: m.Dial, stream: Stream) -> None: ...


async def test_the_end_of_the_session_answers_who_waits(tmp_path: Any) -> None:
    with FakeTarget(tmp_path) as target:
        async with pair(Layer, Silent, Config(), target) as both:
            await both.layer.prepare(Launch(["program"], {}, "/nowhere"))
            call = Call("connect", transport="tcp", address=Address("127.0.0.1", 9))
            waits = asyncio.ensure_future(verdict_of(both.layer.connect, call))
            await asyncio.sleep(0)
            await both.layer.aclose()
            async with timeout(30):
                assert await waits == Errno("outgoing: no filter", code=errno.ECONNABORTED)
