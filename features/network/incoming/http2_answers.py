"""What a client is told when its request was the local program's, and the program does not answer. Pure."""

from __future__ import annotations

from urllib.parse import quote

from pymirror.features.network.incoming.http2_headers import Head, plain

UNAVAILABLE = b"14"
_AS_IT_IS = bytes(range(0x20, 0x7F)).replace(b"%", b"")


def unanswered(asked: Head, why: str) -> tuple[Head, bytes]:
    """The answer's head and body; for gRPC there are trailers alone."""
    words = f"pymirror: {why}. See whether the program runs, and what `pymirror exec` wrote to the terminal."
    if asked.get(b"content-type").startswith(b"application/grpc"):
        message = quote(words, safe=_AS_IT_IS).encode()
        return plain(
            [
                (b":status", b"200"),
                (b"content-type", b"application/grpc"),
                (b"grpc-status", UNAVAILABLE),
                (b"grpc-message", message),
            ]
        ), b""
    page = f"{words}\n".encode()
    fields = [
        (b":status", b"502"),
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(page)),
    ]
    return plain(fields), b"" if asked.get(b":method") == b"HEAD" else page
