"""A client's connection and the application's, joined as bytes: nothing of it is looked into."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress

from pymirror.features.network.incoming.budget import Share
from pymirror.features.network.incoming.pipe import Pipe
from pymirror.features.network.incoming.splice import Splice


class Passed:
    """Owns both sockets. What it holds for who does not take it counts for the bound of all connections.

    first: what was read of the client's. over: called once, when all has left, or one of them was reset.
    """

    def __init__(
        self, client: socket.socket, application: socket.socket, first: bytes, over: Callable[[], None]
    ) -> None:
        share = Share(self.cancel)
        self._pipes = Pipe(client, share, waits=True), Pipe(application, share)
        self._over, self.closed = over, False
        with suppress(OSError):  # then the other side is told so, too
            if self._pipes[1].write_now(first) < len(first):
                self._pipes[1].close()  # sooner than without its middle
        Splice(*self._pipes, self._ended)

    def cancel(self) -> None:
        """End both now, by reset."""
        for pipe in self._pipes:
            pipe.close()
        self._ended()

    def _ended(self) -> None:
        """Nothing more is read; what is held still leaves."""
        for pipe in self._pipes:
            if pipe.broken is None:
                pipe.attach(self._ended, self._ended)
                return
        if not self.closed:
            self.closed = True
            self._over()
