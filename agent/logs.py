"""The agent's log: one line a record, on stderr; stdout carries the ready line alone."""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime, timezone


class Lines(logging.Formatter):
    """`2026-01-31T12:00:00.000Z INFO pymirror.agent: words`; a traceback follows on its own lines."""

    def format(self, record: logging.LogRecord) -> str:
        text = f"{_moment(record)} {record.levelname} {record.name}: {record.getMessage()}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class Objects(logging.Formatter):
    """The same as one JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": _moment(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields)


_LEVELS = {
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": logging.DEBUG,
}


def level_of(words: str) -> int:
    """The level a word names; info for any other (mirrord's files may carry a Rust filter here)."""
    return _LEVELS.get(words.strip().lower(), logging.INFO)


def configure(level: int, as_json: bool) -> None:
    """Send every record of `level` and above to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Objects() if as_json else Lines())
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level)


def _moment(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, timezone.utc)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
