"""The default lists (mirrord: 5.3, Linux), built for one user, directory and program. Pure.

Each pattern carries the words its verdict's reason shows. The lists are the scar tissue of many
runtimes that broke when their own files came from somewhere else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from attrs import frozen

TREES = tuple(
    "/proc /sys /lib /etc /usr /home /bin /sbin /dev /opt /tmp /var/tmp /var/db/timezone/zoneinfo /snap /run "
    "/selinux /nix /home/iojs /home/runner".split()
)
SUFFIXES = ".so .sh .rb .d .pyc .py .jar .class .js .pth .plist .pdb .dll".split()
NAMES = "/package.json /.yarnrc /.yarnrc.yml /.yarnrc.json /.tool-versions".split()
NOT_FOUND = (".config/gcloud", ".kube", ".azure")
REMOTE_FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/hostname")
REMOTE_TREES = ("/etc/ssl/certs",)


@frozen
class Here:
    """What the lists depend on. home, temp, directory: absolute, or empty. programs: installation trees
    of the program's file (its folder's parent when that is a `bin`, with and without links resolved),
    and the file itself. named: (tree, words), what the command line and the environment say is code.
    session: the session's private folder, empty where there is none."""

    home: str = ""
    temp: str = "/tmp"
    directory: str = ""
    programs: Sequence[str] = ()
    named: Sequence[tuple[str, str]] = ()
    session: str = ""


def tree(path: str) -> str:
    """A pattern for a path and everything below it."""
    return f"^{re.escape(path.rstrip('/'))}(/|$)"


def not_found(here: Here) -> list[tuple[str, str]]:
    """(pattern, words): credentials of this machine that a program must not find by accident."""
    if not here.home:
        return []
    return [(f"^{re.escape(f'{here.home}/{name}')}", f"$HOME/{name}") for name in NOT_FOUND]


def read_only() -> list[tuple[str, str]]:
    """(pattern, words): files that say where the program runs, and whom it trusts there."""
    exact = [(f"^{re.escape(path)}$", path) for path in REMOTE_FILES]
    return exact + [(tree(path), f"tree {path}") for path in REMOTE_TREES]


def local(here: Here) -> list[tuple[str, str]]:
    """(pattern, words): the program's own runtime, its code and this machine's system."""
    endings = "|".join(re.escape(s[1:]) for s in SUFFIXES)
    return [
        (rf"^.+\.({endings})$", "suffix of code"),
        (r"^.+\.so(\.\d+)+$", "suffix of a library's version"),
        (r"^.*venv\.cfg$", "venv.cfg"),
        (r"^.*jvm\.cfg$", "jvm.cfg"),
        *((f"^.*{re.escape(name)}$", name) for name in NAMES),
        *((tree(path), f"tree {path}") for path in TREES),
        (r"\.asdf/", ".asdf"),
        (r"/node_modules(/|$)", "node_modules"),
        (r"clr-.*-pipe-", "dotnet debug pipe"),
        (r"^/Program Files", "/Program Files"),
        (r"^/$", "the root itself"),
        *_of(here),
    ]


def _of(here: Here) -> list[tuple[str, str]]:
    """The part of `local` that differs from one user and program to the next."""
    found = []
    if here.temp:
        found.append((f"^{re.escape(here.temp.rstrip('/'))}", "the temporary folder"))
    own = [
        (here.directory, "the current directory"),
        *((path, f"the program's own tree {path}") for path in here.programs),
        *((path, words) for path, words in here.named if not _is_listed(path)),
    ]
    own = [(path, words) for path, words in own if path not in ("", "/")]
    found += [(tree(path), words) for path, words in own]
    # Runtimes look at every folder on the way to their own files (Node's realpath): those must be there.
    for path in ancestors((here.home, here.temp, *(path for path, _ in own))):
        found.append((f"^{re.escape(path)}$", "a folder above the program's own files"))
    if here.home and here.home != "/":
        found.append((rf"^{re.escape(here.home)}/\.", "a dot file in $HOME"))
    return found


def _is_listed(path: str) -> bool:
    """Below one of TREES: a further pattern would only cost time (most of PATH's folders)."""
    return any(f"{path}/".startswith(f"{tree}/") for tree in TREES)


def ancestors(paths: Sequence[str]) -> list[str]:
    """Every folder above `paths`, the root left out, each once."""
    found: dict[str, None] = {}
    for path in paths:
        while path.count("/") > 1:
            path = path.rpartition("/")[0]
            found[path] = None
    return list(found)
