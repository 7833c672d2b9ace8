"""What is wrong with a kubeconfig, in words: the official client stumbles over a misshapen one in many ways.

Only asked once the client has failed: a good file is read once, which a pipe allows.
"""

from __future__ import annotations

import os
from typing import Any

LISTS = {"clusters": "cluster", "contexts": "context", "users": "user"}
"""Each list of named entries, and the mapping an entry holds."""


def fault(paths: str) -> str:
    """The first fault of the files of a colon list, naming the file; "" when each is sound by itself."""
    for path in filter(None, paths.split(os.pathsep)):
        found = fault_of_file(os.path.expanduser(path))
        if found:
            return f"{path} {found}"
    return ""


def fault_of_file(path: str) -> str:
    """What is wrong with one file; "" when nothing is, or when it is not there."""
    import yaml

    try:
        with open(path, encoding="utf-8") as file:
            found = yaml.safe_load(file)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        return "is not text"
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        return f"is not YAML{where}: {getattr(error, 'problem', None) or error}"
    return fault_of_shape(found)


def fault_of_shape(found: Any) -> str:
    """What is wrong with a kubeconfig's content. Pure."""
    if not isinstance(found, dict):
        return "is no kubeconfig: it holds no clusters, users and contexts"
    for name, inner in LISTS.items():
        entries = found.get(name) or []
        if not isinstance(entries, list):
            return f"is no kubeconfig: {name} is not a list"
        for number, entry in enumerate(entries):
            if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
                return f"is no kubeconfig: {name}[{number}] has no name"
            if not isinstance(entry.get(inner) or {}, dict):
                return f"is no kubeconfig: {name}[{number}].{inner} is not a mapping"
    return ""
