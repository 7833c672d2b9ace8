"""Which text may be a host's name. Pure."""

from __future__ import annotations

import re

_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}")


def is_name(text: str) -> bool:
    """Something a name server could know, without a final dot: no last part is a number, or an address could
    be meant."""
    labels = text.split(".")
    return len(text) < 254 and not labels[-1].isdigit() and all(map(_LABEL.fullmatch, labels))
