"""Words while starting, on stderr only: spinner, plain lines, JSON lines or silence."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from pymirror.core.call import Bind, Call, Errno, OtherAddress, OtherPath, Text, Untouched, Verdict
from pymirror.core.errors import UserError

MODES = ("std", "standard", "dumb", "simple", "json", "off")


def make_report(mode: str | None, stream: TextIO | None = None) -> Plain:
    """The report for a mode; without one, a spinner on a terminal and plain lines elsewhere."""
    out = stream or sys.stderr
    if mode is not None and mode not in MODES:
        raise UserError(f"progress mode {mode!r} is not known", f"use one of {', '.join(MODES)}")
    if mode == "off":
        return Silent(out)
    if mode == "json":
        return Json(out)
    if mode in ("dumb", "simple") or not out.isatty():
        return Plain(out)
    return Spinner(out)


class Plain:
    """One line a step."""

    def __init__(self, out: TextIO) -> None:
        self.out = out

    def _line(self, text: str) -> None:
        # A reader that went away (a closed terminal, `2>&1 | head`) must not become the program's error.
        with contextlib.suppress(OSError):
            print(text, file=self.out, flush=True)

    def step(self, text: str) -> None:
        self._line(f"pymirror: {text}")

    def info(self, text: str) -> None:
        self._line(f"pymirror:   {text}")

    def warn(self, text: str) -> None:
        self._line(f"pymirror: warning: {text}")

    def ready(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._line(f"pymirror: {line}")

    def trace(self, call: Call, verdict: Verdict) -> None:
        self._line(f"trace: {words(call, verdict)}")

    def close(self) -> None:
        """Give the terminal back; safe to call again."""


class Silent(Plain):
    """Only warnings and what was asked for."""

    def step(self, text: str) -> None:
        pass

    info = step

    def ready(self, lines: Sequence[str]) -> None:
        pass


class Json(Plain):
    """One object a line, for editors and scripts."""

    def _say(self, kind: str, **fields: Any) -> None:
        self._line(json.dumps({"type": kind, **fields}))

    def step(self, text: str) -> None:
        self._say("step", text=text)

    def info(self, text: str) -> None:
        self._say("info", text=text)

    def warn(self, text: str) -> None:
        self._say("warning", text=text)

    def ready(self, lines: Sequence[str]) -> None:
        self._say("ready", summary=list(lines))

    def trace(self, call: Call, verdict: Verdict) -> None:
        self._say(
            "trace",
            call=call.system or call.name,
            path=subject(call),
            write=call.write,
            verdict=kind_of(verdict),
            reason=verdict.reason,
        )


class Spinner(Plain):
    """A spinner with the present step; finished steps stay as lines."""

    def __init__(self, out: TextIO) -> None:
        from rich.console import Console
        from rich.markup import escape

        super().__init__(out)
        self._escape = escape
        self._console = Console(file=out, highlight=False)
        self._status: Any = None
        self._text = ""

    def step(self, text: str) -> None:
        self._done()
        self._text = text
        self._status = self._console.status(self._escape(text))
        self._status.start()

    def _done(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None
            self._console.print(f"[green]✓[/green] {self._escape(self._text)}")

    def info(self, text: str) -> None:
        self._console.print(f"  {text}", markup=False)

    def warn(self, text: str) -> None:
        self._console.print("[yellow]![/yellow] ", end="")
        self._console.print(text, markup=False)

    def ready(self, lines: Sequence[str]) -> None:
        self._done()
        for line in lines:
            self._console.print(f"  {line}", markup=False)

    def close(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


def kind_of(verdict: Verdict) -> str:
    """What happens, in a word or two."""
    if isinstance(verdict, (OtherPath, OtherAddress, Bind)):
        return "this machine" if isinstance(verdict, OtherAddress) and verdict.here else "target"
    if isinstance(verdict, Untouched) and verdict.there:
        return "target"
    if isinstance(verdict, Errno):
        import errno

        return errno.errorcode.get(verdict.code, str(verdict.code))
    return "answered" if isinstance(verdict, Text) else "this machine"


def words(call: Call, verdict: Verdict) -> str:
    """A decision in one line."""
    name, wanted = call.system or call.name, " (to write)" if call.write else ""
    return f"{name} {subject(call)}{wanted} -> {kind_of(verdict)} ({verdict.reason})".replace("  ", " ")


def subject(call: Call) -> str:
    """What a call is about: a path, or where a socket is to go."""
    if call.address is not None:
        return f"{call.transport} {call.address}"
    name = call.path.decode(errors="backslashreplace")
    if not call.transport:
        return name
    return f"{call.transport} " + ("@" + name[1:] if name.startswith("\0") else name)
