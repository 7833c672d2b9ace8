"""The `process` runtime has no keys of its own: a process needs no choice but its number."""

from __future__ import annotations

from attrs import frozen


@frozen
class Config:
    """Nothing to configure."""
