"""What the halves of `network.dns` say to each other."""

from __future__ import annotations

from attrs import frozen

from pymirror.core.message import message

NAME = "network.dns"

RESOLV, HOSTS, NSSWITCH, HOST_CONF = (
    b"/etc/resolv.conf",
    b"/etc/hosts",
    b"/etc/nsswitch.conf",
    b"/etc/host.conf",
)
PATHS = (RESOLV, HOSTS, NSSWITCH, HOST_CONF)
"""What resolvers read, glibc's all four."""

MOST_FILE = 1 << 20
"""Bytes of one of them that cross; a longer one ends with its last whole line before that."""


@frozen
class File:
    """there: False, and no content, where the target has no such file or it may not be read."""

    path: bytes
    there: bool
    content: bytes = b""


@message(NAME)
class AskFiles:
    """What do the target's resolvers read?"""


@message(NAME)
class Files:
    """The target's files: all as the answer to `AskFiles`, those that changed as an event."""

    files: list[File]


@message(NAME)
class Query:
    """Ask this (a message of the DNS wire format) from the target's network.

    server: the numeric address of one name server; empty for those of the target's resolv.conf.
    tcp: the program asks over TCP.
    """

    wire: bytes
    server: str = ""
    tcp: bool = False


@message(NAME)
class Answer:
    """The name server's answer as it came, with the query's number."""

    wire: bytes
