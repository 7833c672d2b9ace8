"""The channel: a link over ZeroMQ with CURVE, in one asyncio loop. The only importer of zmq.

Nothing relies on ZeroMQ for delivery: order and loss are seen by the mux's numbers, silence by the
heartbeat, what a goodbye needs by the acknowledgement. LINGER is 0. The socket's descriptor is
edge-triggered: whoever asks for the socket's events, or sends, may swallow an edge, so whoever does
looks at the events afterwards.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from typing import Any

import zmq
import zmq.utils.z85 as z85
from attrs import field, frozen

from pymirror.core import heap, wire
from pymirror.core.errors import ChannelLost, PeerError
from pymirror.core.link import CLOCK, Clock, Link

log = logging.getLogger("pymirror.core.channel")

HIGH_WATER = 8
"""ZeroMQ messages queued each way (≤ 1 MiB of bulk each): enough to keep both I/O threads busy."""
PER_TURN = 4 << 20
"""Bytes taken from the socket before the loop's turn is somebody else's."""
SHARED_FROM = 64 << 10
"""Bytes of a message of one part from which on ZeroMQ sends from ours: less, and the copy costs less."""
RETRY = 0.005
"""Seconds between looks for room in ZeroMQ's queue while it is full, beside the descriptor's sign."""
CONNECT_WITHIN = 10.0
"""Seconds from the first try until the agent must have answered."""
ZAP = "inproc://zeromq.zap.01"
EVENTS, RCVMORE, NOBLOCK, MORE = int(zmq.EVENTS), int(zmq.RCVMORE), int(zmq.NOBLOCK), int(zmq.SNDMORE)
POLLIN = int(zmq.POLLIN)
REFUSED, BROKEN = int(zmq.EVENT_HANDSHAKE_FAILED_AUTH), int(zmq.EVENT_DISCONNECTED)
"""As plain numbers: an operation on pyzmq's flags costs as much as the call it is for."""


@frozen
class Keys:
    """A CURVE key pair, both halves as Z85 text (40 characters)."""

    public: str
    secret: str = field(repr=False)

    @classmethod
    def generate(cls) -> Keys:
        public, secret = zmq.curve_keypair()
        return cls(public.decode(), secret.decode())


class Channel(Link):
    """One end of the connection. Made by `connect` (layer) or `listen` (agent), never directly."""

    def __init__(self, kind: int, keys: Keys, heartbeat: float, lease: float, clock: Clock) -> None:
        super().__init__(kind == zmq.DEALER, heartbeat, lease, clock)
        heap.keep()
        self.port = 0
        self._context = zmq.Context(io_threads=1)
        self._socket = self._context.socket(kind)
        self._router = kind == zmq.ROUTER
        self._route: bytes | None = None  # the layer's address on a ROUTER
        self._zap: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._readers: list[int] = []
        self._retry: asyncio.TimerHandle | None = None
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.SNDHWM, HIGH_WATER),
            (zmq.RCVHWM, HIGH_WATER),
            (zmq.MAXMSGSIZE, wire.MAX_BATCH + 1024),  # of one part; CURVE adds a few bytes
        ):
            self._socket.setsockopt(option, value)
        self._socket.curve_publickey = keys.public.encode()
        self._socket.curve_secretkey = keys.secret.encode()

    # Making ---------------------------------------------------------------------------------

    @classmethod
    async def connect(
        cls,
        address: str,
        keys: Keys,
        agent_key: str,
        *,
        heartbeat: float = 3.0,
        lease: float = 30.0,
        within: float = CONNECT_WITHIN,
        clock: Clock = CLOCK,
    ) -> Channel:
        """Reach the agent at a ZeroMQ `address`; returns once it has answered.

        PeerError when it does not answer `within` seconds, refuses our key, or serves somebody else.
        """
        channel = cls(zmq.DEALER, keys, heartbeat, lease, clock)
        try:
            channel._socket.curve_serverkey = agent_key.encode()
            channel._monitor = channel._socket.get_monitor_socket(REFUSED | BROKEN)
            channel._monitor.linger = 0
            channel._socket.connect(address)
            channel._begin()
            channel.mux.ping()
            channel.soon()
            await channel._answered(address, within)
            channel._watch(channel._monitor, channel._broken)
        except zmq.ZMQError as error:
            await channel.aclose()
            raise PeerError(f"the agent's address {address} cannot be used: {error}") from error
        except BaseException:
            await channel.aclose()
            raise
        return channel

    @classmethod
    def listen(
        cls,
        keys: Keys,
        layer_key: str,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        heartbeat: float = 3.0,
        lease: float = 30.0,
        clock: Clock = CLOCK,
    ) -> Channel:
        """Wait for the one layer whose public key is `layer_key`; `port` says where.

        PeerError when the address is taken.
        """
        channel = cls(zmq.ROUTER, keys, heartbeat, lease, clock)
        try:
            channel._admit(layer_key)
            channel._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
            channel._socket.curve_server = True
            channel._socket.zap_domain = b"pymirror"
            channel._socket.bind(f"tcp://{host}:{port or '*'}")
        except zmq.ZMQError as error:
            channel._close()
            raise PeerError(f"{host}:{port} cannot be listened on: {error}") from error
        except BaseException:
            channel._close()
            raise
        channel.port = int(
            bytes(channel._socket.getsockopt(zmq.LAST_ENDPOINT)).rpartition(b":")[2].rstrip(b"\0")
        )
        channel._begin()
        return channel

    def _begin(self) -> None:
        self._watch(self._socket, self._ready)
        self._start()

    def _watch(self, socket: zmq.Socket[bytes], ready: Any) -> None:
        self._readers.append(int(socket.getsockopt(zmq.FD)))
        self._loop.add_reader(self._readers[-1], ready)

    def _admit(self, layer_key: str) -> None:
        """Answer ZeroMQ's authentication requests of this context: exactly one key may enter."""
        allowed = z85.decode(layer_key.encode())
        zap = self._zap = self._context.socket(zmq.REP)
        zap.linger = 0
        zap.bind(ZAP)

        def answer() -> None:
            while int(zap.getsockopt(EVENTS)) & POLLIN:
                version, number, _domain, _address, _identity, mechanism, *key = zap.recv_multipart(NOBLOCK)
                good = mechanism == b"CURVE" and key == [allowed]
                verdict = (b"200", b"OK") if good else (b"400", b"another key")
                self.counters["admitted" if good else "refused"] += 1
                zap.send_multipart([version, number, *verdict, b"", b""])

        self._watch(zap, answer)

    async def _answered(self, address: str, within: float) -> None:
        until = time.monotonic() + within
        while not self._pong.done():
            if self._lost.done():
                raise PeerError(self._lost.result().message, self._lost.result().hint)
            if REFUSED in self._monitored():
                raise PeerError(
                    "the agent refused this session's key",
                    "another session's agent answers at this address; start again",
                )
            if time.monotonic() > until:
                raise PeerError(
                    f"the agent did not answer at {address} within {within:g} s",
                    "its log says why; an agent with another key than the expected one is silent too",
                )
            waiting: list[asyncio.Future[Any]] = [self._pong, self._lost]
            await asyncio.wait(waiting, timeout=0.05, return_when="FIRST_COMPLETED")

    def _monitored(self) -> set[int]:
        """What ZeroMQ saw happen to the connection since the last call."""
        seen: set[int] = set()
        while self._monitor is not None and int(self._monitor.getsockopt(EVENTS)) & POLLIN:
            event, _address = self._monitor.recv_multipart(NOBLOCK)
            seen.add(int.from_bytes(event[:2], sys.byteorder))
        return seen

    def _broken(self) -> None:
        """ZeroMQ would connect again by itself, but the other side could not take that up."""
        if BROKEN in self._monitored():
            self._loop.call_soon(self._end)

    def _end(self) -> None:
        self._ready()  # what had come before
        self._gone("the connection to the agent broke")

    def _unmonitor(self) -> None:
        if self._monitor is not None:
            self._socket.disable_monitor()
            self._monitor.close(0)
            self._monitor = None

    def _close(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
        self._unwatch()
        self._unmonitor()
        for socket in (self._socket, self._zap):
            if socket is not None:
                socket.close(0)
        self._context.term()  # waits for open sockets and lingering messages: there are none

    def _unwatch(self) -> None:
        """A descriptor nobody drains would wake the loop for ever."""
        while self._readers:
            self._loop.remove_reader(self._readers.pop())

    def _lose(self, reason: ChannelLost) -> None:
        super()._lose(reason)
        self._unwatch()

    # Going out ------------------------------------------------------------------------------

    def _transmit(self, parts: list[Any]) -> bool:
        if self._router and self._route is None:
            return False
        try:
            if self._route is not None:
                self._socket.send(self._route, NOBLOCK | MORE)
            if len(parts) == 1 and len(parts[0]) < SHARED_FROM:
                self._socket.send(parts[0], NOBLOCK)
            else:
                self._socket.send_multipart(parts, NOBLOCK, copy=False)
        except zmq.Again:
            self._look()
            if self._retry is None:  # the look may have swallowed the sign that there is room
                self._retry = self._loop.call_later(RETRY, self._again)
            return False
        except zmq.ZMQError as error:
            self._gone(f"the other side is not reachable: {error}")
            return True
        self._look()
        return True

    def _again(self) -> None:
        self._retry = None
        self._flush()

    def _look(self) -> None:
        """The descriptor's edge may have passed meanwhile: look at the events themselves."""
        if int(self._socket.getsockopt(EVENTS)) & POLLIN:
            self._loop.call_soon(self._ready)

    # Coming in ------------------------------------------------------------------------------

    def _ready(self) -> None:
        size = 0
        while not self._lost.done() and int(self._socket.getsockopt(EVENTS)) & POLLIN:
            if size > PER_TURN:
                self._loop.call_soon(self._ready)
                break
            try:
                parts, more = self._receive()
            except PeerError as error:
                self._lose(ChannelLost(error.message))
                break
            size += more
            if not self._router or self._ours(parts.pop(0)):
                self._arrived(parts)
        if self._unsent and not self._lost.done():
            self._flush()

    def _receive(self) -> tuple[list[bytes], int]:
        """The parts of one message and their bytes; PeerError where they are more than the wire allows.

        ZeroMQ has all of them by then: what this bounds is not memory, see docs/wire.md.
        """
        parts = [self._socket.recv(NOBLOCK)]
        size = len(parts[0])
        while self._socket.getsockopt(RCVMORE):
            parts.append(self._socket.recv(NOBLOCK))
            size += len(parts[-1])
            if size > wire.MAX_MESSAGE or len(parts) > wire.MAX_BLOBS:
                raise PeerError("the peer sent a message larger than the wire allows")
        return parts, size

    def _ours(self, route: bytes) -> bool:
        """One session per agent: whoever else has the key is told so, and the session goes on."""
        if self._route is None:
            self._route = route
        if route == self._route:
            return True
        self.counters["second layers"] += 1
        error = PeerError("this agent serves another connection already", "start a session of its own")
        try:
            self._socket.send_multipart([route, *wire.refusal(error)], NOBLOCK)
        except zmq.ZMQError as gone:  # it went away, or does not read
            log.debug("a second layer was not told: %s", gone)
        return False
