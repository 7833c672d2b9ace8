"""What the halves of `fs` say to each other. Paths are absolute in the target's root, as bytes."""

from __future__ import annotations

from attrs import frozen

from pymirror.core.message import message

MOST_INLINE = 64 << 10
MOST_READ = 1 << 20
MOST_ENTRIES = 20_000


@frozen
class Step:
    """One name on the way to a file. path: with every link before it resolved. attr: Attr, packed.

    link: a link's target, else empty. watched: the agent will push what changes here.
    """

    path: bytes
    attr: bytes
    link: bytes = b""
    watched: bool = False


@message("fs")
class Fetch:
    """Walk to `path` and say what is on the way. follow: a final link too. inline: bytes of content wanted.

    known: directories whose steps need not be sent again.
    """

    path: bytes
    follow: bool
    inline: int = 0


@message("fs")
class Fetched:
    """errno: why the walk ended early, 0 if it did not; then the last step is the file.

    handle: the file is held open under it until `Release`; 0 if it is not. data: its beginning.
    """

    steps: list[Step]
    errno: int = 0
    missing: bytes = b""
    handle: int = 0
    data: bytes = b""


@message("fs")
class Refresh:
    """The attributes of a held file, whatever its name is by now."""

    handle: int


@message("fs")
class Refreshed:
    attr: bytes


@message("fs")
class Read:
    handle: int
    offset: int
    size: int


@message("fs")
class Data:
    """Shorter than asked only at the file's end."""

    data: bytes


@message("fs")
class Release:
    """The handles are not needed any more. An event."""

    handles: list[int]


@message("fs")
class List:
    """The entries of a directory from number `start` on."""

    path: bytes
    start: int = 0


@message("fs")
class Listed:
    """entries: for each a packed Attr, the link target's and the name's length (u16 each), both texts."""

    attr: bytes
    watched: bool
    entries: bytes
    count: int
    more: bool


@message("fs")
class StatFs:
    path: bytes


@message("fs")
class StatFsAnswer:
    """blocks, bfree, bavail, files, ffree, bsize, namelen, frsize: as statvfs(3)."""

    numbers: list[int]


@message("fs")
class Changed:
    """Something happened to these paths; entries: names came or went below these directories.

    all: events were lost, nothing that was handed out can be relied on. An event from the agent.
    """

    paths: list[bytes]
    entries: list[bytes]
    all: bool = False
