"""What the halves of `fs` say to each other. Paths are absolute in the target's root, as bytes."""

from __future__ import annotations

from attrs import frozen

from pymirror.core.message import message

MOST_INLINE = 64 << 10
MOST_READ = 1 << 20
MOST_WRITE = 1 << 20
MOST_VALUE = 64 << 10
"""Of an extended attribute: the kernel's own limit (XATTR_SIZE_MAX); of all names the same."""
MOST_ENTRIES = 20_000
KEEP = -1
"""In place of a number: it stays as it is."""
NOW = -2
"""In place of a time: the target's clock."""
EXCHANGE = 2
"""RENAME_EXCHANGE of renameat2(2)."""
ASIDE = b"/\0"
"""No path: where tables put one of two names that are exchanged."""


@frozen
class Step:
    """One name on the way to a file. path: with every link before it resolved. attr: Attr, packed.

    link: a link's target, else empty. watched: the agent will push what changes here. extended: as
    marks.py has it, told of what is watched.
    """

    path: bytes
    attr: bytes
    link: bytes = b""
    watched: bool = False
    extended: int = 0


@message("fs")
class Fetch:
    """Walk from the folder `base` to `path` below it and say what is on the way.

    base: without links, known to the layer and watched, so that its own steps need not be told again.
    follow: a final link too. inline: bytes of content wanted.
    """

    base: bytes
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
    """turn: as of `Done`."""

    attr: bytes
    turn: int = 0


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
    """The entries of a directory, or with `cursor` those that `Listed` left out. ESTALE: begin again."""

    path: bytes
    cursor: int = 0


@message("fs")
class Listed:
    """entries: `count` of them, as attr.py packs them. cursor: where the rest is asked for; 0: no rest."""

    watched: bool
    entries: bytes
    count: int
    cursor: int


@message("fs")
class GetXattr:
    """An extended attribute of `path`, which is not followed, or of the held file `handle`. OSError."""

    path: bytes
    handle: int
    name: bytes


@message("fs")
class ListXattr:
    """The names of all; as `GetXattr`."""

    path: bytes
    handle: int


@message("fs")
class Xattr:
    """value: whole; of `ListXattr` the names, each ended by NUL, as listxattr(2) has them."""

    value: bytes


@message("fs")
class StatFs:
    path: bytes


@message("fs")
class StatFsAnswer:
    """blocks, bfree, bavail, files, ffree, bsize, namelen, frsize: as statvfs(3)."""

    numbers: list[int]


@message("fs")
class AskPlace:
    """Who reads in the target, and what is mounted there from elsewhere?"""


@message("fs")
class Place:
    """volumes: mount points; none where the agent may not see them. The rest: see access.Identity, of who
    reads and of who writes. cannot_write: why nobody can write as the target does; else empty."""

    volumes: list[bytes]
    uid: int
    groups: list[int]
    overrides: bool
    writer: int
    writer_groups: list[int]
    writer_overrides: bool
    cannot_write: str = ""


@message("fs")
class Changed:
    """Something happened to these paths; below: these lead elsewhere now, with whatever is below them.

    all: events were lost, nothing that was handed out can be relied on. turn: counts them; `Done` has the
    last one's that is older than what it says. An event from the agent.
    """

    paths: list[bytes]
    below: list[bytes]
    all: bool = False
    turn: int = 0


# Changes. Each is carried out as the target's first process would (owner.py) --------------------


@message("fs")
class Done:
    """What a change left: `steps` as they are after `Changed` number `turn`; the names `gone` lead nowhere.

    handle: of what was opened. empty: the folder that was made has nothing in it. lasting: what it holds is
    in the target's kernel once it is written, so that its close says nothing more; else `Sync` asks.
    """

    steps: list[Step]
    gone: list[bytes]
    turn: int
    handle: int = 0
    empty: bool = False
    lasting: bool = True


@message("fs")
class Make:
    """A new name. mode: with the kind of file, as mknod(2). link: a symbolic link's target."""

    path: bytes
    mode: int
    rdev: int = 0
    link: bytes = b""


@message("fs")
class Link:
    """A further name for `old`, which is not followed, or for the open file `handle`."""

    old: bytes
    new: bytes
    handle: int = 0


@message("fs")
class Remove:
    """folder: as rmdir(2), else as unlink(2)."""

    path: bytes
    folder: bool


@message("fs")
class Rename:
    """flags: as renameat2(2)."""

    old: bytes
    new: bytes
    flags: int = 0


@message("fs")
class SetAttr:
    """Attributes of `path`, which is not followed, or of the open file `handle`; times in nanoseconds."""

    path: bytes
    handle: int = 0
    mode: int = KEEP
    uid: int = KEEP
    gid: int = KEEP
    size: int = KEEP
    atime: int = KEEP
    mtime: int = KEEP


@message("fs")
class SetXattr:
    """As setxattr(2), of `path`, which is not followed, or of the held file `handle`."""

    path: bytes
    handle: int
    name: bytes
    value: bytes
    flags: int = 0


@message("fs")
class RemoveXattr:
    """As removexattr(2)."""

    path: bytes
    handle: int
    name: bytes


@message("fs")
class Open:
    """Open for writing, and make if `flags` say so; a link is not followed. flags: as open(2); of O_TMPFILE,
    `path` is the folder's. Held until `Release`."""

    path: bytes
    flags: int
    mode: int = 0


@message("fs")
class Write:
    """append: at the file's end, wherever that is by then."""

    handle: int
    offset: int
    data: bytes
    append: bool = False


@message("fs")
class Sync:
    """As fsync(2), fdatasync(2), or what close(2) says. folder: of that directory."""

    handle: int
    data: bool = False
    close: bool = False
    folder: bytes = b""


@message("fs")
class Allocate:
    """As fallocate(2)."""

    handle: int
    mode: int
    offset: int
    size: int


@message("fs")
class Seek:
    """As lseek(2) with SEEK_DATA or SEEK_HOLE."""

    handle: int
    offset: int
    whence: int


@message("fs")
class Sought:
    offset: int


# What inotify in the program is told ---------------------------------------------------------------


@message("fs")
class Watch:
    """Tell what happens to what `path` leads to, links not followed, as `Happened` of `number`. OSError."""

    path: bytes
    number: int


@message("fs")
class Watched:
    """number: the one that tells it; an older one where that file has one. folder: it is one."""

    number: int
    folder: bool


@message("fs")
class Unwatch:
    """Nobody wants to know any more. An event."""

    numbers: list[int]


@frozen
class Event:
    """One of inotify(7), as it says: name is empty where it is about the watched file itself."""

    number: int
    mask: int
    cookie: int
    name: bytes


@message("fs")
class Happened:
    """In order; what it says of caches is in a `Changed` before. lost: some are missing. An event."""

    events: list[Event]
    lost: bool = False
