"""The worker that `judge.py` starts: answers questions, and is ended by the kernel when one takes too long.

Its limits are of the processor's time and of memory, so that a busy machine makes nothing too slow.
"""

from __future__ import annotations

import resource
import signal
import socket
import struct
import sys
from typing import Any

import msgspec

from pymirror.features.network.incoming.questions import Question, made

SIZE = struct.Struct("!I")
MEMORY = 512 << 20


class Ask(msgspec.Struct, frozen=True, array_like=True):
    """Of the question with that number, about each of the texts, within so many seconds of computing."""

    number: int
    texts: list[bytes]
    limit: float


def send(sock: socket.socket, value: Any) -> None:
    """OSError."""
    sock.sendall(packed(value))


def packed(value: Any) -> bytes:
    data = msgspec.msgpack.encode(value)
    return SIZE.pack(len(data)) + data


def receive(sock: socket.socket, kind: Any) -> Any:
    """EOFError, OSError."""
    (size,) = SIZE.unpack(_exactly(sock, SIZE.size))
    return msgspec.msgpack.decode(_exactly(sock, size), type=kind)


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def serve(sock: socket.socket) -> None:
    """Until the other end is closed. SIGPROF is left to end the process: a program cannot be stopped else."""
    asked = [made(question) for question in receive(sock, list[Question])]
    send(sock, True)
    while True:
        ask = receive(sock, Ask)
        signal.setitimer(signal.ITIMER_PROF, ask.limit)
        found = [asked[ask.number].holds(text) for text in ask.texts]
        signal.setitimer(signal.ITIMER_PROF, 0)
        send(sock, found)


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        serve(socket.socket(fileno=int(sys.argv[1])))
    except (EOFError, ConnectionError):
        return


if __name__ == "__main__":
    main()
