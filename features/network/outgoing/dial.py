"""A connection of the layer's half, from its call to its end."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress

from attrs import define, field

from pymirror.core.call import Address, Call
from pymirror.core.feature import Stream
from pymirror.features.network.outgoing import messages as m

Key = tuple[int, str, Address | None, bytes]


def key_of(call: Call) -> Key:
    return call.socket, call.transport, call.address, call.path


@define(eq=False)
class Dial:
    """A connection from its call to its end. result: None until it is known; waiting: told then.

    place: where the program's socket is handed over.
    """

    number: int
    call: Call
    stream: Stream
    result: m.Dialed | None = None
    waiting: list[Callable[[], None]] = field(factory=list)
    place: tuple[Address | bytes, bytes] | None = None
    dropped: bool = False

    @property
    def key(self) -> Key:
        return key_of(self.call)


def by_device(host: str) -> str:
    """A link-local address with its device by name: more likely the same in the target than its number."""
    bare, percent, zone = host.partition("%")
    with suppress(OSError):
        return f"{bare}%{socket.if_indextoname(int(zone))}" if percent else host
    return host
