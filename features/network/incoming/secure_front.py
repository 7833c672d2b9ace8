"""A client's TLS connection to a port of `agent.tls`, opened: what is within is decided as without TLS.

First the application is asked, in the client's own words: its name, its protocols. What it chooses the client
is offered. Where its place cannot be taken (it asks for the client's certificate, shows another one than the
configured, agrees on what is no HTTP, refuses), nothing has been said to the client yet, and its connection
is passed on as it came, over a new one.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import weakref
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Protocol, cast

from attrs import field, frozen

from pymirror.features.network.carry import Bytes, end_by_reset
from pymirror.features.network.incoming import http2
from pymirror.features.network.incoming.budget import Share
from pymirror.features.network.incoming.credentials import CIPHERS, PROTOCOLS, Credential
from pymirror.features.network.incoming.exchange import Exchange
from pymirror.features.network.incoming.http_filter import Deciding
from pymirror.features.network.incoming.limits import Limits
from pymirror.features.network.incoming.outlet import Given, Opener
from pymirror.features.network.incoming.pipe import Pipe
from pymirror.features.network.incoming.secure import Secured
from pymirror.features.network.incoming.sniff import Speech, sniff
from pymirror.features.network.incoming.splice import Splice
from pymirror.features.network.incoming.tls_hello import Hello

READ = 64 << 10
HTTP2 = "h2"
_HANDSHAKE, _CERTIFICATE_REQUEST = 22, 13
_asked: weakref.WeakSet[object] = weakref.WeakSet()
"""Connections whose other side wants a certificate."""


@frozen
class How:
    """What decides within. See `front.Filtered`."""

    matcher: Deciding
    limits: Limits
    within: float
    told: Callable[[str], object]
    astray: Callable[[str], object] = lambda why: None
    marks: bool = False
    share: Share = field(factory=Share)


Done = Callable[["Exception | None"], object]


class Program(Protocol):
    def __call__(self, given: Given, tls: bool, server_name: str, alpn: str) -> object:
        """Opener of streams to the program."""


class SecureFront:
    """Owns `sock` from `begin` on. first: all that was read of it.

    application: asks for plain streams to it. untouched(first, why): the connection is given back as it was;
    the socket is nobody's then. over: nothing is left.
    """

    def __init__(
        self,
        hello: Hello,
        sock: socket.socket,
        first: bytes,
        credential: Credential,
        application: Opener,
        program: Program,
        how: How,
        untouched: Callable[[bytes, str], object],
        over: Callable[[], object],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._hello, self._sock, self._first, self._credential = hello, sock, first, credential
        self._opener, self._program, self._how = application, program, how
        self._untouched, self._over = untouched, over
        how.share.add(len(first), left=False)  # until it is the client's TLS that holds it, or nobody
        self._alpn: str | None = None
        self._client: Secured | None = None
        self._application: Secured | None = None  # the one that was asked first, until it is used
        self._newest: Secured | None = None  # of the application's
        self._speaks: http2.Exchange | Exchange | Splice | None = None  # what has begun
        self._said = b""
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def begin(self) -> None:
        self._opener(self._given)

    def cancel(self) -> None:
        """End all of it now."""
        if self._closed:
            return
        if self._speaks is not None:
            self._speaks.cancel()
            return
        for each in (self._client, self._application):
            if each is not None:
                each.close()
        if self._client is None:
            end_by_reset(self._sock, True)
            self._sock.close()
        self._finish()

    def relieve(self) -> None:
        """The agent holds too much, and what this holds does not move."""
        if self._speaks is None or isinstance(self._speaks, Splice):
            self.cancel()
        else:
            self._speaks.relieve()

    # The application -------------------------------------------------------------------------------

    def _given(self, plain: Bytes | None) -> None:
        if self._closed or plain is None:
            if plain is not None:
                plain.close()
            self.cancel()
            return
        self._application = self._asks(plain, self._hello.alpn, partial(self._answered, plain))
        self._application.begin()

    def _answered(self, plain: Bytes, error: Exception | None) -> None:
        there = self._application
        assert there is not None
        why = self._refusal(there, error)
        if why:
            self._application = None
            plain.close()  # by reset, whatever it waits for: the next connection has the same names
            there.close()
            self._give_back(why)
            return
        _listen_no_more(there)
        self._alpn = there.tls.selected_alpn_protocol()
        serving = self._credential.serving[self._alpn]
        more = self._take_first(), self._application_cut, self._how.share
        below = Pipe(self._sock, self._how.share, waits=True)
        self._client = Secured(below, serving, self._shook, None, *more)
        self._client.begin()

    def _refusal(self, there: Secured, error: Exception | None) -> str:
        """Why its clients' connections are not opened; empty: they are."""
        if there.tls in _asked:
            return "the application asks its clients for certificates, which cannot be passed on"
        if error is not None:
            return f"the application refuses: {error}"
        chosen = there.tls.selected_alpn_protocol()
        if chosen not in PROTOCOLS:
            return f"client and application agree on {chosen}, which is no HTTP"
        known = self._credential.known
        if self._credential.entry.application == "same" and there.tls.getpeercert(True) not in known:
            return (
                f"the application shows another certificate than {self._credential.entry.certificate}; "
                "start it anew with that one, or set `application: any` there"
            )
        return ""

    def _give_back(self, why: str) -> None:
        self._closed = True
        self._untouched(self._take_first(), why)

    def _asks(self, plain: Bytes, alpn: tuple[str, ...], done: Done) -> Secured:
        more = self._hello.server_name, b"", self._client_cut, self._how.share
        made = Secured(plain, _asking(alpn), done, *more)
        self._newest = made
        return made

    def _to_application(self, given: Given) -> None:
        """What was asked first, if it is still there; else a new one, by what was agreed on then."""
        there, self._application = self._application, None
        if there is not None and _lives(there):
            given(there)
            return
        if there is not None:
            there.leave()
        self._opener(lambda plain: self._ask_again(plain, given))

    def _ask_again(self, plain: Bytes | None, given: Given) -> None:
        if plain is None:
            given(None)
            return

        def done(error: Exception | None) -> None:
            fits = error is None and made.tls.selected_alpn_protocol() == self._alpn
            if fits:
                _listen_no_more(made)
            else:
                made.close()
            given(made if fits else None)

        made = self._asks(plain, (self._alpn,) if self._alpn else (), done)
        made.begin()

    def _to_program(self, given: Given) -> None:
        if self._newest is not None and self._newest.truncated:
            self._newest = None
        self._program(given, True, self._hello.server_name, self._alpn or "")

    # The client ------------------------------------------------------------------------------------

    def _shook(self, error: Exception | None) -> None:
        assert self._client is not None
        if error is not None:
            self._how.told(f"a client's TLS handshake: {error}")
            self._finish()  # it is told so, which a reset would take from it
        elif self._alpn == HTTP2:
            self._exchange(two=True)
        else:
            assert self._application is not None
            self._client.attach(self._client_says, _nothing)
            self._application.attach(self._application_says, _nothing)
            self._client_says()
            if self._speaks is None and not self._closed:
                self._application_says()

    def _client_says(self) -> None:
        """Until it is known what it speaks."""
        assert self._client is not None
        if self._speaks is not None or self._closed:
            return
        speech, data = Speech.MORE, b""
        try:
            while speech is Speech.MORE:
                data = self._client.read_now(READ)
                self._said += data
                speech = sniff(self._said) if data else Speech.OTHER
        except BlockingIOError:
            if self._said and self._timer is None:
                self._timer = self._loop.call_later(self._how.within, self._splice)
            return
        except OSError:
            self.cancel()
            return
        if speech in (Speech.HTTP1, Speech.HTTP2):
            self._exchange(two=speech is Speech.HTTP2)
        else:
            self._splice()

    def _application_says(self) -> None:
        """Before its client: that is no HTTP/1, and HTTP/2 would be known. Or it has ended."""
        there = self._application
        if self._speaks is not None or self._closed or there is None:
            return
        try:
            there.unread(there.read_now(READ))
        except BlockingIOError:
            return
        except OSError:
            pass  # who goes on with it sees that, too
        self._splice()

    def _splice(self) -> None:
        """All within is the application's."""
        client, there = self._began()
        assert there is not None
        self._speaks = Splice(client, there, self._finish)

    def _exchange(self, two: bool) -> None:
        client, self._application = self._began()
        how = self._how
        parts = client, self._to_application, self._to_program, how.matcher, how.limits, how.told
        more = self._finish, b"", how.marks, how.share
        if two:
            self._speaks = http2.Exchange(*parts, *more)
        else:
            self._speaks = Exchange(*parts, *more, astray=how.astray)

    def _began(self) -> tuple[Secured, Secured | None]:
        """It is known what is spoken. The two, as if nothing had been read."""
        assert self._client is not None
        if self._timer is not None:
            self._timer.cancel()
        self._client.unread(self._said)
        there, self._said, self._application = self._application, b"", None
        if there is not None:
            there.attach(_nothing, _nothing)
        return self._client, there

    def _client_cut(self) -> bool:
        return self._client is not None and self._client.truncated

    def _application_cut(self) -> bool:
        return self._newest is not None and self._newest.truncated

    def _take_first(self) -> bytes:
        first, self._first = self._first, b""
        self._how.share.add(-len(first), left=False)
        return first

    def _finish(self) -> None:
        self._closed = True
        self._take_first()
        if self._timer is not None:
            self._timer.cancel()
        there, self._application = self._application, None
        if there is not None:
            there.leave()
        self._client = self._newest = self._speaks = None  # TLS has much memory, and a circle keeps it
        self._over()


def _lives(there: Secured) -> bool:
    """An application ends a connection that has been idle for long."""
    try:
        data = there.read_now(READ)
    except BlockingIOError:
        return True
    except OSError:
        return False
    there.unread(data)
    return bool(data)


@lru_cache(64)
def _asking(alpn: tuple[str, ...]) -> ssl.SSLContext:
    """For connections to the application, which are noted if it wants a certificate of its client."""
    made: Any = _plain()
    if alpn:
        made.set_alpn_protocols(list(alpn))
    made._msg_callback = _heard  # Python has no other way to learn of it; in TLS 1.3 the bytes are sealed
    return cast(ssl.SSLContext, made)


def _plain() -> ssl.SSLContext:
    """Who it is, the clients ask: `SecureFront` compares."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    made.set_ciphers(CIPHERS)
    return made


_deaf = lru_cache(1)(_plain)


def _listen_no_more(there: Secured) -> None:
    """Its handshake is over: each record would be told, which costs."""
    there.tls.context = _deaf()


def _heard(tls: object, direction: str, _version: object, content: int, kind: int, _data: bytes) -> None:
    if direction == "read" and (content, kind) == (_HANDSHAKE, _CERTIFICATE_REQUEST):
        _asked.add(tls)


def _nothing() -> None:
    return
