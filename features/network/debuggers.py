"""Ports of debuggers, found on the program's command line: a debugger talks to this machine. Pure.

MIRRORD_DETECT_DEBUGGER_PORT names the kinds to look for, MIRRORD_IGNORE_DEBUGGER_PORTS gives ports and
ranges (`5000-5100;6000`); both with PYMIRROR_ too (mirrord: 1.3).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_PATTERNS: Mapping[str, str] = {
    "debugpy": r"debugpy.*--(?:connect|listen|port)[ =](?:[^ ]*:)?(\d+)",
    "pydevd": r"pydevd.*--port[ =](\d+)",
    "resharper": r"--client-(?:port|address)[ =](?:[^ ]*:)?(\d+)",
    "javaagent": r"-(?:agentlib:jdwp|Xrunjdwp:?)[^ ]*address=(?:[^ ,]*:)?(\d+)",
    "nodeinspector": r"--inspect(?:-brk|-wait)?(?:-port)?=(?:[^ ]*:)?(\d+)",
}


def ports(argv: Sequence[str], environ: Mapping[str, str]) -> frozenset[int]:
    """Those that stay local. ValueError for a variable that cannot be used."""
    line = " ".join(argv)
    chosen = [_PATTERNS[kind] for kind in kinds(_variable("DETECT_DEBUGGER_PORT", environ))]
    found = {int(port) for pattern in chosen for port in re.findall(pattern, line)}
    for some in ranges(_variable("IGNORE_DEBUGGER_PORTS", environ)):
        found |= set(some)
    return frozenset(found)


def kinds(text: str) -> list[str]:
    """The kinds a variable names. ValueError."""
    named = _parts(text)
    for kind in named:
        if kind not in _PATTERNS:
            raise ValueError(f"{kind!r} is no debugger known here: {', '.join(_PATTERNS)}")
    return named


def ranges(text: str) -> list[range]:
    """The ports and ranges of ports in a variable. ValueError."""
    found = []
    for part in _parts(text):
        first, dash, last = part.partition("-")
        last = last if dash else first
        if not (first.isascii() and first.isdigit() and last.isascii() and last.isdigit()):
            raise ValueError(f"{part!r} is no port or range of ports, as 5000 or 5000-5100")
        if not 0 < int(first) <= int(last) <= 65535:
            raise ValueError(f"{part!r} is no range of ports from 1 to 65535")
        found.append(range(int(first), int(last) + 1))
    return found


def _parts(text: str) -> list[str]:
    return [part for part in re.split(r"[,;\s]+", text) if part]


def _variable(name: str, environ: Mapping[str, str]) -> str:
    return environ.get(f"PYMIRROR_{name}") or environ.get(f"MIRRORD_{name}") or ""
