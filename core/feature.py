"""What a plug-in author writes: two halves, and the few things they may use.

Core makes the instances, checks them at load (registry.py) and calls:
  layer   prepare(launch) → started(process) → aclose()
  agent   start(target) → drain() → aclose()
`aclose()` runs exactly once, in reverse order of start, whatever happened.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from attrs import define, field, frozen

from pymirror.core.call import Address, Call, Verdict
from pymirror.core.probe import Probe

if TYPE_CHECKING:
    import asyncio  # an author's import of this module stays light

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

ANSWER_WITHIN = 120.0
"""Seconds a request may take unless it says otherwise: bulk over a bad line needs some, and a handler that
hangs must not hold the program for ever."""

HANDLES = "__pymirror_handles__"
INTERCEPTS = "__pymirror_intercepts__"


def handles(message: type) -> Callable[[F], F]:
    """Mark a method as the receiver of `message`; what it returns is the reply.

    A coroutine may wait, and others are served meanwhile. A plain method must not: it answers in the
    event loop's own turn, which saves a task where the answer is at hand; what it returns may also be
    something to await. That goes for requests, events and streams alike.
    """

    def mark(method: F) -> F:
        setattr(method, HANDLES, message)
        return method

    return mark


def intercepts(*calls: str, pure: bool = False) -> Callable[[F], F]:
    """Mark a method as asked when the program makes one of `calls` (names in `core.call.CALLS`).

    The method takes a `Call` and returns a verdict, or None for "not mine"; it may be a coroutine, or
    return a `core.later.Later`; an OSError it raises reaches the program as errno. `pure` promises that the
    answer depends on the call's name, path and write flag alone, so that a later feature's
    verdict may be kept by the engine although this one was asked first.
    """

    def mark(method: F) -> F:
        setattr(method, INTERCEPTS, (calls, pure))
        return method

    return mark


class Stream(Protocol):
    """Bytes both ways with back-pressure and half-close.

    Coroutines await `write` and `read`. Who joins it to something that has callbacks of its own is spared
    a task for each: `attach`, then `write_now` and `read_now`, which take what there is and never wait.
    """

    @property
    def broken(self) -> Exception | None:
        """Why both halves are gone; what came before can still be read."""

    async def write(self, data: bytes) -> None:
        """Send; waits while the other side's credit is used up. ChannelLost, BrokenPipeError."""

    async def read(self, size: int = 65536) -> bytes:
        """Up to `size` bytes; b"" after the other side closed its writing half."""

    async def close_write(self) -> None:
        """End this side's writing half; reading goes on."""

    async def aclose(self) -> None:
        """End both halves now."""

    def attach(self, came: Callable[[], object], room: Callable[[], object]) -> None:
        """Call `came` when there is something to read, the end or an error too, and `room` when something
        may be written again. Not for what was there before: look once. Neither comes from within a call
        on this stream, but for an error. One that raises is logged and costs the stream."""

    def room(self) -> int:
        """How many bytes `write_now` takes."""

    def write_now(self, data: bytes | memoryview) -> int:
        """Send as much as there is room for: how much that was; if it was not all, `room` is called when more
        may be written. ChannelLost, BrokenPipeError."""

    def read_now(self, size: int = 65536) -> bytes:
        """Up to `size` bytes; b"" at the end, BlockingIOError while there are none."""

    def carry(self, fd: int, look: Callable[[], object], broken: Callable[[], object]) -> None:
        """Read that non-blocking socket into the stream as there is room, until `uncarry`. look(): there is
        none, the end was read, or there is much; broken(): it was reset. The socket stays the caller's."""

    def uncarry(self, fd: int) -> None:
        """No more of it; always before it is closed."""

    def was_reset(self, fd: int) -> bool:
        """Of a socket that is carried, whose end was read otherwise: it was none, and `broken` is to come."""

    def straight(self, fd: int) -> None:
        """Send to that socket what comes, past `read_now`, until it does not take all: then, or for
        anything else than bytes, `came` is called as ever. Only while there is nothing to read."""

    def end(self) -> None:
        """As `close_write`, which does not wait either."""

    def close(self) -> None:
        """As `aclose`."""


class Peer(Protocol):
    """The other half of the same feature. A lost channel ends every wait with ChannelLost."""

    def request(self, message: Any, timeout: float | None = ANSWER_WITHIN) -> asyncio.Future[Any]:
        """Send now, and await the one reply. OSError as raised over there; PeerError; ChannelLost.

        TimeoutError (an OSError, ETIMEDOUT) after `timeout` seconds, whatever was waited for; None
        waits as long as the channel lives, for a handler that may take any time.
        """

    def send(self, message: Any) -> None:
        """Send, without an answer. Messages of one feature keep their order.

        BlockingIOError (EAGAIN) while the other side does not take what was sent before: nothing was
        sent. Say less in its stead, or the same after `drained`.
        """

    async def drained(self) -> None:
        """Wait until there is room again for `send`, half of all there is; at once if there is."""

    async def stream(self, message: Any) -> Stream:
        """Open a stream; the other side's `@handles(type(message))` gets (message, stream)."""

    def stream_now(self, message: Any, alone: bool = True) -> Stream:
        """The same for who cannot await; neither waits. Not alone: it leaves with all else of this turn."""


class Target(Protocol):
    """What an agent half may see of the target."""

    pid: int
    """The target's first process as seen from the agent; 0 for a session without a target."""
    root: int
    """Descriptor (O_PATH) of the target's root directory."""
    uid: int
    gid: int

    def environ(self) -> dict[bytes, bytes]:
        """The target's environment as it was started. PermissionError names the missing right."""

    def hostname(self) -> bytes:
        """The host name the target sees."""

    async def in_network(self, work: Callable[[], T]) -> T:
        """What `work()` returns, run in a thread that is in the target's network namespace.

        `work` may block; sixteen run at once. What it raises is raised here; PermissionError when the
        namespace may not be entered, naming the missing right.
        """


class Guests(Protocol):
    """Whom the program is told it talks to, where a connection to its listener is made on somebody's behalf.

    A guest is known by the address its connection comes from: the door, a socket of this machine that is
    bound and not yet connected. accept, getpeername and getsockname then tell `client` and the address it
    spoke to, where the program's socket is of a family for them. One guest for each port and IP version.
    """

    def add(self, door: Address, client: Address, address: Address) -> None:
        """Before `door` connects. OSError."""

    def remove(self, door: Address) -> None:
        """Once `door` is closed: its port may be another's then. For one that is not known, nothing."""


class _NoGuests:
    def add(self, door: Address, client: Address, address: Address) -> None: ...
    def remove(self, door: Address) -> None: ...


@define
class Launch:
    """What a layer half may change before the program starts.

    argv, environ: the program's, changed in place. directory: this session's private folder, made
    before the first `prepare`, removed at its end. known: verdicts the engine may keep from the
    beginning; None means "always ask", an exception below a tree. notes: lines for the summary.
    has_target: False for a session without a target. probes: of the target's ports, as far as they are known.
    visible(path): call it before something is mounted on `path`, so that it is unmounted even if pymirror is
    killed. connection(number): call it with the kernel's number of a FUSE connection this process serves, so
    that nobody waits for ever then.
    trace(call, verdict): call it for a decision that no call of the engine shows; it is a line of `--trace`.
    forget(call): call it, also while the program runs, when the verdict on a `sendto` does not hold any more,
    or that on a path: the path is asked about each time then, but where the verdict says that it stays.
    guests: whom connections to the program's listeners are from; also while it runs.
    """

    argv: list[str]
    environ: dict[str, str]
    directory: str
    known: list[tuple[Call, Verdict | None]] = field(factory=list)
    notes: list[str] = field(factory=list)
    has_target: bool = True
    probes: tuple[Probe, ...] = ()
    visible: Callable[[str], None] = lambda path: None
    connection: Callable[[int], None] = lambda number: None
    trace: Callable[[Call, Verdict], None] = lambda call, verdict: None
    forget: Callable[[Call], None] = lambda call: None
    guests: Guests = field(factory=_NoGuests)
    _shared: dict[type, Any] = field(factory=dict, init=False)

    def shared(self, cls: type[T]) -> T:
        """This session's one object of `cls`, made without arguments at first use.

        How halves of one package tell each other what they know, in whatever order they start.
        """
        if cls not in self._shared:
            self._shared[cls] = cls()
        return self._shared[cls]  # type: ignore[no-any-return]


@frozen
class Process:
    """The program, running."""

    pid: int


@frozen
class NoConfig:
    """The configuration of a feature that has none."""


class _Half:
    name: ClassVar[str] = ""
    version: ClassVar[int] = 1
    Config: ClassVar[type] = NoConfig

    def __init__(self, config: Any, peer: Peer, log: logging.Logger | None = None) -> None:
        self.config = config
        self.peer = peer
        self.log = log or logging.getLogger(f"pymirror.{self.name}")

    async def aclose(self) -> None:
        """Give everything back. Called once, also when start failed half way."""


class LayerFeature(_Half):
    """A feature's half on the developer's machine.

    before: names of features that are asked after this one about a call that both intercept.
    """

    before: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def wanted(cls, config: Any) -> bool:
        """False when this configuration leaves the feature nothing to do: it is then left out."""
        return True

    @classmethod
    def check(cls, config: Any) -> None:
        """What this feature needs on this machine; SupportError naming what is missing. No change."""

    @classmethod
    def rights(cls, config: Any) -> frozenset[str]:
        """Linux capabilities its agent half needs beside the target, as `core.capability` spells them.

        Asked here because this side decides what the agent may do, before there is one. The agent
        gives up all others before it listens. The default is what reading the target's root takes.
        """
        return frozenset({"SYS_PTRACE"})

    @classmethod
    def lasting(cls, config: Any) -> float:
        """Seconds that what its agent half has begun for others than this session may go on at its end."""
        return 0.0

    async def prepare(self, launch: Launch) -> None:
        """Before the program starts: ask the agent, change argv and environ."""

    async def started(self, process: Process) -> None:
        """The program runs."""

    @classmethod
    def explain(cls, config: Any, call: Call) -> Verdict | None:
        """What would happen to `call`, by the rules of a session: from the configuration, and files of this
        machine where a session reads them; no cluster. None: it is not this feature's."""
        return None

    @classmethod
    def explain_among(cls, config: Any, call: Call, others: Mapping[str, Any]) -> Verdict | None:
        """The same where another feature's configuration counts too; others: all that a session would
        have, by feature name."""
        return cls.explain(config, call)

    @classmethod
    def dumping(cls, config: Any, ports: Sequence[int]) -> tuple[type[LayerFeature], Any] | None:
        """For `pymirror dump`: the half of a session without a program, and its configuration. It prints what
        comes to these ports of the target as `core.dumping.Dumping` says, which is shared. config: this
        feature's, None where it has none. None: it sees no such traffic."""
        return None


class AgentFeature(_Half):
    """A feature's half beside the target."""

    async def start(self, target: Target) -> None:
        """Before the first message. OSError names what is missing."""

    async def drain(self) -> None:
        """The layer is gone, the target is not: return when nothing is left that goes on without the layer.

        Cancelled after the time that the agent has (`LayerFeature.lasting`). Not called when the target
        has ended, or where no feature of the session lasts.
        """


def marked(half: type, mark: str) -> Iterable[tuple[str, Any]]:
    """(method name, what it was marked with), in definition order, inherited ones included."""
    seen: dict[str, Any] = {}
    for cls in reversed(half.__mro__):
        for name, value in vars(cls).items():
            if hasattr(value, mark):
                seen[name] = getattr(value, mark)
            else:
                seen.pop(name, None)
    return seen.items()
