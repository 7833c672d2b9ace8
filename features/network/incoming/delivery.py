"""How connections reach the program: as they are; where they came by TLS, by TLS again (`tls_delivery`)."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Protocol

from pymirror.core.errors import UserError
from pymirror.features.network.carry import Bytes, join
from pymirror.features.network.incoming.messages import Arrived
from pymirror.features.network.incoming.pipe import Pipe
from pymirror.features.network.incoming.secure import Secured
from pymirror.features.network.incoming.splice import Splice
from pymirror.features.network.incoming.tls_keys import Delivery

PLACE = "feature.network.incoming.tls_delivery"
DEFAULT = Delivery("tls")
"""The program speaks on that port what the application does."""


class Joined(Protocol):
    """See `carry.Join`."""

    @property
    def stalls(self) -> bool: ...

    def cancel(self) -> None: ...


Deliver = Callable[[Arrived, socket.socket, Bytes, Callable[[], None]], Joined]
"""Joins the door's socket and the stream; the last is called when that is over."""


def plainly(arrived: Arrived, sock: socket.socket, stream: Bytes, over: Callable[[], None]) -> Joined:
    """All as it is."""
    return join(sock, stream, over)


class Deliveries:
    """A `Deliver`. UserError where files of this machine that it names cannot be used."""

    def __init__(self, chosen: Delivery | None, log: logging.Logger) -> None:
        self._chosen, self._log = chosen or DEFAULT, log
        self._told = False
        path = self._chosen.server_cert
        self._only = _certificate(path) if path is not None else None
        self._context = cache(self._make)
        self._context("")

    def __call__(
        self, arrived: Arrived, sock: socket.socket, stream: Bytes, over: Callable[[], None]
    ) -> Joined:
        if not arrived.tls or self._chosen.protocol == "tcp":
            return plainly(arrived, sock, stream, over)
        name = self._chosen.server_name or arrived.server_name or "localhost"
        secured = (self._context(arrived.alpn), name, self._only)
        return Sealed(Pipe(sock), stream, *secured, over, lambda why: self._tell(arrived.port, why))

    def _make(self, alpn: str) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if alpn:
            made.set_alpn_protocols([alpn])
        roots = self._chosen.trust_roots
        if roots is None:
            made.check_hostname = False
            made.verify_mode = ssl.CERT_NONE
        for path in roots or ():
            _trust(made, path)
        return made

    def _tell(self, port: int, why: str) -> None:
        if not self._told:
            self._told = True
            self._log.warning(
                "port %d: TLS with the program failed: %s; if it speaks plain HTTP there, "
                "set %s to {protocol: tcp}",
                *(port, why, PLACE),
            )


class Sealed:
    """One to the program, sealed for it. only: the certificate it must have. told(why): it failed."""

    def __init__(
        self,
        plain: Pipe,
        stream: Bytes,
        context: ssl.SSLContext,
        name: str,
        only: bytes | None,
        over: Callable[[], None],
        told: Callable[[str], None],
    ) -> None:
        self._stream, self._only, self._over, self._told = stream, only, over, told
        self._splice: Splice | None = None
        self._closed = False
        self._secured = Secured(plain, context, self._shook, name)
        self._secured.begin()

    @property
    def stalls(self) -> bool:
        return self._splice is not None and self._splice.stalls

    def cancel(self) -> None:
        if self._splice is not None:
            self._splice.cancel()
        elif not self._closed:
            self._closed = True
            self._secured.close()
            self._stream.close()
            self._over()

    def _shook(self, error: Exception | None) -> None:
        if error is None and self._only not in (None, self._secured.tls.getpeercert(True)):
            error = UserError("the program shows another certificate than server_cert")
        if error is not None:
            self._told(str(error))
            self.cancel()
        else:
            self._splice = Splice(self._secured, self._stream, self._over)


def _certificate(path: str) -> bytes:
    try:
        text = Path(path).read_text("ascii")
        begin, end = text.index("-----BEGIN CERTIFICATE-----"), "-----END CERTIFICATE-----"
        return ssl.PEM_cert_to_DER_cert(text[begin : text.index(end, begin) + len(end)])
    except (OSError, ValueError) as error:
        raise _unfit("server_cert", path, error) from None


def _trust(context: ssl.SSLContext, path: str) -> None:
    """A file, or all `*.pem` of a folder."""
    folder = Path(path)
    try:
        files = sorted(folder.glob("*.pem")) if folder.is_dir() else [folder]
        if not files:
            raise ValueError("nothing in it")
        for each in files:
            context.load_verify_locations(each)
    except (OSError, ValueError) as error:
        raise _unfit("trust_roots", path, error) from None


def _unfit(key: str, path: str, error: Exception) -> UserError:
    why = error.strerror if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) else ""
    words = f"cannot be read: {why}" if why else "has no certificate (PEM)"
    return UserError(f"{PLACE}.{key}: {path} {words}", "name a file of this machine")
