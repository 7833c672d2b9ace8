"""Port-forward: an abstract unix socket here, a port on a pod's loopback there.

One WebSocket (`v4.channel.k8s.io`, binary) per accepted connection: each frame begins with its
channel (0 data, 1 error); the first frame of either carries the port as two bytes, little end first.
A node's port-forward speaks v4 (and base64) alone; v5 and its close signal are for exec and attach, and
kubectl's own way is SPDY inside a WebSocket. So there is no half-close: a side that ends, ends the
connection. An error frame is told and ends it too. Buffers are bounded: who cannot write does not read.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

from pymirror.core.errors import ClusterError, PymirrorError

log = logging.getLogger("pymirror.kubernetes.forward")

PROTOCOL = "v4.channel.k8s.io"
DATA, ERROR = 0, 1
CHUNK = 256 * 1024  # bytes per frame sent: larger ones gain nothing (the kubelet copies 32 KiB at a time)

CUT = "see whether the API server, the node and the agent's pod are still there"
BUG = "this cluster speaks another protocol than expected: please report it"

Dial = Callable[[], Awaitable[Any]]


class ForwardError(ClusterError):
    """The far end could not be reached, or broke off, in the cluster's words."""


def split(frame: bytes, begun: set[int], port: int) -> tuple[int, memoryview] | None:
    """(channel, payload) of a frame; None for the first of a channel, which repeats the port.

    begun: channels whose first frame was seen; changed. ForwardError for what is not the protocol.
    """
    if not frame:
        return None
    channel, payload = frame[0], memoryview(frame)[1:]
    if channel not in (DATA, ERROR):
        raise ForwardError(f"port-forward: a frame of the unknown channel {channel}", BUG)
    if channel not in begun:
        begun.add(channel)
        if bytes(payload[:2]) != struct.pack("<H", port):
            raise ForwardError(f"port-forward: channel {channel} does not begin with port {port}", BUG)
        payload = payload[2:]
        if not payload:
            return None
    return channel, payload


class Forward:
    """Listens on `address` (ZeroMQ's spelling) and forwards each connection. `aclose` ends all.

    dial: opens a WebSocket to the pod's port-forward. failed: told the first failure of a loss, in words:
    who lost a connection comes again and again, and until the far end has sent something it is the same loss.
    """

    def __init__(self, dial: Dial, port: int, failed: Callable[[PymirrorError], None]) -> None:
        self._dial, self._port, self._failed = dial, port, failed
        self._name = f"pymirror-{secrets.token_hex(8)}"
        self._ready: Any = None  # a WebSocket opened ahead, for the first connection
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None
        self._lost = False

    @property
    def address(self) -> str:
        return f"ipc://@{self._name}"

    async def start(self) -> None:
        """Open the first WebSocket, so that what is forbidden is known now; then listen."""
        self._ready = await self._dial()
        # one buffer's worth is read ahead of the WebSocket, no more
        self._listener = await asyncio.start_unix_server(self._accept, path=f"\0{self._name}", limit=CHUNK)

    async def aclose(self) -> None:
        if self._listener is not None:
            self._listener.close()
        if self._ready is not None:
            await self._ready.close()
            self._ready = None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                log.debug("port-forward ended with %r", ended)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if _peer(writer) != os.geteuid():  # an abstract socket has no mode: another user may knock
            writer.transport.abort()
            return
        task = asyncio.ensure_future(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            opened, self._ready = self._ready, None
            opened = opened or await self._dial()
            async with opened:
                await self._both(opened, reader, writer)
        except PymirrorError as error:
            if self._lost:
                log.debug("still lost: %s", error.message)
            else:
                self._lost = True
                self._failed(error)
        except OSError as error:
            log.debug("the near end of a port-forward: %s", error)
        finally:
            writer.close()

    async def _both(self, opened: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Both ways until either ends."""
        up, down = self._up(opened, reader), self._down(opened, writer)
        ways = [asyncio.ensure_future(up), asyncio.ensure_future(down)]
        try:
            ended, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ended:
                way.result()
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _up(self, opened: Any, reader: asyncio.StreamReader) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            while data := await reader.read(CHUNK):
                await opened.send(b"\0" + data)
        except ConnectionClosed as error:
            log.debug("port-forward, up: %s", error)

    async def _down(self, opened: Any, writer: asyncio.StreamWriter) -> None:
        from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK

        begun: set[int] = set()
        while True:
            try:
                frame = await opened.recv()
            except ConnectionClosedOK:
                return
            except ConnectionClosedError as error:
                raise ForwardError(f"the port-forward was cut: {error}", CUT) from error
            found = split(frame.encode() if isinstance(frame, str) else frame, begun, self._port)
            if found is None:
                continue
            channel, payload = found
            if channel == ERROR:
                said = bytes(payload).decode("utf-8", "replace")
                raise ForwardError(f"the node cannot forward port {self._port}: {said}", CUT)
            self._lost = False
            writer.write(payload)
            await writer.drain()


def _peer(writer: asyncio.StreamWriter) -> int:
    """The user id of the other end of a unix socket."""
    near = writer.get_extra_info("socket")
    found = near.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", found)[1])
