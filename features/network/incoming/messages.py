"""What the halves of `network.incoming` say to each other."""

from __future__ import annotations

from attrs import field

from pymirror.core.message import message
from pymirror.core.probe import Probe

NAME = "network.incoming"


@message(NAME)
class Begin:
    """Be ready for ports. whose: this session, in words for others who want a port of it. probes: the
    target's."""

    whose: str
    probes: list[Probe] = field(factory=list)


@message(NAME)
class Begun:
    """What it takes is there."""


@message(NAME)
class Subscribe:
    """Take, or copy, what comes to that port of the target. Which of the two, the configuration says.

    exact: a copy without a filter is the client's bytes, whatever they are. A program has windows and tables
    of its own: for it HTTP/2 is spoken anew.
    """

    port: int
    exact: bool = False


@message(NAME)
class Subscribed:
    """The answer. code: errno, 0 for done. reason: whose the port is, or which right is missing. note: what
    may be surprising, of a port that was had: whose filters are asked before this session's, say."""

    code: int = 0
    reason: str = ""
    note: str = ""


@message(NAME)
class News:
    """From the agent: what became of a port since it was taken. words: that others share it, or have it."""

    port: int
    words: str


@message(NAME)
class Release:
    """No more of that port. What was begun goes on to its end. The answer, that it is done, is the same."""

    port: int


@message(NAME)
class Here:
    """Asks the layer whether it is there; the answer is the same."""


@message(NAME)
class Arrived:
    """Opens a stream, from the agent: a client's connection, as bytes.

    port: the one subscribed to. client and address: numeric, who came and where to. answers: what the program
    says is read, though it is a copy. tls: it came sealed, and was opened. server_name, alpn: what its client
    asked for, and what it speaks; empty for none.
    """

    port: int
    client: str
    client_port: int
    address: str
    address_port: int
    answers: bool = False
    tls: bool = False
    server_name: str = ""
    alpn: str = ""


@message(NAME)
class Missed:
    """Copies that ended before their connection did. port 0: of whatever ports, nobody knows how many."""

    port: int
    connections: int
    reason: str
