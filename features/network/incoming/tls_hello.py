"""A client's first TLS message: the name it wants and the protocols it offers (RFC 8446: 4.1.2). Pure."""

from __future__ import annotations

import re

from attrs import frozen

NAME = re.compile(r"[\w-][\w.-]{0,254}", re.ASCII)
"""Of a server (RFC 6066: 3), as TLS implementations take it."""
MOST = 32 << 10
"""Bytes that one may have: keys of lattices and tickets are some kilobytes."""
RECORDS = 64
"""Pieces in which it may come: all are looked at each time that some more has come."""
_HANDSHAKE, _HELLO = 22, 1
_NAME, _ALPN, _VERSIONS = 0, 16, 43
_TLS12 = 0x0303


class NoHello(ValueError):
    """It is none."""


@frozen
class Hello:
    """server_name: empty for none. alpn: in the client's order, those that are ASCII; empty for none.

    modern: TLS 1.2 or later is offered.
    """

    server_name: str = ""
    alpn: tuple[str, ...] = ()
    modern: bool = False


class _Reader:
    """Of a structure with lengths before its parts. NoHello where it is too short."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        data = self._data[self._at : self._at + size]
        if len(data) < size:
            raise NoHello("it is cut off")
        self._at += size
        return data

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def part(self, size: int) -> bytes:
        """What has its length before it, in so many bytes."""
        return self.take(self.number(size))


def hello_of(data: bytes) -> Hello | None:
    """data: all that came, which begins with a TLS record. None: more must come. NoHello."""
    message = b""
    at = records = 0
    while len(data) - at >= 5:
        records += 1
        if records > RECORDS:
            raise NoHello("it is in too many pieces")
        if data[at] != _HANDSHAKE:
            raise NoHello("another record is in it")
        size = int.from_bytes(data[at + 3 : at + 5], "big")
        message += data[at + 5 : at + 5 + size]
        at += 5 + size
        if message[:1] not in (b"", bytes([_HELLO])):
            raise NoHello("it begins with another message")
        if len(message) >= 4:
            whole = 4 + int.from_bytes(message[1:4], "big")
            if whole > MOST:
                raise NoHello("it is too long")
            if len(message) >= whole:
                return _read(_Reader(message[4:whole]))
    if len(data) > MOST * 2:
        raise NoHello("it does not come to its end")
    return None


def _read(body: _Reader) -> Hello:
    version = body.number(2)
    body.take(32)  # random
    for size in (1, 2, 1):  # session, ciphers, compression
        body.part(size)
    found: dict[int, bytes] = {}
    extensions = _Reader(body.part(2) if body else b"")
    while extensions:
        kind = extensions.number(2)
        found.setdefault(kind, extensions.part(2))
    return Hello(_name(found.get(_NAME)), _alpn(found.get(_ALPN)), _modern(version, found.get(_VERSIONS)))


def _name(data: bytes | None) -> str:
    names = _Reader(_Reader(data).part(2) if data else b"")
    while names:
        kind, name = names.number(1), names.part(2).decode("latin-1")
        if kind == 0 and not NAME.fullmatch(name):
            raise NoHello("it asks for a name that is none")
        if kind == 0:
            return name
    return ""


def _alpn(data: bytes | None) -> tuple[str, ...]:
    offered, found = _Reader(_Reader(data).part(2) if data else b""), []
    while offered:
        name = offered.part(1)
        if name and name.isascii():  # others stand for nothing (RFC 8701)
            found.append(name.decode())
    return tuple(found)


def _modern(version: int, data: bytes | None) -> bool:
    versions = _Reader(_Reader(data).part(1) if data else b"")
    while versions:
        each = versions.number(2)
        if _TLS12 <= each <= 0x03FF:
            return True
    return data is None and version >= _TLS12
