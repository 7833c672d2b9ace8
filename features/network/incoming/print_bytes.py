"""What clients sent, for people to read: as text, or each byte in hex. Pure.

Connections share a page: whose bytes follow is said where another one's were before. Nothing that a client
sends reaches the terminal but printable characters, tabs and line ends.
"""

from __future__ import annotations

import codecs
import re
from typing import Protocol

WIDTH = 16
"""Bytes of a line in hex."""
_ODD = re.compile(r"[^\x20-\x7e\n\t]")
_UNSEEN = re.compile(rb"[^\x20-\x7e]")


class Printer(Protocol):
    """Of one connection; what each call gives is to be printed."""

    def begin(self) -> bytes: ...

    def feed(self, data: bytes) -> bytes: ...

    def end(self, whole: bool) -> bytes:
        """Nothing more comes. whole: and the client has said so."""


class Page:
    """whose: the connection whose bytes come without a word. inside: of a line."""

    def __init__(self) -> None:
        self.whose = 0
        self.inside = False

    def said(self, words: str) -> str:
        """A line of ours."""
        line = f"\n--- {words}\n" if self.inside else f"--- {words}\n"
        self.inside = False
        return line


class _Bytes:
    """title: the connection in words."""

    def __init__(self, page: Page, number: int, title: str) -> None:
        self._page, self._number = page, number
        self._title = f"connection {number}: {title}"

    def begin(self) -> bytes:
        self._page.whose = self._number
        return self._page.said(self._title).encode()

    def feed(self, data: bytes) -> bytes:
        text = self._shown(data)
        return self._printed(text) if text else b""

    def end(self, whole: bool) -> bytes:
        rest = self._rest()
        out = self._printed(rest) if rest else b""
        self._page.whose = 0
        words = f"connection {self._number}: {'ended' if whole else 'broke off'}"
        return out + self._page.said(words).encode()

    def _printed(self, text: str) -> bytes:
        if self._page.whose != self._number:
            text = self._page.said(self._title) + text
            self._page.whose = self._number
        self._page.inside = not text.endswith("\n")
        return text.encode()

    def _shown(self, data: bytes) -> str:
        raise NotImplementedError

    def _rest(self) -> str:
        return ""


class Text(_Bytes):
    """UTF-8; a line end is one, whether with a carriage return or without."""

    def __init__(self, page: Page, number: int, title: str) -> None:
        super().__init__(page, number, title)
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._held = ""

    def _shown(self, data: bytes, final: bool = False) -> str:
        text = self._held + self._decoder.decode(data, final)
        self._held = "\r" if text.endswith("\r") and not final else ""  # what follows tells what it is
        text = text[: len(text) - len(self._held)].replace("\r\n", "\n")
        return _ODD.sub(_escaped, text)

    def _rest(self) -> str:
        return self._shown(b"", final=True)


def _escaped(found: re.Match[str]) -> str:
    """Printable ones of other scripts are not odd."""
    character = found[0]
    return character if character.isprintable() else character.encode("unicode_escape").decode()


class Hex(_Bytes):
    """Offset, bytes, and what of them is ASCII. What comes is shown at once: a line may be short."""

    def __init__(self, page: Page, number: int, title: str) -> None:
        super().__init__(page, number, title)
        self._offset = 0

    def _shown(self, data: bytes) -> str:
        lines = []
        for at in range(0, len(data), WIDTH):
            part = data[at : at + WIDTH]
            seen = _UNSEEN.sub(b".", part).decode()
            halves = f"{part[:8].hex(' '):<23}  {part[8:].hex(' '):<23}"
            lines.append(f"{self._offset:08x}  {halves}  |{seen}|\n")
            self._offset += len(part)
        return "".join(lines)
