"""What is said of the target's volumes: which are read, which are not, and how that is changed. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import attrs

from pymirror.features.fs.config import Config
from pymirror.features.fs.presets import shown
from pymirror.features.fs.rules import Decision, Place, Rules

MOST_NAMED = 4
ACCOUNT = "/run/secrets/kubernetes.io/serviceaccount"
"""Every pod has it, and programs read it as /var/run/secrets/…, which no default list keeps here."""


def of_volumes(config: Config, rules: Rules) -> list[str]:
    """Notes for the summary of a session whose target has these volumes."""
    read: list[str] = []
    mountable: list[str] = []
    others: list[str] = []
    for path in rules.volumes.points:
        decision = rules.decide(path.encode("utf-8", "surrogateescape"), False)
        if decision.reason.startswith("fs.magic auto_mount"):
            read.append(path)
        elif decision.place is Place.HERE and _by_default(decision, rules) and path != ACCOUNT:
            (others if config.auto_mount or path in rules.volumes.kept else mountable).append(path)
    notes = []
    if read:
        notes.append(f"files: volumes read from the target by feature.magic.auto_mount: {_named(read)}")
    elif config.auto_mount and rules.mode != "local":
        notes.append("files: feature.magic.auto_mount: no volume of the target is seen that it would read")
    notes += _unread(mountable, "feature.magic.auto_mount: true, or ")
    return notes + _unread(others, "")


def _by_default(decision: Decision, rules: Rules) -> bool:
    """Kept here by a list that the user has not written, in a mode in which that may surprise."""
    return rules.mode != "localwithoverrides" and " default: " in decision.reason


def _unread(paths: Sequence[str], shorter: str) -> list[str]:
    if not paths:
        return []
    patterns = json.dumps([f"^{re.escape(path)}(/|$)" for path in paths])
    return [
        f"files: mounted in the target, but read here by default: {_named(paths)}"
        f" (to read the target's: {shorter}feature.fs.read_only: {patterns})"
    ]


def _named(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - MOST_NAMED} more" if paths[MOST_NAMED:] else ""
    return ", ".join(shown(path) for path in paths[:MOST_NAMED]) + more


def told_of_volumes(config: Config, decision: Decision) -> Decision:
    """Without a cluster nobody knows the volumes: a decision that one of them would change says so."""
    by_default = " default: " in decision.reason or decision.reason == "fs.mode localwithoverrides"
    if not config.auto_mount or decision.place is Place.TARGET or not by_default:
        return decision
    words = "in a session fs.magic auto_mount comes first, where the target has a volume there"
    return attrs.evolve(decision, reason=f"{decision.reason}; {words}")
