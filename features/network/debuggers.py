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
    """Those that stay local."""
    kinds = _variable("DETECT_DEBUGGER_PORT", environ)
    line = " ".join(argv)
    chosen = [_PATTERNS[kind] for kind in re.split(r"[,;\s]+", kinds) if kind in _PATTERNS]
    found = {int(port) for pattern in chosen for port in re.findall(pattern, line)}
    for part in re.split(r"[,;\s]+", _variable("IGNORE_DEBUGGER_PORTS", environ)):
        first, _, last = part.partition("-")
        if first.isdigit() and (last or first).isdigit():
            found |= set(range(int(first), min(int(last or first), 65535) + 1))
    return frozenset(found)


def _variable(name: str, environ: Mapping[str, str]) -> str:
    return environ.get(f"PYMIRROR_{name}") or environ.get(f"MIRRORD_{name}") or ""
