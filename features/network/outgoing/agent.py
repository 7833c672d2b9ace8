"""The agent's half of `network.outgoing`: connects in the target's network namespace.

Sockets are made by a thread that is in there; everything else happens in the event loop, by callbacks.
A `Dial` has one answer, from `_dialed`: whatever goes wrong ends its `Dialing`, which calls that once. Only
one that the layer has given up has none.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

from pymirror.core.errors import ChannelLost
from pymirror.core.feature import AgentFeature, Stream, Target, handles
from pymirror.features.network.carry import Join, join
from pymirror.features.network.outgoing import config as keys
from pymirror.features.network.outgoing import limits
from pymirror.features.network.outgoing import messages as m
from pymirror.features.network.outgoing.datagrams import Flow
from pymirror.features.network.outgoing.dialing import Dialing, kind_of
from pymirror.features.network.outgoing.refusals import Teller
from pymirror.features.network.outgoing.stock import Stock

LOOKING = 4
"""Threads that look up paths of unix sockets. One that never comes back delays other paths alone."""


class Agent(AgentFeature):
    name = m.NAME
    Config = keys.Config
    config: keys.Config
    _stock: Stock | None = None

    async def start(self, target: Target) -> None:
        self.target = target
        self._running: dict[int, Dialing | Join | Flow] = {}
        self._saying: set[asyncio.Task[None]] = set()
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = limits.share(descriptors, limits.AGENT, self.config.max_connections)
        self._threads = ThreadPoolExecutor(LOOKING, "outgoing")
        self._stock = stock = Stock(target.in_network)
        await stock.fill((socket.AF_INET, socket.SOCK_STREAM))  # what is missing is said now

    async def aclose(self) -> None:
        stock, self._stock = self._stock, None
        if stock is None:
            return
        for each in list(self._running.values()):
            if isinstance(each, Dialing):
                each.fail(errno.ECONNABORTED)
            else:
                each.cancel()
        for saying in self._saying:
            saying.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)
        stock.close()

    @handles(m.Dial)
    def dial(self, dial: m.Dial, stream: Stream) -> Awaitable[None] | None:
        done = partial(self._dialed, dial, stream)
        dialing = Dialing(dial, self.target.root, self.config.connect_timeout, done, self._threads)
        self._running[dial.number] = dialing
        stream.attach(partial(self._unwanted, dialing, dial.number, stream), lambda: None)
        stock = self._stock
        if stock is None or len(self._running) > self._most:
            dialing.fail(errno.ECONNABORTED if stock is None else errno.EMFILE)
            return None
        sock = stock.take(kind_of(dial)) if "%" not in dial.host else None
        if sock is None:
            return self._begin_later(stock, dialing, dial)
        dialing.begin(sock, (dial.host, dial.port))
        return None

    async def _begin_later(self, stock: Stock, dialing: Dialing, dial: m.Dial) -> None:
        try:
            address = await self._address(dial)
            dialing.begin(await stock.make(kind_of(dial)), address)
        except OSError as error:
            dialing.fail(error.errno or errno.EIO)
        except BaseException:  # a bug, or the session's end
            dialing.fail(errno.EIO)
            raise

    async def _address(self, dial: m.Dial) -> tuple[Any, ...]:
        """The name of a link-local address's device is one of the target's."""
        if "%" not in dial.host:
            return dial.host, dial.port
        look_up = partial(socket.getaddrinfo, dial.host, dial.port, flags=socket.AI_NUMERICHOST)
        try:
            return (await self.target.in_network(look_up))[0][4]
        except socket.gaierror:
            raise OSError(errno.ENODEV, f"{os.strerror(errno.ENODEV)}: {dial.host}") from None

    def _unwanted(self, dialing: Dialing, number: int, stream: Stream) -> None:
        """The program is gone, or gave the connection up."""
        if stream.broken is not None:
            dialing.cancel()
            self._over(number)

    def _dialed(self, dial: m.Dial, stream: Stream, sock: socket.socket | None, code: int) -> None:
        if sock is None:
            self._over(dial.number)
            self._say(m.Dialed(dial.number, code))
            stream.close()
            return
        host, port = sock.getsockname()[:2] if sock.family != socket.AF_UNIX else ("", 0)
        self._say(m.Dialed(dial.number, 0, host.partition("%")[0], port))
        over = partial(self._over, dial.number)
        if dial.transport == "udp":
            joined: Flow | Join = Flow(sock, stream, over, Teller(partial(self._refused, dial.number)))
        else:
            joined = join(sock, stream, over)
        self._running[dial.number] = joined
        if joined.closed:
            self._over(dial.number)

    def _over(self, number: int) -> None:
        self._running.pop(number, None)

    def _say(self, dialed: m.Dialed) -> None:
        try:
            self.peer.send(dialed)
        except BlockingIOError:
            saying = asyncio.ensure_future(self._say_later(dialed))
            self._saying.add(saying)
            saying.add_done_callback(self._saying.discard)
        except ChannelLost:
            return  # and so is every stream

    async def _say_later(self, dialed: m.Dialed) -> None:
        with suppress(ChannelLost):
            await self.peer.drained()
            self._say(dialed)

    def _refused(self, number: int) -> None:
        with suppress(BlockingIOError, ChannelLost):  # as lost as a datagram
            self.peer.send(m.Refused(number))

    @handles(m.Settle)
    async def settle(self, asked: m.Settle) -> m.Settled:
        for number in asked.numbers:
            each = self._running.get(number)
            if isinstance(each, Dialing):
                await each.given.wait()
                each = self._running.get(number)
            if each is not None:
                await each.given.wait()
        return m.Settled()
