"""One client's connection to a stolen port with a filter, until it is known what it speaks, and afterwards.

The application is connected to at once: one that speaks before its client is none of HTTP/1's, and no
silent client is kept from it by a time-out. HTTP is an exchange, all else the application's. But on a port
where only probes are not the program's (`Filtered.rest`), all that cannot be one is the program's.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from typing import Protocol

from attrs import frozen

from pymirror.core.errors import PeerError
from pymirror.core.feature import Peer
from pymirror.core.windows import LEAST
from pymirror.features.network.carry import Bytes, end_by_reset
from pymirror.features.network.incoming import http2
from pymirror.features.network.incoming import messages as m
from pymirror.features.network.incoming.budget import Share
from pymirror.features.network.incoming.choice import While
from pymirror.features.network.incoming.credentials import Credential
from pymirror.features.network.incoming.exchange import Exchange
from pymirror.features.network.incoming.health import Probed
from pymirror.features.network.incoming.http_rules import Deciding
from pymirror.features.network.incoming.limits import Limits
from pymirror.features.network.incoming.outlet import Begun, Given
from pymirror.features.network.incoming.passing import Passage
from pymirror.features.network.incoming.pipe import Pipe
from pymirror.features.network.incoming.relay.native import Back, Relay
from pymirror.features.network.incoming.ruleset import Place
from pymirror.features.network.incoming.secure_front import How, SecureFront
from pymirror.features.network.incoming.sniff import FRAME, Speech, is_http2_server, sniff
from pymirror.features.network.incoming.stand_in import stand_in
from pymirror.features.network.incoming.steal import Steal
from pymirror.features.network.incoming.tls_hello import Hello, NoHello, hello_of

READ = 64 << 10
FEW, MOST = 8, 64
"""Requests in the relay that are few; then one, and each time twice as many up to 64, go by without it."""
PATIENCE = 0.05
"""Seconds that the application may take to be there before its client is listened to."""


@frozen
class Filtered:
    """How a port is filtered. within: seconds a client may take to show what it speaks, once it has begun.
    astray(port, why): a client's connection is the application's from there on. marks: answers get a header
    that says whose they are. rest: all but what this says is the program's, as if there were no filter.
    answered: that is answered here. credential: what TLS is opened with on a port. relay: passes on what
    needs no filter."""

    matcher: Deciding
    limits: Limits
    within: float
    told: Callable[[str], object]
    astray: Callable[[int, str], object] = lambda port, why: None
    marks: bool = False
    rest: Probed | None = None
    answered: bool = False
    credential: Callable[[int], Credential | None] = lambda port: None
    relay: Relay | None = None


class Looks(Protocol):
    """An exchange."""

    def cancel(self) -> None: ...

    def relieve(self) -> None: ...


class Front:
    """Owns the socket from here on; entered in one of `steal`'s two sets until nothing of it is left."""

    def __init__(
        self,
        sock: socket.socket,
        client: Place,
        address: Place,
        port: int,
        steal: Steal,
        peer: Peer,
        filtered: Filtered,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock, self._client, self._address, self._port = sock, client, address, port
        self._steal, self._peer, self._filtered = steal, peer, filtered
        self._first, self._held = b"", 0
        self._application: socket.socket | None = None
        self._wanted: Given | None = None  # who waits for the application's connection, once it is decided
        self._raw = self._decided = False
        self._exchange: Looks | None = None
        self._share = Share(self._relieve)
        self._timer: asyncio.TimerHandle | None = None
        self._passage: Passage | None = None
        self._where = steal.to_application if filtered.rest is None else steal.to_program
        self._where.add(self)
        self._relayed: int | None = None
        self._unrelayed = self._pause = 0  # requests until the relay is tried again
        self._watches = filtered.relay is None  # the client, for its first bytes
        if self._watches:
            self._loop.add_reader(sock.fileno(), self._readable)
        if filtered.rest is None:
            self._passage = steal.passing.connect(client, address, self._connected)
            if not (self._watches or self._passage.there):
                self._timer = self._loop.call_later(PATIENCE, self._unconnected)
        else:  # the kubelet does not hesitate
            self._timer = self._loop.call_later(filtered.within, self._passed_on)

    def cancel(self) -> None:
        """End all of it now."""
        if self._relayed is not None and self._filtered.relay is not None:
            self._filtered.relay.cancel(self._relayed)
            self._steal.over(self._where, self)
            return
        if self._exchange is not None:
            self._exchange.cancel()
            return
        self._quiet()
        if self._passage is not None:
            self._passage.cancel()
        for sock in (self._sock, self._application):
            if sock is not None:
                end_by_reset(sock, True)
                sock.close()
        self._steal.over(self._where, self)

    def _relieve(self) -> None:
        if self._exchange is not None:
            self._exchange.relieve()
        elif self._raw:
            self.cancel()
        else:
            self._passed_on()

    def _hold(self, size: int) -> None:
        """So much came that is not decided, or waits for the application: it counts."""
        self._share.add(size - self._held, left=False)
        self._held = size

    def _readable(self) -> None:
        try:
            data = self._sock.recv(READ if self._filtered.rest is None else LEAST)
        except BlockingIOError:
            return
        except OSError:
            self.cancel()
            return
        self._first += data
        self._look(sniff(self._first) if data else Speech.OTHER)

    def _look(self, speech: Speech) -> None:
        if speech is Speech.TLS and self._speaks_tls():
            return
        if speech in (Speech.HTTP1, Speech.HTTP2) and self._is_cut(speech is Speech.HTTP2):
            self._speaks_http(speech is Speech.HTTP2)
        elif speech is not Speech.MORE:
            self._passed_on()
        else:
            self._wait()

    def _wait(self) -> None:
        """For more."""
        self._hold(len(self._first))
        if self._timer is None:
            self._timer = self._loop.call_later(self._filtered.within, self._passed_on)

    def _is_cut(self, two: bool) -> bool:
        """Must its requests be told apart?"""
        rest = self._filtered.rest
        return rest is None or (rest.grpc if two else rest.http)

    def _connected(self, there: socket.socket | None, code: int) -> None:
        self._passage, self._application = None, there
        if self._timer is not None and not self._watches:
            self._timer.cancel()
            self._timer = None
        wanted, self._wanted = self._wanted, None
        if wanted is not None:
            wanted(self._pipe(self._share))
        elif self._raw:
            self._passed_on()
        elif self._decided:
            return
        elif there is None or self._first or not self._relay(self._sock, there):
            self._watch()
            if there is None and self._timer is None:  # who says nothing learns that nobody is there
                self._timer = self._loop.call_later(self._filtered.within, self._passed_on)

    def _unconnected(self) -> None:
        self._timer = None
        self._watch()

    def _watch(self) -> None:
        """Who speaks first?"""
        if not self._watches:
            self._watches = True
            self._loop.add_reader(self._sock.fileno(), self._readable)
        if self._application is not None:
            self._loop.add_reader(self._application.fileno(), self._application_speaks)

    def _application_speaks(self) -> None:
        """Before its client, or it has ended. A server of HTTP/2 (gRPC's) does so, and its client will."""
        assert self._application is not None
        try:
            data = self._application.recv(FRAME, socket.MSG_PEEK)
        except OSError:
            data = b""
        if is_http2_server(data):
            self._loop.remove_reader(self._application.fileno())
        else:
            self._passed_on()

    def _passed_on(self) -> None:
        """All of it is the application's, which may have to be waited for; or the program's."""
        self._quiet()
        if self._filtered.rest is not None:
            self._steal.over(self._where, self)
            self._steal.give(self._sock, self._client, self._address, self._port, self._first)
            return
        self._raw = True
        if self._passage is not None:
            self._hold(len(self._first))
            return
        there, self._application = self._application, None
        if there is None:
            self.cancel()
            return
        self._steal.over(self._steal.to_application, self)
        self._steal.put_through(self._sock, there, self._first)

    def _speaks_tls(self) -> bool:
        """Is it opened, or will be seen to be once its first message is whole? Else it is left as it is."""
        credential = self._filtered.credential(self._port)
        if credential is None:
            return False
        try:
            hello = hello_of(self._first)
        except NoHello:
            return False
        if hello is None:
            self._wait()
            return True
        if hello.modern:
            self._opens(credential, hello)
        return hello.modern

    def _opens(self, credential: Credential, hello: Hello) -> None:
        self._quiet()
        filtered = self._filtered
        how = How(
            self._while(), filtered.limits, filtered.within, filtered.told, self._astray,
            filtered.marks, self._share,
        )  # fmt: skip
        ways = self._to_application, self._to_program, how, partial(self._untouched, credential), self._over
        first, self._first = self._first, b""
        opened = self._exchange = SecureFront(hello, self._sock, first, credential, *ways)
        opened.begin()

    def _untouched(self, credential: Credential, first: bytes, why: str) -> None:
        """The client's connection as it came, by a new one to the application."""
        credential.tell(f"port {self._port}: {why}. Such connections go to the application unopened")
        self._exchange, self._raw, self._first = None, True, first
        self._hold(len(first))
        self._passage = self._steal.passing.connect(self._client, self._address, self._connected)

    def _while(self) -> While:
        return While(self._filtered.matcher, lambda: self._steal.takes(self._port))

    def _speaks_http(self, two: bool, begun: Begun | None = None) -> None:
        self._quiet()
        self._exchange = None
        filtered = self._filtered
        matcher = self._while() if filtered.rest is None else filtered.matcher
        application = stand_in(two) if filtered.answered else self._to_application
        openers = application, self._to_program
        parts = Pipe(self._sock, self._share, waits=True), *openers, matcher, filtered.limits, filtered.told
        first, self._first = self._first, b""
        more = self._over, first, filtered.marks, self._share
        if two:
            self._exchange = http2.Exchange(*parts, *more)
        else:
            rest = filtered.rest is not None
            exchange = Exchange(*parts, *more, rest, begun, self._rests, self._astray)
            if self._exchange is None and self._relayed is None:  # or it has gone on elsewhere already
                self._exchange = exchange

    def _astray(self, why: str) -> None:
        if self._filtered.rest is None:
            self._filtered.astray(self._port, why)

    def _relay(self, client: socket.socket, application: socket.socket) -> bool:
        """To the relay, until something is not plain; False: it does not take them."""
        if self._filtered.relay is None:
            return False
        if self._watches:
            self._loop.remove_reader(client.fileno())
            self._watches = False
        try:
            self._relayed = self._filtered.relay.give(client, application, self._back)
        except OSError:
            return False
        self._application = self._exchange = None
        return True

    def _rests(self, client: Bytes, application: Bytes) -> bool:
        """Between two requests: to the relay, but for a client to which it has been of little use."""
        assert isinstance(client, Pipe) and isinstance(application, Pipe)
        if self._filtered.relay is None or not (client.rests and application.rests):
            return False
        if self._unrelayed:
            self._unrelayed -= 1
            return False
        self._sock, there = client.leave(), application.leave()
        if not self._relay(self._sock, there):
            self._speaks_http(False, Begun(Pipe(there, self._share)))
        return True

    def _back(self, back: Back | None) -> None:
        self._relayed = None
        if back is None:
            self._over()
            return
        self._sock, self._first = back.client, back.from_client
        if not (back.served or self._decided):  # not even a first request was plain
            self._application = back.application
            if self._first:
                self._look(sniff(self._first))
            if not self._decided:
                self._watch()
            return
        self._pause = 0 if back.served >= FEW else min(2 * self._pause or 1, MOST)
        self._unrelayed = self._pause
        there = Pipe(back.application, self._share)
        held = back.to_application, back.to_client, back.from_application
        self._speaks_http(False, Begun(there, back.asked, back.left, *held))

    def _to_application(self, given: Given) -> None:
        if self._application is not None and not _is_quiet(self._application):
            self._application.close()  # it waited too long for a request, while these were the program's
            self._application = None
        if self._application is not None:
            given(self._pipe(self._share))
        elif self._passage is not None:
            self._wanted = given
        else:
            self._wanted = given
            self._passage = self._steal.passing.connect(self._client, self._address, self._connected)

    def _to_program(self, given: Given, tls: bool = False, server_name: str = "", alpn: str = "") -> None:
        client, address = self._client, self._address
        names = client.host, client.port, address.host, address.port
        arrived = m.Arrived(self._port, *names, tls=tls, server_name=server_name, alpn=alpn)
        try:
            given(self._peer.stream_now(arrived))
        except PeerError:  # the channel is lost, or carries as much as it may
            given(None)

    def _pipe(self, share: Share | None = None) -> Pipe | None:
        there, self._application = self._application, None
        return Pipe(there, share) if there is not None else None

    def _over(self) -> None:
        """Nothing of the exchange is left; what was opened for it and not used goes, too."""
        if self._passage is not None:
            self._passage.cancel()
        if self._application is not None:
            self._application.close()
        self._steal.over(self._where, self)

    def _quiet(self) -> None:
        """It is decided: nobody looks any more."""
        self._decided = True
        self._hold(0)
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._sock.fileno())
        if self._application is not None:
            self._loop.remove_reader(self._application.fileno())


def _is_quiet(sock: socket.socket) -> bool:
    """Has a server that was not asked said nothing, its connection's end among it? HTTP/2's may have."""
    try:
        return is_http2_server(sock.recv(FRAME, socket.MSG_PEEK))
    except BlockingIOError:
        return True
    except OSError:
        return False
