"""What the halves of `env` say to each other."""

from __future__ import annotations

from pymirror.core.message import message


@message("env")
class AskVariables:
    """Send the variables that these patterns select; nothing else leaves the target."""

    include: list[str]
    exclude: list[str]


@message("env")
class Variables:
    """The selected variables as the kernel keeps them: `NAME=value`, each ended by NUL; any bytes.

    kept_back: names that the default list alone kept back.
    """

    block: bytes
    kept_back: list[bytes]
