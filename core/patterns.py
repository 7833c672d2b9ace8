"""Regular expressions that users write, searched with a limit of time: some would take for ever.

The one importer of `regex`, which reads what `re` reads and, unlike it, can give up; its import
costs some milliseconds and waits until there is a pattern. What pymirror writes stays with `re`.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pymirror.core.errors import ConfigError

if TYPE_CHECKING:
    import regex

    Match = regex.Match[str]

LIMIT = 0.05
"""Seconds of computing for one search, in which nothing else runs. An ordinary one takes microseconds."""


class TooSlow(OSError):
    """A search was given up. Where nobody knows better, the program's call fails with EIO.

    strerror: the key, the pattern and what was wrong, for the verdict's reason.
    """

    strerror: str

    def __init__(self, key: str, pattern: str, limit: float = LIMIT) -> None:
        super().__init__(errno.EIO, f"{key} {pattern}: searching this pattern took more than {limit} s")


class Pattern:
    """One pattern of the user's: `text` as it is written, and the `key` it is written under."""

    def __init__(self, key: str, text: str, ignore_case: bool = False, limit: float = LIMIT) -> None:
        """ConfigError where `regex` cannot read what `re` could."""
        import regex

        self.key, self.text, self._limit = key, text, limit
        try:
            self._made = regex.compile(text, regex.IGNORECASE if ignore_case else 0)
        except regex.error as error:
            raise ConfigError(f"feature.{key}", f"{text!r} is not a regular expression: {error}") from error

    def search(self, text: str) -> Match | None:
        """The first place in `text` that matches. TooSlow."""
        try:
            return self._made.search(text, timeout=self._limit)
        except TimeoutError:
            raise TooSlow(self.key, self.text, self._limit) from None
