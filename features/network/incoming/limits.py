"""What one client may cost, and what is said to it in the others' stead. Pure."""

from __future__ import annotations

from attrs import frozen

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
GONE = (
    b"pymirror: the local program took this request, and its connection ended before it answered.\n"
    b"See whether it still runs, and what it and `pymirror exec` wrote to the terminal.\n"
)
PAGE = (
    b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n" % len(GONE)
)


@frozen
class Limits:
    """head: seconds for one to come whole. body, body_within: bytes (chunks' framing counts) and seconds
    that a body is held for the filter. pipelined: requests that wait for answers. linger: seconds without a
    byte for a client to end, once the end was sent to it."""

    head: float = 30.0
    body: int = 65535
    body_within: float = 1.0
    pipelined: int = 100
    linger: float = 300.0
