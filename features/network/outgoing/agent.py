"""The agent's half of `network.outgoing`: connects in the target's network namespace.

Sockets are made by a thread that is in there; everything else happens in the event loop.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
from contextlib import suppress
from functools import partial
from typing import Any

from pymirror.core.errors import ChannelLost
from pymirror.core.feature import AgentFeature, Stream, Target, handles
from pymirror.core.limit import timeout
from pymirror.features.network.outgoing import config as keys
from pymirror.features.network.outgoing import limits
from pymirror.features.network.outgoing import messages as m
from pymirror.features.network.outgoing.carry import Join
from pymirror.features.network.outgoing.datagrams import Flow
from pymirror.features.network.outgoing.places import inside
from pymirror.features.network.outgoing.refusals import Teller


class Agent(AgentFeature):
    name = m.NAME
    Config = keys.Config
    config: keys.Config

    async def start(self, target: Target) -> None:
        self.target = target
        self._given: dict[int, asyncio.Event] = {}
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = limits.share(descriptors, limits.AGENT, self.config.max_connections)
        await target.in_network(lambda: None)  # what is missing is said now, not at the first connect

    @handles(m.Dial)
    async def dial(self, dial: m.Dial, stream: Stream) -> None:
        given = self._given[dial.number] = asyncio.Event()
        try:
            await self._dial(dial, stream, given)
        finally:
            given.set()
            del self._given[dial.number]

    async def _dial(self, dial: m.Dial, stream: Stream, given: asyncio.Event) -> None:
        try:
            sock = await self._connected(dial)
        except OSError as error:
            await self._say(m.Dialed(dial.number, error.errno or errno.EIO))
            await stream.aclose()
            return
        except Exception:
            await self._say(m.Dialed(dial.number, errno.EIO))  # a bug here is no wait without an end there
            raise
        host, port = sock.getsockname()[:2] if sock.family != socket.AF_UNIX else ("", 0)
        await self._say(m.Dialed(dial.number, 0, host.partition("%")[0], port))
        if dial.transport == "udp":
            joined: Flow | Join = Flow(sock, stream, Teller(partial(self._refused, dial.number)))
        else:
            joined = Join(sock, stream)
        joined.given = given
        await joined.run()

    async def _say(self, dialed: m.Dialed) -> None:
        while True:
            try:
                self.peer.send(dialed)
                return
            except BlockingIOError:
                await self.peer.drained()

    def _refused(self, number: int, code: int) -> None:
        with suppress(BlockingIOError, ChannelLost):  # as lost as a datagram
            self.peer.send(m.Refused(number, code))

    @handles(m.Settle)
    async def settle(self, asked: m.Settle) -> m.Settled:
        for given in [self._given[number] for number in asked.numbers if number in self._given]:
            await given.wait()
        return m.Settled()

    async def _connected(self, dial: m.Dial) -> socket.socket:
        """OSError as the target gets it; EMFILE where this agent may have no more."""
        if len(self._given) > self._most:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        try:
            sock = await self.target.in_network(partial(socket.socket, *kind_of(dial)))
        except OSError as error:
            if error.errno == errno.EAFNOSUPPORT:  # no IPv6 there; of a connect no program expects that
                raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH)) from None
            raise
        try:
            sock.setblocking(False)
            if dial.transport == "tcp":
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._connect(sock, dial)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _connect(self, sock: socket.socket, dial: m.Dial) -> None:
        loop = asyncio.get_running_loop()
        if sock.family != socket.AF_UNIX:
            connecting = loop.sock_connect(sock, await self._place(dial))
        elif dial.path.startswith(b"\0"):
            connecting = loop.sock_connect(sock, dial.path)
        else:
            with inside(self.target.root, dial.path) as place:
                await loop.sock_connect(sock, place)
            return
        try:
            async with timeout(self.config.connect_timeout or None):
                await connecting
        except asyncio.TimeoutError:
            raise TimeoutError(errno.ETIMEDOUT, "connect_timeout") from None

    async def _place(self, dial: m.Dial) -> tuple[Any, ...]:
        if "%" not in dial.host:
            return dial.host, dial.port
        look_up = partial(socket.getaddrinfo, dial.host, dial.port, flags=socket.AI_NUMERICHOST)
        try:
            return (await self.target.in_network(look_up))[0][4]
        except socket.gaierror:
            raise OSError(errno.ENODEV, f"{os.strerror(errno.ENODEV)}: {dial.host}") from None


def kind_of(dial: m.Dial) -> tuple[int, int]:
    """Family and type of the socket to make."""
    if dial.transport in ("unix", "unixpacket"):
        return socket.AF_UNIX, socket.SOCK_STREAM if dial.transport == "unix" else socket.SOCK_SEQPACKET
    family = socket.AF_INET6 if ":" in dial.host else socket.AF_INET
    return family, socket.SOCK_DGRAM if dial.transport == "udp" else socket.SOCK_STREAM
