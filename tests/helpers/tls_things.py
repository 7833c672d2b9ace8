"""Certificates for tests, with their keys; and the other end of a TLS connection."""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pymirror.core.limit import timeout

LIMIT = 20
PEM = serialization.Encoding.PEM


@frozen
class Made:
    """Paths of PEM files."""

    certificate: Path
    key: Path


def certificate(
    folder: Path, name: str = "web", days: tuple[int, int] = (-1, 30), secret: bytes = b""
) -> Made:
    """Self-signed, for `name`, valid in these days from now. secret: the key is encrypted with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days[0]))
        .not_valid_after(now + datetime.timedelta(days[1]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), False)
        .sign(key, hashes.SHA256())
    )
    how = serialization.BestAvailableEncryption(secret) if secret else serialization.NoEncryption()
    folder.mkdir(parents=True, exist_ok=True)
    paths = Made(folder / "tls.crt", folder / "tls.key")
    paths.certificate.write_bytes(made.public_bytes(PEM))
    paths.key.write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, how))
    return paths


def serving(made: Made, *protocols: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def asking(*protocols: str) -> ssl.SSLContext:
    """Whoever answers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


class Peer:
    """The other end, on a non-blocking socket; name: whom it asks for, None: it serves."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, name: str | None = None) -> None:
        self.sock = sock
        self._opened, self._sealed = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._opened, self._sealed, name is None, name)

    async def _do(self, what: Callable[[], Any]) -> Any:
        while True:
            try:
                found = what()
            except ssl.SSLWantReadError:
                await self._leave()
                data = await self._raw()
                if data:
                    self._opened.write(data)
                else:
                    self._opened.write_eof()
                continue
            except ssl.SSLError:
                await self._leave()
                raise
            await self._leave()
            return found

    async def _raw(self) -> bytes:
        async with timeout(LIMIT):
            return await asyncio.get_running_loop().sock_recv(self.sock, 1 << 16)

    async def _leave(self) -> None:
        async with timeout(LIMIT):
            await asyncio.get_running_loop().sock_sendall(self.sock, self._sealed.read())

    async def shake(self) -> Peer:
        await self._do(self.tls.do_handshake)
        return self

    async def send(self, data: bytes) -> None:
        for at in range(0, len(data), 1 << 16):
            await self._do(partial(self.tls.write, data[at : at + (1 << 16)]))

    async def some(self) -> bytes:
        """What comes; b"" at close_notify. ssl.SSLEOFError: it is cut off."""
        try:
            return bytes(await self._do(partial(self.tls.read, 1 << 16)))
        except ssl.SSLZeroReturnError:
            return b""

    async def exactly(self, size: int) -> bytes:
        """So many bytes, or all up to the end."""
        data = bytearray()
        while len(data) < size and (more := await self.some()):
            data += more
        return bytes(data)

    async def end(self) -> None:
        """close_notify, and no more: the socket stays."""
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        await self._leave()
