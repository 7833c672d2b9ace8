"""The agent's side of files: every name is one openat2 that crosses no link and leaves no root.

Links are resolved here, name by name, so `..` and absolute links end in the target's root however
they are laid. Nothing but regular files and directories is ever opened for its content: opening a
FIFO or a device has effects. A calm walk asks the kernel for what it has in memory only and raises
`NotCalm` where it would have to wait: it may run in the event loop.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from attrs import frozen

from pymirror.core.below import BENEATH, CACHED, NO_MAGICLINKS, NO_SYMLINKS, open_below
from pymirror.features.fs.attr import Attr, Entry
from pymirror.features.fs.marks import UNTOLD, marks

_RESOLVE = NO_MAGICLINKS | NO_SYMLINKS | BENEATH
_NO_CALM = (errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL)
"""What the kernel says of RESOLVE_CACHED and RWF_NOWAIT: would wait; this file system, this kernel cannot."""
MOST_LINKS = 40  # as the kernel
READ_CALMLY = 128 << 10
"""Bytes the loop copies out of the page cache itself; more is a thread's work."""


class NotCalm(Exception):
    """The kernel would have to wait for a disk or another machine: ask again in a thread."""


class WalkFailed(OSError):
    """The walk ended early. missing: the path that could not be reached."""

    def __init__(self, code: int, missing: bytes) -> None:
        super().__init__(code, os.strerror(code))
        self.missing = missing


def open_name(folder: int, name: bytes, calm: bool = False) -> int:
    """Open (O_PATH) one name in the directory `folder` is open on; a link itself, never what it names.

    OSError; NotCalm.
    """
    try:
        return open_below(folder, name, os.O_PATH | os.O_NOFOLLOW, _RESOLVE | (CACHED if calm else 0))
    except OSError as error:
        if calm and error.errno in _NO_CALM:
            raise NotCalm from None
        raise


@frozen
class View:
    """How the tree is seen. watch(descriptor, path, attributes): True if changes of it will be told.

    apart(path): something is mounted there, so the folder's watch tells nothing of what is shown.
    quick(path): what is mounted there answers without asking another machine.
    in_memory(descriptor, device): its file system has no disk, so reading never waits for one.
    crossed(device): a mount was entered, and device numbers of what was unmounted are used again.
    """

    watch: Callable[[int, bytes, Attr], bool]
    apart: Callable[[bytes], bool] = lambda path: False
    quick: Callable[[bytes], bool] = lambda path: True
    in_memory: Callable[[int, int], bool] = lambda fd, device: False
    crossed: Callable[[int], None] = lambda device: None
    calm: bool = False


class Spot:
    """A place the walk reached: descriptor (O_PATH), path without links, attributes, link target."""

    __slots__ = ("attr", "fd", "link", "path", "watched")
    attr: Attr
    watched: bool

    def __init__(self, fd: int, path: bytes, view: View, folder: Spot | None = None) -> None:
        self.fd, self.path, self.link = fd, path, b""
        self.attr = attr = Attr.of(os.fstat(fd))
        # Its folder's watch tells what happens to a name and to a file that has no other name.
        self.watched = bool(folder and folder.watched and not attr.is_dir and attr.nlink == 1)
        if folder and (attr.dev != folder.attr.dev or view.apart(path)):
            self.watched = False
            view.crossed(attr.dev)
        if not self.watched and view.watch(fd, path, attr):
            # Looked at again now that changes are told: what happened in between is not lost.
            self.watched, self.attr = True, Attr.of(os.fstat(fd))
        if attr.is_link:
            self.link = os.readlink(b"", dir_fd=fd)

    def watch_itself(self, view: View) -> None:
        """Have changes told also through names it may get later, which its folder is not told of."""
        self.watched = self.watched and view.watch(self.fd, self.path, self.attr)

    def extended(self) -> int:
        """Which extended attributes it has; asked for where changes are told."""
        return which(self.fd) if self.watched else UNTOLD

    def give(self) -> int:
        """The descriptor, the caller's from now on."""
        given, self.fd = self.fd, -1
        return given


class Walk:
    """A walk below `root`, or below `base`, a descriptor of the watched folder `at`.

    The descriptors of the way stay open until `close`, `root` and `base` are the caller's.
    """

    def __init__(self, root: int, view: View, base: int = -1, at: bytes = b"/") -> None:
        self._view = view
        self.spots: list[Spot] = []  # every place seen, in order; not a base that was known
        if base < 0:
            _stay_calm(view, b"/")
            self.spots.append(Spot(os.dup(root), b"/", view))
        self.start = _known_folder(base, at) if base >= 0 else self.spots[0]
        self._here = [self.start]  # the present way down, for `..`

    def to(self, path: bytes, follow: bool) -> Spot:
        """Go to `path` from where the walk began. WalkFailed, with every place seen in `spots`; NotCalm.

        LeftBase: it leads out of the base it began at, so it must begin at the root.
        """
        todo = [name for name in path.split(b"/") if name and name != b"."][::-1]
        must_be_dir = path.endswith((b"/", b"/."))
        links = 0
        while todo:
            name = todo.pop()
            if name == b"..":
                self._up()
                continue
            spot = self._down(name)
            if spot.attr.is_link and (todo or follow or must_be_dir):
                links += 1
                if links > MOST_LINKS:
                    raise WalkFailed(errno.ELOOP, spot.path)
                if spot.link.startswith(b"/"):
                    self._top()
                todo += [n for n in spot.link.split(b"/") if n and n != b"."][::-1]
                continue
            if todo and not spot.attr.is_dir:
                raise WalkFailed(errno.ENOTDIR, spot.path)
            self._here.append(spot)
        last = self._here[-1]
        if must_be_dir and not last.attr.is_dir:
            raise WalkFailed(errno.ENOTDIR, last.path)
        return last

    def _up(self) -> None:
        if len(self._here) > 1:
            self._here.pop()
        elif self._here[0].path != b"/":
            raise LeftBase

    def _top(self) -> None:
        if self._here[0].path != b"/":
            raise LeftBase
        del self._here[1:]

    def _down(self, name: bytes) -> Spot:
        folder = self._here[-1]
        path = folder.path.rstrip(b"/") + b"/" + name
        try:
            fd = open_name(folder.fd, name, self._view.calm)
        except OSError as error:
            raise WalkFailed(error.errno or errno.EIO, path) from error
        try:
            if self._view.apart(path):
                _stay_calm(self._view, path)
            spot = Spot(fd, path, self._view, folder)
        except BaseException as error:
            os.close(fd)
            if isinstance(error, OSError):
                raise WalkFailed(error.errno or errno.EIO, path) from error
            raise
        self.spots.append(spot)
        return spot

    def close(self) -> None:
        for spot in self.spots:
            if spot.fd >= 0:
                os.close(spot.fd)


class LeftBase(Exception):
    """`..` or an absolute link leads out of the folder the walk began at."""


def _stay_calm(view: View, path: bytes) -> None:
    if view.calm and not view.quick(path):
        raise NotCalm


def _known_folder(fd: int, path: bytes) -> Spot:
    """A spot for a folder that is watched already: its attributes are only compared by device."""
    spot = Spot.__new__(Spot)
    spot.fd, spot.path, spot.link, spot.watched = fd, path, b"", True
    spot.attr = Attr.of(os.fstat(fd))
    return spot


@contextmanager
def walking(root: int, view: View, base: int = -1, at: bytes = b"/") -> Iterator[Walk]:
    """A walk whose descriptors are closed at the end."""
    walk = Walk(root, view, base, at)
    try:
        yield walk
    finally:
        walk.close()


def reopen(spot: Spot) -> int:
    """A descriptor for reading what `spot` is on; only regular files and directories. OSError."""
    kind = stat.S_IFMT(spot.attr.mode)
    if kind not in (stat.S_IFREG, stat.S_IFDIR):
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
    return os.open(f"/proc/self/fd/{spot.fd}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)


def entries(folder: int, at: Spot, view: View) -> list[Entry]:
    """Everything in an open directory, in the directory's order. OSError.

    Folders in it are watched themselves: what happens inside changes their times, and only they
    are told; so are files with further names and what is mounted there. What vanishes meanwhile is
    left out, as readdir and stat one after the other would. What refuses a look, and a mount whose
    server would have to be asked, is only named: who wants to know more asks for it alone.
    """
    found = []
    with os.scandir(folder) as names:
        for item in names:
            name = os.fsencode(item.name)
            path = at.path.rstrip(b"/") + b"/" + name
            try:
                far = view.apart(path) and not view.quick(path)
                found.append(_named(item, name) if far else _entry(folder, at, name, path, view))
            except FileNotFoundError:
                continue
            except OSError:
                found.append(_named(item, name))
    return found


def _named(item: os.DirEntry[str], name: bytes) -> Entry:
    """An entry as its folder tells of it. Type 0 where that is another than these three, or not told."""
    try:
        kinds = (
            stat.S_IFDIR * item.is_dir(follow_symlinks=False),
            stat.S_IFLNK * item.is_symlink(),
            stat.S_IFREG * item.is_file(follow_symlinks=False),
        )
    except OSError:
        kinds = (0, 0, 0)
    return name, Attr.bare(max(kinds), item.inode()), b"", False, UNTOLD


def _entry(folder: int, at: Spot, name: bytes, path: bytes, view: View) -> Entry:
    attr = Attr.of(os.stat(name, dir_fd=folder, follow_symlinks=False))
    if not attr.is_dir and attr.nlink == 1 and attr.dev == at.attr.dev and not view.apart(path):
        link = os.readlink(name, dir_fd=folder) if attr.is_link else b""
        extended = which(folder, name) if at.watched else UNTOLD
        return name, attr, link, at.watched, extended
    fd = open_name(folder, name)
    try:
        spot = Spot(fd, path, view, at)
        return name, spot.attr, spot.link, spot.watched, spot.extended()
    finally:
        os.close(fd)


def which(fd: int, name: bytes = b"") -> int:
    """Which extended attributes a file has, or one in a folder; it takes 2 us.

    So nobody asks where there are none. A calm walk looks too: they are in the inode, but for those that
    found no room there.
    """
    try:
        names = os.listxattr(
            b"/proc/self/fd/%d/%s" % (fd, name) if name else fd_path(fd), follow_symlinks=not name
        )
    except OSError:
        return UNTOLD
    return marks(map(os.fsencode, names))


def fd_path(fd: int) -> bytes:
    """A path of what `fd` is on, for calls that take no descriptor of O_PATH."""
    return b"/proc/self/fd/%d" % fd


def xattr(fd: int, name: bytes) -> bytes:
    """An extended attribute of what `fd` is on. OSError."""
    return os.getxattr(fd_path(fd), name)


def xattrs(fd: int) -> bytes:
    """The names of all, as listxattr(2) has them. OSError."""
    return b"".join(os.fsencode(name) + b"\0" for name in os.listxattr(fd_path(fd)))


def read(fd: int, offset: int, size: int) -> bytes:
    """Up to `size` bytes; less only at the end of the file. OSError."""
    parts = []
    while size:
        part = os.pread(fd, size, offset)
        if not part:
            break
        parts.append(part)
        offset += len(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def read_calmly(fd: int, offset: int, size: int, attr: Attr, view: View) -> bytes:
    """What is in memory of the file that `fd` is open on. NotCalm when that is not all of it; OSError."""
    wanted = max(0, min(size, attr.size - offset))
    if wanted > READ_CALMLY or attr.size == 0:  # files of pseudo file systems say that they are empty
        raise NotCalm
    buffer = bytearray(wanted)
    flags = 0 if view.in_memory(fd, attr.dev) else os.RWF_NOWAIT  # which tmpfs does not know
    try:
        got = os.preadv(fd, [buffer], offset, flags) if wanted else 0
    except OSError as error:
        if error.errno in _NO_CALM:
            raise NotCalm from None
        raise
    if got < wanted:
        raise NotCalm
    return bytes(buffer)
