"""What the halves of `network.outgoing` say to each other."""

from __future__ import annotations

from pymirror.core.message import message

NAME = "network.outgoing"


@message(NAME)
class Dial:
    """Opens a stream: connect there, then the stream carries what the socket does.

    number: the layer's, for the answer. transport: as of core.call.Call. host: numeric, of a link-local
    address with the name of its device. path: of a unix socket, or NUL and an abstract name.
    """

    number: int
    transport: str
    host: str = ""
    port: int = 0
    path: bytes = b""


@message(NAME)
class Dialed:
    """The answer to `Dial`. code: errno, 0 for connected; host and port: the socket's own name."""

    number: int
    code: int = 0
    host: str = ""
    port: int = 0


@message(NAME)
class Refused:
    """The network has reported an error for a datagram of that flow. Not told for each one.

    Which it was the program's kernel cannot be told.
    """

    number: int


@message(NAME)
class Settle:
    """The program has ended: is all that was sent in these, to the end of their streams, on its way?"""

    numbers: list[int]


@message(NAME)
class Settled:
    """The target's kernel has it; it arrives although the agent ends."""
