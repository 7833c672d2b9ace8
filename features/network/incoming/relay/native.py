"""The relay in C with types: the only importer of `_relay`. What it does itself is said in relay.c."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

from attrs import frozen

from pymirror.features.network.incoming.needles import Kind, Needle
from pymirror.features.network.incoming.relay._relay import ffi, lib

_KINDS = {Kind.HEADER: lib.RELAY_HEADER, Kind.PATH: lib.RELAY_PATH, Kind.METHOD: lib.RELAY_METHOD}
_METHODS = (b"GET", b"HEAD")
"""Of a request that waits for its answer it is known if it is HEAD, the one that counts there."""


@frozen
class Back:
    """A pair that the relay goes on with no longer, and what was read and has not left.

    to_application, to_client: wait for room. from_client: requests that are not plain. from_application: what
    is no plain answer. asked: methods of the requests that wait for answers. left: bytes that the first of
    these answers still has. served: requests that went on since the pair was given.
    """

    client: socket.socket
    application: socket.socket
    served: int
    from_client: bytes
    to_application: bytes
    from_application: bytes
    to_client: bytes
    asked: tuple[bytes, ...]
    left: int


Done = Callable[[Back | None], object]


class Relay:
    """Passes on the plain requests that no needle is in, and their plain answers, in a thread of its own."""

    def __init__(self, needles: Sequence[Needle]) -> None:
        """OSError."""
        self._loop = asyncio.get_running_loop()
        self._relay = lib.relay_new()
        if self._relay == ffi.NULL:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        self._done: dict[int, Done | None] = {}  # None: cancelled
        self._event, self._back = lib.relay_event(self._relay), ffi.new("relay_back *")
        self._number = ffi.new("unsigned *")
        self._thread = threading.Thread(target=lib.relay_run, args=(self._relay,), daemon=True, name="relay")
        try:
            for needle in needles:
                if code := lib.relay_needle(self._relay, _KINDS[needle.kind], needle.text, len(needle.text)):
                    raise OSError(code, os.strerror(code))
            self._thread.start()
        except RuntimeError as error:
            lib.relay_free(self._relay)
            raise OSError(errno.EAGAIN, f"a thread for the relay: {error}") from error
        except OSError:
            lib.relay_free(self._relay)
            raise
        self._loop.add_reader(self._event, self._came_back)

    def give(self, client: socket.socket, application: socket.socket, done: Done) -> int:
        """The number of the pair, whose sockets are the relay's from here on. OSError: they are not.

        done: called once; None: both have ended, or one was reset, and so is the other.
        """
        code = lib.relay_give(self._relay, client.fileno(), application.fileno(), self._number)
        if code:
            raise OSError(code, os.strerror(code))
        client.detach()
        application.detach()
        number: int = self._number[0]
        self._done[number] = done
        return number

    def cancel(self, number: int) -> None:
        """Both end now, by reset; `done` is not called any more."""
        self._done[number] = None
        lib.relay_cancel(self._relay, number)

    def close(self) -> None:
        """Who is still in it ends by reset."""
        self._loop.remove_reader(self._event)
        for number in list(self._done):
            self.cancel(number)
        lib.relay_stop(self._relay)
        self._thread.join()
        self._came_back()
        lib.relay_free(self._relay)

    def _came_back(self) -> None:
        try:
            os.eventfd_read(self._event)
        except BlockingIOError:
            pass
        back = self._back
        while lib.relay_next(self._relay, back):
            done = self._done.pop(back.number)
            told = _taken(back)
            lib.relay_done(self._relay, back.number)
            if done is not None:
                self._tell(done, told)
            elif told is not None:
                told.client.close()
                told.application.close()

    def _tell(self, done: Done, told: Back | None) -> None:
        try:
            done(told)
        except Exception as error:  # one connection's; those that came back with it go on
            for sock in (told.client, told.application) if told is not None else ():
                sock.close()
            self._loop.call_exception_handler({"message": "a connection of the relay", "exception": error})


def _taken(back: Any) -> Back | None:
    if back.client < 0:
        return None
    client, application = (socket.socket(fileno=each) for each in (back.client, back.application))
    client.setblocking(False)
    application.setblocking(False)
    asked = tuple(_METHODS[each] for each in back.asked[0 : back.asked_count])
    return Back(
        client,
        application,
        back.served,
        _bytes(back.from_client),
        _bytes(back.to_application),
        _bytes(back.from_application),
        _bytes(back.to_client),
        asked,
        back.left,
    )


def _bytes(held: Any) -> bytes:
    return bytes(ffi.buffer(held.data, held.size)) if held.size else b""
