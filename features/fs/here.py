"""What the default lists depend on, looked up on this machine: where the program and its code are.

The environment is pymirror's own: that a folder named in the target's variables exists here too
says nothing. Of a path with links both spellings count, as runtimes open either.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence

from pymirror.features.fs.defaults import Here

CODE = frozenset(
    ".py .pyw .pyz .js .mjs .cjs .jsx .ts .mts .cts .tsx .rb .pl .php .sh .bash .lua .go".split()
    + ".jar .war .class".split()
)
"""Names that end so are programs to an interpreter: what lies beside them is code or read by it."""
VARIABLES = (
    "PYTHONPATH NODE_PATH CLASSPATH RUBYLIB PERL5LIB GOPATH VIRTUAL_ENV JAVA_HOME LD_LIBRARY_PATH".split()
)


def here(argv: Sequence[str], environ: Mapping[str, str], session: str = "") -> Here:
    """As it is now in this process. argv: the program's; empty when there is none. session: its folder."""
    directory = os.getcwd()
    home = os.path.expanduser("~")
    found = shutil.which(argv[0]) if argv else None
    home = home.rstrip("/") if os.path.isabs(home) else ""
    named = (*arguments(argv), *repository(directory, home), *variables(environ), *searched(environ))
    return Here(
        home=home,
        temp=tempfile.gettempdir(),
        directory=directory,
        programs=programs(os.path.abspath(found)) if found else (),
        named=list(dict.fromkeys((path, words) for tree, words in named for path in both(tree))),
        session=session,
    )


def both(path: str) -> list[str]:
    """The absolute path, with and without links resolved."""
    return list(dict.fromkeys((os.path.abspath(path), os.path.realpath(path))))


def programs(path: str) -> list[str]:
    """The program's file, and the installation it belongs to, with and without links resolved."""
    trees = []
    for file in both(path):
        folder = os.path.dirname(file)
        trees.append(file)
        if os.path.basename(folder) in ("bin", "sbin") and os.path.dirname(folder) != "/":
            trees.append(os.path.dirname(folder))
    return trees


def arguments(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(folder, words) for each word of the command line that is a file of code on this machine."""
    for word in argv:
        if os.path.splitext(word)[1] in CODE and os.path.isfile(word):
            for file in both(word):
                yield os.path.dirname(file), f"the folder of {word}"


def repository(directory: str, home: str) -> Iterator[tuple[str, str]]:
    """(top, words) of the git work tree that `directory` is in. A home under git is no project."""
    top = directory
    while top not in ("/", home):
        if os.path.exists(f"{top}/.git"):
            yield top, f"git work tree {top}"
            return
        top = os.path.dirname(top)


def variables(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(entry, words) of the variables that tell runtimes where code is, if it exists here."""
    for name in VARIABLES:
        for entry in environ.get(name, "").split(":"):
            path = entry.removesuffix("/*")  # CLASSPATH: every archive in the folder
            if path and os.path.exists(path):
                yield path, f"{name} {entry}"


def searched(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(folder, words) of PATH's folders that exist here, and the virtual environments they are of."""
    for folder in environ.get("PATH", "").split(":"):
        if not os.path.isabs(folder) or not os.path.isdir(folder):
            continue
        yield folder, f"PATH {folder}"
        top, name = os.path.split(folder.rstrip("/"))
        if name == "bin" and os.path.exists(f"{top}/pyvenv.cfg"):
            yield top, f"PATH {folder}"
