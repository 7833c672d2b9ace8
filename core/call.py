"""Calls and verdicts: the one vocabulary between engines and features.

A `Call` is something the program asked of the system. A verdict is the answer,
always with the reason that made it; `--trace` and `pymirror explain` print it.
Verdicts are values: the engine carries them out with kernel objects, never here.
"""

from __future__ import annotations

import enum
import functools
import ipaddress

from attrs import field, frozen

PATH_CALLS = ("open", "stat", "access", "readlink", "statfs", "change", "watch", "other")
"""Calls that take a path. Relative paths never become calls: the kernel resolves them itself. `change`:
whatever makes, removes or renames what the path names, or sets its attributes; always with `write`. Of two
paths (rename, link) each is asked about; where they are of two places, the program gets EXDEV. `watch`:
inotify_add_watch; the program's own descriptor watches what the verdict leads to. `other`: a call that no
engine makes elsewhere (execve, mount and its like, new ones: `Call.system`); answered with `OtherPath`
it fails, in words (layer/other.py)."""

SOCKET_CALLS = ("connect", "sendto")
"""Calls that name where traffic goes. `sendto`: the first datagram (sendto, sendmsg, sendmmsg) that an
unconnected UDP socket sends to an address; its verdict holds for that socket and address from then on, until
`Launch.forget`."""

LISTENER_CALLS = ("bind", "listen")
"""Calls by which a TCP socket waits for connections. `bind`: to a port other than 0, of a socket that is not
bound yet. `listen`: of a socket whose `bind` was answered with `Bind`, each time; Untouched lets it go on.
The program's call waits until there is a verdict."""

CALLS = frozenset({*PATH_CALLS, *SOCKET_CALLS, *LISTENER_CALLS, "hostname"})
"""Every call an engine offers to `@intercepts`."""


class Scope(enum.Enum):
    """How long a verdict stays true, so that an engine may answer the same call by itself."""

    ONCE = "once"  # ask again next time
    CALL = "call"  # true for this call with these arguments, for the whole session
    TREE = "tree"  # true for this call on everything at and below `Verdict.tree`


_ip = functools.lru_cache(1024)(ipaddress.ip_address)
"""To parse one costs as much as the rest of a verdict."""


@frozen
class Address:
    """A numeric IP address without brackets (an IPv4-mapped one is given as IPv4), and a port."""

    host: str
    port: int

    @property
    def ip(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        return _ip(self.host)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@frozen
class Call:
    """Something the program asked of the system.

    name: one of `CALLS`. path: absolute, lexically normalised, as bytes (names need not be
    UTF-8); empty for `hostname`. write: the program wants to change what the path names.
    follow: a final symbolic link is followed. pid: the asking thread, 0 in
    `explain`. system: of `other`, the system call's name.

    Of `SOCKET_CALLS`: transport is tcp, udp, unix (stream) or unixpacket (seqpacket); address the
    destination of the first two, path that of the others as it was given (a name in the abstract
    name space begins with NUL). blocking: the program waits for the result. socket: the kernel's
    number of the socket (SO_COOKIE), the same for all who share it and never used again. device: the
    network device of this machine that the socket is bound to. again: of a connect that was asked about
    before and given up while it waited (a signal, SO_SNDTIMEO): what was begun for it goes on.

    Of `LISTENER_CALLS`: transport is tcp; address the one that the program asked for, and is shown. A call
    that a signal interrupts is made, and asked about, again. bound: of `listen`, the address that the socket
    really has. shares_port: the socket has SO_REUSEPORT.
    """

    name: str
    path: bytes = b""
    write: bool = False
    follow: bool = True
    pid: int = 0
    address: Address | None = field(default=None, kw_only=True)
    transport: str = field(default="", kw_only=True)
    blocking: bool = field(default=True, kw_only=True)
    socket: int = field(default=0, kw_only=True)
    device: str = field(default="", kw_only=True)
    again: bool = field(default=False, kw_only=True)
    bound: Address | None = field(default=None, kw_only=True)
    shares_port: bool = field(default=False, kw_only=True)
    system: str = field(default="", kw_only=True)


@frozen
class Verdict:
    """The answer to a call, and the rule that made it (`fs.local default: tree /usr`)."""

    reason: str
    scope: Scope = field(default=Scope.ONCE, kw_only=True)
    tree: bytes = field(default=b"", kw_only=True)


@frozen
class Untouched(Verdict):
    """The call goes on as if pymirror were not there. there: it is about the target's all the same."""

    there: bool = field(default=False, kw_only=True)


@frozen
class OtherPath(Verdict):
    """The call is made on `path` below the directory `root` is open on.

    root: descriptor (any kind usable as a directory descriptor) of the tree's top; it stays
    open as long as the session. path: relative to it, without a leading slash; `b"."` is the
    top itself. Links and `..` are resolved inside that tree.
    """

    root: int = field(kw_only=True)
    path: bytes = field(kw_only=True)


@frozen
class OtherAddress(Verdict):
    """The program's socket is connected (`sendto`: sends) to `relay` on this machine instead.

    relay: an address on loopback, or the name of a unix socket (path, or NUL and an abstract name).
    introduction: sent on the connection (`sendto`: as a datagram of its own) before the program's
    first byte, so that the relay knows whose it is and that it is not another user's; at most 64
    bytes, empty for none. name: what getsockname tells, None for the socket's own. getpeername,
    and the source of datagrams that come from `relay`, is always what the program asked for.
    here: `relay` is no relay but where this machine finds what the program asked for; no introduction.
    """

    relay: Address | bytes = field(kw_only=True)
    introduction: bytes = field(default=b"", kw_only=True)
    name: Address | None = field(default=None, kw_only=True)
    here: bool = field(default=False, kw_only=True)


MOST_TRIES = 16


@frozen
class Bind(Verdict):
    """The program's socket is bound to the first of `tries` that the kernel takes; else the last one's errno.

    Whichever it is, getsockname tells the address asked for. A port that the program itself has no right to
    (below 1024, most often) is as if the kernel had refused it. tries: one at least, `MOST_TRIES` at most.
    """

    tries: tuple[Address, ...] = field(kw_only=True)


@frozen
class Errno(Verdict):
    """The call fails with `code` (an `errno` number)."""

    code: int = field(kw_only=True)


@frozen
class Text(Verdict):
    """The call's answer is `value` (`hostname`: at most 64 bytes, without a NUL)."""

    value: bytes = field(kw_only=True)
