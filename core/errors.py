"""Every error pymirror raises on purpose, split by whose fault it is.

    PymirrorError            message + next step; `exit_status` for the shell
    ├── UserError            the command line, the config file, the chosen target
    │   └── ConfigError      carries the key's path in the file
    ├── PluginError          a feature, runtime or engine; carries the distribution
    ├── ClusterError         the API server, a node, admission, an image
    ├── PeerError            the other half: a bug there, or a version that does not fit
    │   └── ChannelLost      the connection is gone and will not come back
    │       └── Overslept    because this side was stopped for so long
    ├── SupportError         this kernel or container lacks a part; names the part
    └── ProgramError         the program cannot be started (126, 127 as `env` and `timeout` use them)

`OSError` is not in the tree: it crosses the wire as its errno and reaches the program as errno.
"""

from __future__ import annotations


class PymirrorError(Exception):
    """What went wrong and what to do next, in words for the person at the terminal.

    `message` is one sentence naming the place; `hint` is the next step (may be empty).
    """

    exit_status = 125  # as docker run, env and timeout: the tool itself failed, not the program

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class UserError(PymirrorError):
    """The command line, the configuration or the chosen target cannot be used."""


class ConfigError(UserError):
    """A key of the configuration; `place` is its dotted path and, where known, file and line.

    also: what else was found wrong in the same look, to be shown with it.
    """

    def __init__(self, place: str, message: str, hint: str = "") -> None:
        super().__init__(f"{place}: {message}" if place else message, hint)
        self.place = place
        self.also: tuple[ConfigError, ...] = ()

    def all(self) -> list[ConfigError]:
        """This one and the others."""
        return [self, *self.also]


class PluginError(PymirrorError):
    """A plug-in is broken, duplicated or half installed; `distribution` names its package."""

    def __init__(self, distribution: str, message: str, hint: str = "") -> None:
        super().__init__(f"{distribution}: {message}" if distribution else message, hint)
        self.distribution = distribution


class ClusterError(PymirrorError):
    """The cluster refused or failed; the message carries the cluster's own words."""


class PeerError(PymirrorError):
    """The other half answered with something other than a reply."""


class ChannelLost(PeerError):
    """The channel ended while something was still waiting on it."""


class Overslept(ChannelLost):
    """This side was stopped for so long that the other gave it up."""


class SupportError(PymirrorError):
    """A part this needs is missing from the kernel, the container or the machine."""


class ProgramError(PymirrorError):
    """The program cannot be started."""

    def __init__(self, message: str, hint: str = "", exit_status: int = 127) -> None:
        super().__init__(message, hint)
        self.exit_status = exit_status
