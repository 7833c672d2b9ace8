"""What a client speaks, by its first bytes. Pure.

A hint for who reads on: the cutters refuse what only looked like it.
"""

from __future__ import annotations

from enum import Enum, auto

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client of HTTP/2 begins with (RFC 9113: 3.4)."""

METHODS = frozenset(
    b"""ACL BIND CHECKOUT CONNECT COPY DELETE GET HEAD LINK LOCK M-SEARCH MERGE MKACTIVITY MKCALENDAR
    MKCOL MOVE NOTIFY OPTIONS PATCH POST PROPFIND PROPPATCH PURGE PUT QUERY REBIND REPORT SEARCH SOURCE
    SUBSCRIBE TRACE UNBIND UNLINK UNLOCK UNSUBSCRIBE""".split()
)
"""Those that llhttp knows."""
_BEGINNINGS = frozenset(method[:size] for method in METHODS for size in range(len(method) + 1))
_HANDSHAKE = b"\x16\x03"
"""A TLS record with a handshake; the third byte is the version, of which none is above 4."""
_SETTINGS = b"\4\0\0\0\0\0"
"""Type, flags and stream, behind three bytes of a length (RFC 9113: 4.1, 6.5)."""
FRAME = 9
"""Bytes of a frame's head."""
_BLANK = 16
"""Bytes of empty lines that a client may send before its request (RFC 9112: 2.2)."""


class Speech(Enum):
    HTTP1 = auto()
    HTTP2 = auto()
    TLS = auto()
    OTHER = auto()
    MORE = auto()
    """Not yet to be said."""


def sniff(data: bytes) -> Speech:
    """data: all that came until now."""
    if data.startswith(PREFACE):
        return Speech.HTTP2
    if PREFACE.startswith(data):
        return Speech.MORE
    if data[0] == _HANDSHAKE[0]:
        return _tls(data)
    text = data.lstrip(b"\r\n")
    method, space, _ = text.partition(b" ")
    if len(data) - len(text) > _BLANK or method not in _BEGINNINGS:
        return Speech.OTHER
    if not space:
        return Speech.MORE
    return Speech.HTTP1 if method in METHODS else Speech.OTHER


def _tls(data: bytes) -> Speech:
    if len(data) < 3:
        return Speech.MORE if _HANDSHAKE.startswith(data) else Speech.OTHER
    return Speech.TLS if data.startswith(_HANDSHAKE) and data[2] <= 4 else Speech.OTHER


def is_http2_server(data: bytes) -> bool:
    """Is it what a server of HTTP/2 begins with, which may come before its client says anything?"""
    return data[3:FRAME] == _SETTINGS
