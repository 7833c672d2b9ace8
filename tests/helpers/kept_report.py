"""A report that keeps what it is told."""

from __future__ import annotations

from collections.abc import Sequence

from pymirror.core.call import Call, Verdict


class Kept:
    """`core.session.Report`; words: in order."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def step(self, text: str) -> None:
        self.words.append(text)

    info = warn = step

    def ready(self, lines: Sequence[str]) -> None:
        self.words.extend(lines)

    def trace(self, call: Call, verdict: Verdict) -> None:
        self.words.append(f"{call} {verdict}")
