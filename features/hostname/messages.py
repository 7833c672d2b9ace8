"""What the halves of `hostname` say to each other."""

from __future__ import annotations

from pymirror.core.message import message


@message("hostname")
class AskHostname:
    """Which host name does the target see?"""


@message("hostname")
class Hostname:
    """The name; empty where nothing tells it."""

    name: bytes
